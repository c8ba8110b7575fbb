"""What a model is shown for a request, and what it gives back.

The router asks with these, the trainer trains and gates with them: one wording, or a specialist would be asked
something other than it learned.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from schemas.bundle import TRITON
from schemas.events import Message, Tool

ChatMessage = dict[str, str]  # role and content, as chat templates take them

DESCRIPTION_CHARACTERS = 80
ENUM_VALUES = 6
# Names that published function documents use beside JSON Schema's own.
_TYPE_ALIASES = {"dict": "object", "float": "number", "double": "number", "tuple": "array", "list": "array",
                 "int": "integer", "bool": "boolean", "str": "string"}  # fmt: skip
_TYPES = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


@dataclass(frozen=True)
class Prompt:
    """What a model is asked.

    Attributes:
        model: As its upstream names it.
        version: Of the model; empty: Triton's choice.
        messages: The chat.
        sampling: As the model takes it: temperature, max_tokens, stop, seed, response_format, and where they are not
            neutral, top_p, presence_penalty, frequency_penalty, logprobs.
        upstream: Where it runs, as the bundle names it.
        url: Of an upstream that speaks the OpenAI protocol; None: Triton.
    """

    model: str
    version: str
    messages: list[ChatMessage]
    sampling: dict[str, Any]
    upstream: str = TRITON
    url: str | None = None


class Token(msgspec.Struct, frozen=True):
    """A token of an answer as OpenAI's protocol tells it.

    Attributes:
        token: Its text.
        logprob: Its log-probability, a natural logarithm.
        bytes: The text's own, which may be a part of a character; None: as the text says.
    """

    token: str
    logprob: float
    bytes: tuple[Annotated[int, msgspec.Meta(ge=0, le=255)], ...] | None = None


class Generated(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer ended (stop, length or cancelled) and what it took.

    Log-probabilities are natural logarithms; None where the upstream does not tell them. Tokens are there if the
    sampling's `logprobs` asks for them.
    """

    model_version: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    sum_logprob: float | None
    mean_logprob: float | None
    min_logprob: float | None
    name_logprob: float | None = None  # of a call up to its arguments: of which function it is
    tokens: tuple[Token, ...] = ()


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


def offered_schema(tools: Sequence[Tool], function_call: bool) -> str:
    """Return the JSON Schema that an answer is held to: a call of one of the functions that the request offers.

    Empty where the task wants text, or the request offers no function.
    """
    if not (function_call and tools):
        return ""
    calls = [call_schema(tool.name, decodable_schema(json.loads(tool.parameters or "{}"))) for tool in tools]
    return json.dumps({"anyOf": calls})


def call_schema(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a call of one function."""
    return {
        "type": "object",
        "properties": {"name": {"const": name}, "arguments": arguments or {"type": "object"}},
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }


def decodable_schema(node: Any) -> dict[str, Any]:
    """Return one node of a function's parameters as the part of JSON Schema that constrained decoders understand."""
    if not isinstance(node, Mapping):
        return {}
    if "enum" in node:
        return {"enum": list(node["enum"])}
    kind = node.get("type")
    kind = _TYPE_ALIASES.get(kind, kind) if isinstance(kind, str) else None
    schema: dict[str, Any] = {"type": kind} if kind in _TYPES else {}
    if kind == "object" and node.get("properties"):
        properties = {name: decodable_schema(child) for name, child in node["properties"].items()}
        required = [name for name in properties if name in node.get("required", ())]
        optional = [name for name in properties if name not in required]
        schema["properties"] = {name: properties[name] for name in (*required, *optional)}
        schema["required"] = required
        schema["additionalProperties"] = False
    if kind == "array" and "items" in node:
        schema["items"] = decodable_schema(node["items"])
    return schema


def specialist_messages(prompt: str, messages: Sequence[Message]) -> list[ChatMessage]:
    """Return the chat for a specialist: its own prompt, then the request's turns, as it was taught.

    The application's system messages and function documents are left out: what they say, it has learned.
    """
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
        values = [str(value) for value in schema["enum"]]
        return "|".join(values if len(values) <= ENUM_VALUES else [*values[:ENUM_VALUES], "..."])
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
