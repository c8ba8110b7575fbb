"""What the router answers."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Unpack

from gyre.api.router.v1 import router_pb2
from gyre.api.types.v1 import types_pb2
from gyre.client.requests import Message, Said, ToolCall


@dataclass(frozen=True)
class Usage:
    """What an answer took, in tokens."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Completion:
    """An answer.

    Attributes:
        request_id: UUIDv7 by which the record has it.
        message: The model's turn; it can be sent back as it is.
        finish_reason: stop, length or tool_calls.
        model: Who answered, with `model_version` and `tier`.
        usage: What it took.
        bundle_version: What the operator had decided by then.
        sensitivity: Of all that the model saw: public, internal, confidential or restricted.
        document_ids: Documents that the model was given.
        context_available: Whether the context service answered in time.
    """

    request_id: str
    message: Message
    finish_reason: str
    model: str
    model_version: str
    tier: str
    usage: Usage
    bundle_version: str
    sensitivity: str
    document_ids: tuple[str, ...]
    context_available: bool

    @property
    def text(self) -> str:
        """The answer's text; empty where it is a call."""
        return self.message.content

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls that the model asks for."""
        return self.message.tool_calls

    def json(self) -> Any:
        """Return the text as the JSON value that it is; for answers to a `response_schema`.

        Raises:
            ValueError: It is none; an answer that was cut (`finish_reason` length) may not be.
        """
        return json.loads(self.text)


@dataclass(frozen=True)
class Answer(Completion):
    """An answer of `Client`."""

    _feedback: Callable[..., str] = field(repr=False, compare=False)

    def feedback(self, **said: Unpack[Said]) -> str:
        """Say how good it was. Returns the feedback's id.

        Raises:
            ValueError: Not exactly one of rating, edit, correct_answer and outcome is said.
            GyreError: It is not on record.
        """
        return self._feedback(self.request_id, **said)


@dataclass(frozen=True)
class AsyncAnswer(Completion):
    """An answer of `AsyncClient`."""

    _feedback: Callable[..., Awaitable[str]] = field(repr=False, compare=False)

    async def feedback(self, **said: Unpack[Said]) -> str:
        """Say how good it was. Returns the feedback's id.

        Raises:
            ValueError: Not exactly one of rating, edit, correct_answer and outcome is said.
            GyreError: It is not on record.
        """
        return await self._feedback(self.request_id, **said)


@dataclass(frozen=True)
class Finding:
    """Something a guardrail found in a text of the request: characters `start` to `end` of text `text_index`."""

    kind: str
    action: str
    text_index: int
    start: int
    end: int


@dataclass(frozen=True)
class Candidate:
    """A model that might answer, and why it would or would not."""

    model: str
    model_version: str
    tier: str
    cleared: bool
    live: bool
    chosen: bool
    reason: str


@dataclass(frozen=True)
class Explanation:
    """What would be decided about a request.

    Attributes:
        task: What it is for, and `task_by` who said so: caller, classifier, unknown or default.
        language: Of what the user said last.
        verdict: Governance's: pass, mask or refuse.
        findings: What guardrails found.
        candidates: The models.
        policies: Cedar policies that decided.
        refusal: Why it would not be answered; empty: it would.
    """

    bundle_version: str
    task: str
    task_by: str
    language: str
    verdict: str
    findings: tuple[Finding, ...]
    sensitivity: str
    candidates: tuple[Candidate, ...]
    policies: tuple[str, ...]
    document_ids: tuple[str, ...]
    context_available: bool
    refusal: str


def answer_fields(value: router_pb2.CompleteResponse) -> dict[str, Any]:
    """Return the fields of a `Completion`."""
    return {
        "request_id": value.request_id,
        "message": _message(value.message),
        "finish_reason": value.finish_reason,
        "model": value.model,
        "model_version": value.model_version,
        "tier": value.tier,
        "usage": Usage(value.usage.prompt_tokens, value.usage.completion_tokens),
        "bundle_version": value.bundle_version,
        "sensitivity": _sensitivity(value.sensitivity),
        "document_ids": tuple(value.document_ids),
        "context_available": value.context_available,
    }


def explanation_of(value: router_pb2.ExplainResponse) -> Explanation:
    """Return what would be decided."""
    return Explanation(
        bundle_version=value.bundle_version,
        task=value.task,
        task_by=value.task_by,
        language=value.language,
        verdict=value.verdict,
        findings=tuple(
            Finding(found.kind, found.action, found.text_index, found.start, found.end) for found in value.findings
        ),
        sensitivity=_sensitivity(value.sensitivity),
        candidates=tuple(
            Candidate(each.model, each.model_version, each.tier, each.cleared, each.live, each.chosen, each.reason)
            for each in value.candidates
        ),
        policies=tuple(value.policies),
        document_ids=tuple(value.document_ids),
        context_available=value.context_available,
        refusal=value.refusal,
    )


def _message(value: types_pb2.Message) -> Message:
    calls = tuple(ToolCall(call.id, call.name, json.loads(call.arguments_json)) for call in value.tool_calls)
    return Message(value.role, value.content, calls, value.tool_call_id)


def _sensitivity(value: types_pb2.Sensitivity.ValueType) -> str:
    return types_pb2.Sensitivity.Name(value).removeprefix("SENSITIVITY_").lower()
