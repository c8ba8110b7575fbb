"""What an application asks, and what it says of answers."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from gyre.api.router.v1 import router_pb2
from gyre.api.types.v1 import types_pb2


@dataclass(frozen=True)
class ToolCall:
    """A call of a function that the model asks for."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Message:
    """One turn. Its role is system, developer, user, assistant, or tool for what a call came to."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


@dataclass(frozen=True)
class Tool:
    """A function that the model may ask for; `parameters` is the JSON Schema of its arguments, an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)


class Wanted(TypedDict, total=False):
    """What may be said of a request beside its messages; what is not said is the router's choice.

    Attributes:
        task: What it is for.
        model: Who is to answer.
        tools: Functions, of which the answer is a call.
        conversation_id: Earlier turns are remembered under it.
        user: On whose behalf, as the application names them.
        temperature: 0 for the likeliest answer, up to 2.
        top_p: Share of the likeliest tokens that are drawn from.
        presence_penalty: From -2 to 2: what a token loses for being there already.
        frequency_penalty: From -2 to 2: what it loses for each time it is.
        max_tokens: Longest answer.
        stop: Texts before which the answer ends, four at most.
        seed: From 0 to 4294967295.
        response_schema: JSON Schema that the answer obeys.
    """

    task: str
    model: str
    tools: Sequence[Tool]
    conversation_id: str
    user: str
    temperature: float
    top_p: float
    presence_penalty: float
    frequency_penalty: float
    max_tokens: int
    stop: Sequence[str]
    seed: int
    response_schema: Mapping[str, Any]


class Said(TypedDict, total=False):
    """What is said of an answer: exactly one of the first four, and more about it.

    Attributes:
        rating: From -1 (useless) to 1 (right).
        edit: The answer as the user changed it.
        correct_answer: The answer that was wanted.
        outcome: What came of it in the business, in the application's words.
        comment: Anything else.
        user: Who says it, as the application names them.
    """

    rating: float
    edit: str
    correct_answer: str
    outcome: str
    comment: str
    user: str


_FEEDBACK = ("rating", "edit", "correct_answer", "outcome")


def request_value(messages: str | Sequence[Message], wanted: Wanted) -> router_pb2.CompleteRequest:
    """Return a request as protobuf. A text stands for one message of the user's.

    Raises:
        ValueError: A value is not of the kind that its field takes.
    """
    said: dict[str, Any] = {**wanted}
    tools: Sequence[Tool] = said.pop("tools", ())
    schema = said.pop("response_schema", None)
    whole = {name: said.pop(name) for name in ("task", "model", "conversation_id", "user") if name in said}
    turns = [Message("user", messages)] if isinstance(messages, str) else messages
    try:
        return router_pb2.CompleteRequest(
            messages=[message_value(turn) for turn in turns],
            tools=[
                types_pb2.Tool(name=tool.name, description=tool.description, parameters_json=_json(tool.parameters))
                for tool in tools
            ],
            sampling=router_pb2.Sampling(response_schema_json="" if schema is None else json.dumps(schema), **said),
            **whole,
        )
    except TypeError as error:
        raise ValueError(str(error)) from error


def feedback_value(request_id: str, said: Said) -> router_pb2.SendFeedbackRequest:
    """Return feedback as protobuf.

    Raises:
        ValueError: Not exactly one thing is said.
    """
    kinds = [kind for kind in _FEEDBACK if kind in said]
    if len(kinds) != 1:
        raise ValueError(f"feedback: wanted exactly one of {', '.join(_FEEDBACK)}, got {len(kinds)}")
    return router_pb2.SendFeedbackRequest(request_id=request_id, **said)


def message_value(message: Message) -> types_pb2.Message:
    """Return a turn as protobuf."""
    return types_pb2.Message(
        role=message.role,
        content=message.content,
        tool_calls=[
            types_pb2.ToolCall(id=call.id, name=call.name, arguments_json=json.dumps(call.arguments))
            for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )


def _json(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters) if parameters else ""
