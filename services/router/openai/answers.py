"""What the OpenAI edge answers. Completions are in OpenAI's words; what OpenAI has no word for is in `gyre`."""

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from services.router.journal import Completion, Piece

FinishReason = Annotated[str, Meta(extra_json_schema={"enum": ["stop", "length", "tool_calls", "content_filter"]})]
Tokens = Annotated[int, Meta(ge=0)]


class Function(Struct, frozen=True):
    """The function that is to be run; `arguments` is a JSON object."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    """A call that the application is asked to make."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class Message(Struct, frozen=True):
    """The model's turn."""

    content: str | None = None
    tool_calls: list[ToolCall] | UnsetType = UNSET
    refusal: str | None = None
    role: Literal["assistant"] = "assistant"


class Decided(Struct, frozen=True):
    """The interaction that a choice is: its id, on record and for feedback, and what was decided on the way."""

    request_id: str
    task: str | UnsetType = UNSET
    tier: str | UnsetType = UNSET
    model_version: str | UnsetType = UNSET
    sensitivity: str | UnsetType = UNSET
    document_ids: tuple[str, ...] | UnsetType = UNSET
    context_available: bool | UnsetType = UNSET


class TokenLogprob(Struct, frozen=True):
    """A token of an answer. Those that it was chosen over are not told: nobody has checked them."""

    token: str
    logprob: float
    bytes: tuple[int, ...]
    top_logprobs: tuple[()] = ()


class Logprobs(Struct, frozen=True):
    """The tokens of an answer; of a streamed one they come with its end."""

    content: list[TokenLogprob]
    refusal: None = None


class Choice(Struct, frozen=True):
    """One answer."""

    index: int
    message: Message
    finish_reason: FinishReason
    gyre: Decided
    logprobs: Logprobs | None = None


class Usage(Struct, frozen=True):
    """What it took, all choices together."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens


class ChatCompletion(Struct, frozen=True):
    """Body of a plain answer. `created` is in seconds of Unix time, `system_fingerprint` the bundle's version."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"


class _CallDelta(Struct, frozen=True):
    index: int
    id: str
    function: Function
    type: Literal["function"] = "function"


class _Delta(Struct, frozen=True, omit_defaults=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[_CallDelta] | UnsetType = UNSET


class _ChunkChoice(Struct, frozen=True):
    index: int
    delta: _Delta
    finish_reason: FinishReason | None = None
    logprobs: Logprobs | None = None
    gyre: Decided | UnsetType = UNSET


class Chunk(Struct, frozen=True):
    """Data of one server-sent event of a streamed answer."""

    id: str
    created: int
    model: str
    choices: list[_ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


class Model(Struct, frozen=True):
    """Something that may be written as the model."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "gyre"


class Models(Struct, frozen=True):
    """Body of `GET /v1/models`."""

    data: list[Model]
    object: Literal["list"] = "list"


class FeedbackGiven(Struct, frozen=True):
    """Body of the answer to feedback."""

    feedback_id: str


class Health(Struct, frozen=True):
    """Body of `GET /healthz`."""

    status: Literal["serving"] = "serving"


class Error(Struct, frozen=True):
    """What went wrong; `param` names the field, if it was one."""

    message: str
    type: str
    param: str | None
    code: str


class Failure(Struct, frozen=True):
    """Body of every error."""

    error: Error


def chat_completion(
    request_ids: Sequence[str], ended: Sequence[Completion | BaseException], created: int
) -> ChatCompletion:
    """Return the body of an answer.

    Args:
        request_ids: Of the interactions that its choices are.
        ended: How each ended: at least one with an answer, the others refused.
        created: Seconds of Unix time.
    """
    completions = [each for each in ended if isinstance(each, Completion)]
    return ChatCompletion(
        id=request_ids[0],
        created=created,
        model=completions[0].model,
        system_fingerprint=completions[0].bundle_version,
        choices=[
            _choice(index, each) if isinstance(each, Completion) else _refused(index, request_id, each)
            for index, (request_id, each) in enumerate(zip(request_ids, ended, strict=True))
        ],
        usage=_usage(completions),
    )


class Chunks:
    """The server-sent events of one streamed answer."""

    def __init__(self, request_id: str, created: int, includes_usage: bool) -> None:
        self._request_id = request_id
        self._created = created
        self._includes_usage = includes_usage
        self._has_begun = False

    def of(self, piece: Piece | Completion) -> bytes:
        """Return the events of a piece of the answer, or of its end."""
        if isinstance(piece, Piece):
            return self._event(piece.model, [self._choice(content=piece.text)])
        events = []
        if piece.message.tool_calls:
            calls = [_CallDelta(index, call.id, call.function) for index, call in enumerate(_tool_calls(piece))]
            events.append(self._event(piece.model, [self._choice(tool_calls=calls)]))
        if not self._has_begun:
            events.append(self._event(piece.model, [self._choice(content="")]))
        last = _ChunkChoice(0, _Delta(), piece.finish_reason, _logprobs(piece), gyre=_decided(piece))
        events.append(self._event(piece.model, [last]))
        if self._includes_usage:
            events.append(self._event(piece.model, [], _usage([piece])))
        return b"".join([*events, b"data: [DONE]\n\n"])

    def _choice(
        self, content: str | UnsetType = UNSET, tool_calls: list[_CallDelta] | UnsetType = UNSET
    ) -> _ChunkChoice:
        role: Literal["assistant"] | UnsetType = UNSET if self._has_begun else "assistant"
        self._has_begun = True
        return _ChunkChoice(0, _Delta(role, content, tool_calls))

    def _event(self, model: str, choices: list[_ChunkChoice], usage: Usage | None = None) -> bytes:
        chunk = Chunk(self._request_id, self._created, model, choices, usage=usage if self._includes_usage else UNSET)
        return event(chunk)


def event(value: Struct) -> bytes:
    """Return a value as one server-sent event."""
    return b"data: " + msgspec.json.encode(value) + b"\n\n"


def models(names: Sequence[str]) -> Models:
    """Return the body of a list of models."""
    return Models([Model(name) for name in names])


def _choice(index: int, completion: Completion) -> Choice:
    calls = _tool_calls(completion)
    message = Message(completion.message.content or None, calls or UNSET)
    return Choice(index, message, completion.finish_reason, _decided(completion), _logprobs(completion))


def _refused(index: int, request_id: str, refused: BaseException) -> Choice:
    return Choice(index, Message(refusal=str(refused)), "content_filter", Decided(request_id))


def _tool_calls(completion: Completion) -> list[ToolCall]:
    return [ToolCall(call.id, Function(call.name, call.arguments)) for call in completion.message.tool_calls]


def _logprobs(completion: Completion) -> Logprobs | None:
    if completion.tokens is None:
        return None
    return Logprobs(
        [
            TokenLogprob(each.token, each.logprob, tuple(each.token.encode()) if each.bytes is None else each.bytes)
            for each in completion.tokens
        ]
    )


def _usage(completions: Sequence[Completion]) -> Usage:
    prompt_tokens = sum(completion.prompt_tokens for completion in completions)
    completion_tokens = sum(completion.completion_tokens for completion in completions)
    return Usage(prompt_tokens, completion_tokens, prompt_tokens + completion_tokens)


def _decided(completion: Completion) -> Decided:
    return Decided(
        completion.request_id,
        completion.task,
        completion.tier,
        completion.model_version,
        completion.sensitivity,
        completion.document_ids,
        completion.context_available,
    )
