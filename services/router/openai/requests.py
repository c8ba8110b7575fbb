"""What applications ask of the OpenAI edge. What is not known or cannot be honoured is refused by name."""

import re
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta, Struct

from schemas.events import Message, Tool, ToolCall
from services.router.domain.errors import InvalidField
from services.router.domain.request import MAX_SEED, Feedback, Request, Sampling

S = TypeVar("S", bound=Struct)

MAX_NAME = 128

Name = Annotated[str, Meta(max_length=MAX_NAME)]
User = Annotated[str, Meta(max_length=256)]
Text = Annotated[str, Meta(max_length=262144)]
# Unlike JSON Schema's, Python's $ also stands before a line feed at the end.
FunctionName = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*\Z",
        extra_json_schema={"pattern": "^[A-Za-z_][A-Za-z0-9_.-]*$"},
    ),
]
MAX_CHOICES = 4
StopText = Annotated[str, Meta(min_length=1, max_length=64)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


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
    # openai's SDK adds its own reading of `content`, and sends that back too.
    parsed: Any = None


class _OfferedFunction(_Strict, frozen=True):
    name: FunctionName
    description: Annotated[str, Meta(max_length=16384)] | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class _Tool(_Strict, frozen=True):
    type: Literal["function"]
    function: _OfferedFunction


class _NamedFunction(_Strict, frozen=True):
    name: FunctionName


class _NamedTool(_Strict, frozen=True):
    type: Literal["function"]
    function: _NamedFunction


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
    tool_choice: Literal["auto", "none", "required"] | _NamedTool | None = None
    parallel_tool_calls: bool | None = None  # an answer holds one call at most, which either value allows
    response_format: _TextFormat | _JsonObjectFormat | _JsonSchemaFormat | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=8192)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1, le=8192)] | None = None
    stop: StopText | Annotated[list[StopText], Meta(max_length=4)] | None = None
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    user: User | None = None
    metadata: _Metadata | None = None
    logprobs: bool | None = None
    # Only as they are when nobody sets them.
    top_logprobs: Annotated[int, Meta(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=0)] | None = None
    store: Annotated[bool, Meta(extra_json_schema={"const": False})] | None = None
    service_tier: Literal["auto", "default"] | None = None
    reasoning_effort: Literal["none"] | None = None
    verbosity: Literal["medium"] | None = None
    modalities: Annotated[list[Literal["text"]], Meta(min_length=1, max_length=1)] | None = None

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


# What the router calls a field, and where it is in a body.
_BODY_FIELDS = [
    (re.compile(r"^response_schema\b"), "response_format.json_schema.schema"),
    (re.compile(r"^(tools\[\d+\]|messages\[\d+\]\.tool_calls\[\d+\])\."), r"\1.function."),
]
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
        InvalidField: Fields contradict one another, or ask for what there is not.
    """
    metadata = chat.metadata or _Metadata()
    if metadata.task and header_task and metadata.task != header_task:
        raise InvalidField("metadata.task", f"{metadata.task!r}, and the header x-gyre-task says {header_task!r}")
    if chat.store:
        raise InvalidField("store", "what is kept of an answer is not the request's to say; wanted false")
    if (chat.n or 1) > 1:
        _check_choices(chat, metadata)
    stop = (chat.stop,) if isinstance(chat.stop, str) else tuple(chat.stop or ())
    return Request(
        messages=tuple(_message(message) for message in chat.messages),
        task=metadata.task or header_task,
        model=chat.model,
        tools=_tools(chat),
        sampling=Sampling(
            temperature=chat.temperature or 0.0,
            max_tokens=chat.max_completion_tokens or chat.max_tokens or 0,
            stop=stop,
            seed=chat.seed,
            top_p=1.0 if chat.top_p is None else chat.top_p,
            presence_penalty=chat.presence_penalty or 0.0,
            frequency_penalty=chat.frequency_penalty or 0.0,
            response_schema=_response_schema(chat.response_format),
            logprobs=bool(chat.logprobs),
        ),
        conversation_id=metadata.conversation_id,
        user=chat.user or "",
    )


def choices(request: Request, number: int) -> list[Request]:
    """Return a request for each choice that is wanted of one: alike, but that a seed is another for each."""
    seed = request.sampling.seed
    if seed is None:
        return [request] * number
    seeds = ((seed + index) % (MAX_SEED + 1) for index in range(number))
    return [replace(request, sampling=replace(request.sampling, seed=seed)) for seed in seeds]


def body_field(field: str) -> str:
    """Return a field of a request in the words of this edge: it is named in an error."""
    for ours, theirs in _BODY_FIELDS:
        field = ours.sub(theirs, field)
    return field


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


def _tools(chat: ChatRequest) -> tuple[Tool, ...]:
    """Return the functions that are offered: all, none, or the one that must be called."""
    tools, choice = tuple(_tool(tool) for tool in chat.tools or ()), chat.tool_choice
    if choice == "none":
        return ()
    if choice == "required" and not tools:
        raise InvalidField("tool_choice", "required, and no tools are offered; wanted some")
    if isinstance(choice, _NamedTool):
        named = tuple(tool for tool in tools if tool.name == choice.function.name)
        if not named:
            raise InvalidField("tool_choice.function.name", f"{choice.function.name!r} is not among the tools")
        return named
    return tools


def _check_choices(chat: ChatRequest, metadata: _Metadata) -> None:
    if chat.stream:
        raise InvalidField("n", "a stream has one choice; wanted 1")
    if metadata.conversation_id:
        raise InvalidField("n", "a conversation remembers one answer; wanted 1 with metadata.conversation_id")


def _response_schema(wanted: _TextFormat | _JsonObjectFormat | _JsonSchemaFormat | None) -> str:
    if isinstance(wanted, _JsonSchemaFormat):
        return msgspec.json.encode(wanted.json_schema.schema).decode()
    return '{"type":"object"}' if isinstance(wanted, _JsonObjectFormat) else ""
