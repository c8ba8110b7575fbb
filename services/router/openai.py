"""OpenAI's chat completions in the router's words and back. Pure: bytes and values, no HTTP.

What the router cannot honour is refused by name instead of being passed over, but for fields at their neutral value.
Field by field: https://platform.openai.com/docs/api-reference/chat.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from schemas.events import Message, Tool, ToolCall
from services.router.domain.errors import InvalidField
from services.router.domain.request import MAX_SEED, Feedback, Request, Sampling
from services.router.journal import Completion

S = TypeVar("S", bound=Struct)

Name = Annotated[str, Meta(max_length=128)]
User = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=262144)]
FunctionName = Annotated[str, Meta(max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\Z")]
StopText = Annotated[str, Meta(min_length=1, max_length=64)]
NeutralZero = Annotated[float, Meta(ge=0, le=0)]
NeutralOne = Annotated[float, Meta(ge=1, le=1)]


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """What is not known is an error."""


class _Part(_Strict, frozen=True):
    type: Literal["text"]
    text: Text


class _CalledFunction(_Strict, frozen=True):
    name: FunctionName
    arguments: Annotated[str, Meta(max_length=65536)] = "{}"


class _ToolCall(_Strict, frozen=True):
    id: Annotated[str, Meta(max_length=256)]
    function: _CalledFunction
    type: Literal["function"] = "function"


class _Message(_Strict, frozen=True):
    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | Annotated[list[_Part], Meta(max_length=64)] | None = None
    tool_calls: Annotated[list[_ToolCall], Meta(max_length=64)] | None = None
    tool_call_id: Annotated[str, Meta(max_length=256)] | None = None
    # Empty in answers of other servers that clients send back.
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[None], Meta(max_length=0)] | None = None


class _OfferedFunction(_Strict, frozen=True):
    name: FunctionName
    description: Annotated[str, Meta(max_length=16384)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(_Strict, frozen=True):
    type: Literal["function"]
    function: _OfferedFunction


class _JsonSchema(_Strict, frozen=True):
    name: Name
    schema: dict[str, Any]
    description: Text | None = None
    strict: bool | None = None


class _TextFormat(_Strict, frozen=True, tag_field="type", tag="text"):
    pass


class _JsonObjectFormat(_Strict, frozen=True, tag_field="type", tag="json_object"):
    pass


class _JsonSchemaFormat(_Strict, frozen=True, tag_field="type", tag="json_schema"):
    json_schema: _JsonSchema


class _StreamOptions(_Strict, frozen=True):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class _Metadata(_Strict, frozen=True):
    task: Name = ""
    conversation_id: Name = ""


class ChatRequest(_Strict, frozen=True):
    """Body of `POST /v1/chat/completions`."""

    model: Name
    messages: Annotated[list[_Message], Meta(min_length=1, max_length=256)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    tools: Annotated[list[_Tool], Meta(max_length=128)] | None = None
    tool_choice: Literal["auto", "none"] | None = None
    parallel_tool_calls: bool | None = None  # an answer holds one call at most, which either value allows
    response_format: _TextFormat | _JsonObjectFormat | _JsonSchemaFormat | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=8192)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=8192)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=4)] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] | None = None
    user: User | None = None
    metadata: _Metadata | None = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    top_p: NeutralOne | None = None
    frequency_penalty: NeutralZero | None = None
    presence_penalty: NeutralZero | None = None

    @property
    def includes_usage(self) -> bool:
        """Whether a stream ends with what it took."""
        return self.stream_options is not None and self.stream_options.include_usage


class FeedbackRequest(_Strict, frozen=True):
    """Body of `POST /v1/feedback`: one of rating, edit, correct_answer, outcome."""

    request_id: UUID
    rating: Annotated[float, Meta(ge=-1, le=1)] | None = None
    edit: Annotated[str, Meta(min_length=1, max_length=262144)] | None = None
    correct_answer: Annotated[str, Meta(min_length=1, max_length=262144)] | None = None
    outcome: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    comment: Annotated[str, Meta(max_length=4096)] = ""
    user: User = ""


_PLACE = re.compile(r" - at `(?:key in )?\$\.?(?P<place>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|required) field `(?P<field>[^`]*)`")


def decode(body: bytes, kind: type[S]) -> S:
    """Return a body as its type.

    Raises:
        InvalidField: It is not; the error names the field, or `body` when it is no JSON.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message = str(error)
        place, field = _PLACE.search(message), _FIELD.search(message)
        named = [match[1] for match in (place, field) if match and match[1]]
        raise InvalidField(".".join(named) or "body", _PLACE.sub("", message)) from error
    except UnicodeDecodeError as error:
        raise InvalidField("body", "is no valid UTF-8") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidField("body", f"is no valid JSON: {error}") from error


def request_of(chat: ChatRequest, header_task: str) -> Request:
    """Return what is asked. The task is the body's, or else the header's.

    Raises:
        InvalidField: The body and the header name different tasks.
    """
    metadata = chat.metadata or _Metadata()
    if metadata.task and header_task and metadata.task != header_task:
        raise InvalidField("metadata.task", f"{metadata.task!r}, and the header x-gyre-task says {header_task!r}")
    tools = () if chat.tool_choice == "none" else tuple(_tool(tool) for tool in chat.tools or ())
    stop = (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop or ())
    return Request(
        messages=tuple(_message(message) for message in chat.messages),
        task=metadata.task or header_task,
        model=chat.model,
        tools=tools,
        sampling=Sampling(
            temperature=chat.temperature or 0.0,
            max_tokens=chat.max_completion_tokens or chat.max_tokens or 0,
            stop=stop,
            seed=chat.seed,
            response_schema=_response_schema(chat.response_format),
        ),
        conversation_id=metadata.conversation_id,
        user=chat.user or "",
    )


def feedback_of(body: FeedbackRequest) -> Feedback:
    """Return what is said of an answer.

    Raises:
        InvalidField: Not exactly one thing is said.
    """
    kinds = ("rating", "edit", "correct_answer", "outcome")
    said = {kind: getattr(body, kind) for kind in kinds if getattr(body, kind) is not None}
    if len(said) != 1:
        raise InvalidField("feedback", f"exactly one of {', '.join(kinds)} must be set, {len(said)} are")
    ((kind, value),) = said.items()
    return Feedback.of(str(body.request_id), kind, value, body.comment, body.user)


def _message(message: _Message) -> Message:
    content = message.content or ""
    return Message(
        role=message.role,
        content=content if isinstance(content, str) else "\n".join(part.text for part in content),
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments or "{}")
            for call in message.tool_calls or ()
        ),
        tool_call_id=message.tool_call_id or "",
    )


def _tool(tool: _Tool) -> Tool:
    function = tool.function
    parameters = "" if function.parameters is None else msgspec.json.encode(function.parameters).decode()
    return Tool(name=function.name, description=function.description or "", parameters=parameters)


def _response_schema(wanted: _TextFormat | _JsonObjectFormat | _JsonSchemaFormat | None) -> str:
    if isinstance(wanted, _JsonSchemaFormat):
        return msgspec.json.encode(wanted.json_schema.schema).decode()
    return '{"type":"object"}' if isinstance(wanted, _JsonObjectFormat) else ""


def completion_body(completion: Completion, created: int) -> bytes:
    """Return the body of a plain answer; `created` is in seconds of Unix time."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.message.content or None}
    if completion.message.tool_calls:
        message["tool_calls"] = _tool_calls(completion)
    return msgspec.json.encode(
        {
            "id": completion.request_id,
            "object": "chat.completion",
            "created": created,
            "model": completion.model,
            "system_fingerprint": completion.bundle_version,
            "choices": [{"index": 0, "message": message, "finish_reason": completion.finish_reason, "logprobs": None}],
            "usage": _usage(completion),
            "gyre": _decided(completion),
        }
    )


class Chunks:
    """The server-sent events of one streamed answer."""

    def __init__(self, request_id: str, model: str, created: int, includes_usage: bool) -> None:
        self._head = {"id": request_id, "object": "chat.completion.chunk", "created": created}
        self._model = model  # as it was asked for, until it is known who answers
        self._includes_usage = includes_usage
        self._has_begun = False

    def text(self, delta: str) -> bytes:
        """Return the event of a piece of text."""
        return self._event([self._choice({"content": delta})])

    def last(self, completion: Completion) -> bytes:
        """Return the events that end the stream."""
        self._model = completion.model
        calls = completion.message.tool_calls
        delta = {"tool_calls": [{"index": i, **call} for i, call in enumerate(_tool_calls(completion))]}
        events = [self._event([self._choice(delta)])] if calls else []
        if not self._has_begun:
            events.append(self._event([self._choice({"content": ""})]))
        events.append(self._event([self._choice({}, completion.finish_reason)], gyre=_decided(completion)))
        if self._includes_usage:
            events.append(self._event([], usage=_usage(completion)))
        return b"".join([*events, b"data: [DONE]\n\n"])

    def _choice(self, delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
        if not self._has_begun:
            delta = {"role": "assistant", **delta}
            self._has_begun = True
        return {"index": 0, "delta": delta, "finish_reason": finish_reason, "logprobs": None}

    def _event(self, choices: Sequence[dict[str, Any]], **more: Any) -> bytes:
        if self._includes_usage:
            more.setdefault("usage", None)
        return event({**self._head, "model": self._model, "choices": choices, **more})


def event(value: dict[str, Any]) -> bytes:
    """Return a value as one server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def error_of(message: str, kind: str, code: str, field: str | None) -> dict[str, Any]:
    """Return an error as OpenAI's clients read it."""
    return {"error": {"message": message, "type": kind, "param": field, "code": code}}


def models_body(names: Sequence[str]) -> bytes:
    """Return the body of a list of models."""
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "gyre"} for name in names]
    return msgspec.json.encode({"object": "list", "data": listed})


def _tool_calls(completion: Completion) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in completion.message.tool_calls
    ]


def _usage(completion: Completion) -> dict[str, int]:
    return {
        "prompt_tokens": completion.prompt_tokens,
        "completion_tokens": completion.completion_tokens,
        "total_tokens": completion.prompt_tokens + completion.completion_tokens,
    }


def _decided(completion: Completion) -> dict[str, Any]:
    return {
        "task": completion.task,
        "tier": completion.tier,
        "model_version": completion.model_version,
        "sensitivity": completion.sensitivity,
        "document_ids": completion.document_ids,
        "context_available": completion.context_available,
    }
