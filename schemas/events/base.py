"""What the events of several services are made of."""

from enum import StrEnum

import msgspec


class Sensitivity(StrEnum):
    """How far a text may travel. Ordered by `level`; it only ever rises."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"

    @property
    def level(self) -> int:
        """0 for public up to 3 for restricted."""
        return _LEVELS[self]


_LEVELS = {each: level for level, each in enumerate(Sensitivity)}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that is a record of a topic."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A function that a model asked for; `arguments` is a JSON object."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation, as the model saw it (masked)."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model could ask for; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something a guardrail found. It says where, never what."""

    direction: str  # input, output or document
    kind: str
    action: str
    text_index: int = 0
    start: int = 0
    end: int = 0
