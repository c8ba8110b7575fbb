"""What a page of the console shows of an item."""

import json
from dataclasses import dataclass

from schemas.events import Message, Tool
from services.triage.desk import Claimed


@dataclass(frozen=True)
class Turn:
    """One message of the conversation."""

    role: str
    text: str


@dataclass(frozen=True)
class Argument:
    """One argument of a function."""

    name: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Function:
    """A tool as a person reads it."""

    name: str
    description: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class ItemPage:
    """An item as a person reads it.

    Attributes:
        claimed: The item and its lease.
        claimed_at: Seconds since the epoch.
        expires_at: Seconds since the epoch.
        turns: The conversation.
        functions: The tools.
        answer: The model's answer, indented where it is JSON.
        function_call: Whether a function call is wanted.
    """

    claimed: Claimed
    claimed_at: float
    expires_at: float
    turns: tuple[Turn, ...]
    functions: tuple[Function, ...]
    answer: str
    function_call: bool


def item_page(claimed: Claimed, now: float, *, function_call: bool) -> ItemPage:
    """Return what is shown of an item that was claimed just now."""
    item = claimed.item
    return ItemPage(
        claimed=claimed,
        claimed_at=now,
        expires_at=claimed.expires_at.timestamp(),
        turns=tuple(_turn(message) for message in item.messages),
        functions=tuple(_function(tool) for tool in item.tools),
        answer=item.answer,
        function_call=function_call,
    )


def _turn(message: Message) -> Turn:
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    return Turn(message.role, "\n".join([*([message.content] if message.content else []), *calls]))


def _function(tool: Tool) -> Function:
    try:
        schema = json.loads(tool.parameters or "{}")
    except ValueError:
        schema = {}
    properties = schema.get("properties") if isinstance(schema, dict) else None
    required = schema.get("required") if isinstance(schema, dict) else None
    return Function(
        name=tool.name,
        description=tool.description,
        arguments=tuple(
            _argument(name, known, name in (required if isinstance(required, list) else ()))
            for name, known in (properties.items() if isinstance(properties, dict) else ())
        ),
    )


def _argument(name: str, schema: object, required: bool) -> Argument:
    known = schema if isinstance(schema, dict) else {}
    values = known.get("enum")
    kind = " | ".join(map(str, values)) if isinstance(values, list) else str(known.get("type", "any"))
    return Argument(name, kind, required, str(known.get("description", "")))
