"""What a model is shown for a request.

The router asks with these, the trainer trains and gates with them: one wording, or a specialist would be asked
something other than it learned.
"""

import json
from collections.abc import Sequence
from typing import Any

from schemas.events import Message, Tool

ChatMessage = dict[str, str]  # role and content, as chat templates take them

DESCRIPTION_CHARACTERS = 160


def generic_messages(prompt: str, messages: Sequence[Message], tools: Sequence[Tool]) -> list[ChatMessage]:
    """Return the chat for a generic model: the task's prompt with the function documents in it, then the request.

    Args:
        prompt: The task's `generic_prompt`; `{tools}` in it is replaced.
        messages: The request's own messages.
        tools: The functions that the request offers.
    """
    return [
        _system(prompt.replace("{tools}", "\n".join(signature(tool) for tool in tools)), messages),
        *_turns(messages),
    ]


def specialist_messages(prompt: str, messages: Sequence[Message]) -> list[ChatMessage]:
    """Return the chat for a specialist: its own prompt, then the request, without function documents."""
    return [{"role": "system", "content": prompt}, *_turns(messages)]


def signature(tool: Tool) -> str:
    """Return a function document as one line: `name(argument: type, optional?: type) - what it does`."""
    parameters: dict[str, Any] = json.loads(tool.parameters or "{}")
    required = set(parameters.get("required", ()))
    arguments = ", ".join(
        f"{name}{'' if name in required else '?'}: {_type(schema)}"
        for name, schema in parameters.get("properties", {}).items()
    )
    return f"{tool.name}({arguments}) - {' '.join(tool.description.split())[:DESCRIPTION_CHARACTERS]}"


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return "|".join(str(value) for value in schema["enum"])
    return str(schema.get("type", "any"))


def _system(prompt: str, messages: Sequence[Message]) -> ChatMessage:
    own = [message.content for message in messages if message.role in ("system", "developer")]
    return {"role": "system", "content": "\n\n".join([prompt, *own])}


def _turns(messages: Sequence[Message]) -> list[ChatMessage]:
    turns = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        content = message.content
        if message.tool_calls:
            calls = [{"name": call.name, "arguments": json.loads(call.arguments)} for call in message.tool_calls]
            content = "\n".join([*([content] if content else []), *(json.dumps(call) for call in calls)])
        turns.append({"role": message.role, "content": content})
    return turns
