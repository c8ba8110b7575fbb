"""The texts of a request on their way to governance and back."""

from collections.abc import Sequence

import msgspec

from schemas.events import Message, Tool
from services.router.domain.request import check_parameters, numbered_texts


def texts_of(messages: Sequence[Message], tools: Sequence[Tool]) -> list[str]:
    """Return every text that a model could see, in order."""
    return [text for _, text in numbered_texts(messages, tools)]


def with_texts(
    messages: Sequence[Message], tools: Sequence[Tool], texts: Sequence[str]
) -> tuple[tuple[Message, ...], tuple[Tool, ...]]:
    """Return messages and tools with the texts that governance answered for `texts_of` them.

    Raises:
        InvalidField: A mask in a tool's parameters left no JSON Schema.
        ValueError: There are more or fewer texts than were asked about.
    """
    places = [place for place, _ in numbered_texts(messages, tools)]
    masked = dict(zip(places, texts, strict=True))
    return (
        tuple(_message(message, i, masked) for i, message in enumerate(messages)),
        tuple(_tool(tool, i, masked) for i, tool in enumerate(tools)),
    )


def without_texts(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Return messages of which only the roles are left: what may be recorded of text that nobody has masked."""
    return tuple(Message(role=message.role) for message in messages)


def _message(message: Message, i: int, masked: dict[tuple[str, int, int], str]) -> Message:
    calls = tuple(
        msgspec.structs.replace(call, arguments=_still_json(masked.get(("call", i, j), call.arguments)))
        for j, call in enumerate(message.tool_calls)
    )
    return msgspec.structs.replace(message, content=masked.get(("message", i, 0), ""), tool_calls=calls)


def _tool(tool: Tool, i: int, masked: dict[tuple[str, int, int], str]) -> Tool:
    parameters = masked.get(("parameters", i, 0), "")
    if parameters != tool.parameters:
        check_parameters(parameters, f"tools[{i}].parameters")
    return msgspec.structs.replace(tool, description=masked.get(("description", i, 0), ""), parameters=parameters)


def _still_json(arguments: str) -> str:
    """A mask over a JSON number leaves no JSON; such arguments are shown as one string."""
    try:
        msgspec.json.decode(arguments)
    except msgspec.DecodeError:
        return msgspec.json.encode(arguments).decode()
    return arguments
