"""The router's ports made real: governance and context by gRPC, models by Triton, the record by Kafka."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
import msgspec
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import Feedback, Finding, Interaction, Sensitivity
from schemas.topics import Topic
from services.router.domain.answers import Generated, Prompt
from services.router.domain.knowledge import Clearance, InputVerdict, Knowledge, OutputVerdict, Passage, Turn
from services.router.wire import message_of, sensitivity_of, sensitivity_value
from services.runtime import rpc
from services.runtime.errors import InvalidArgument, Retryable
from services.runtime.kafka import Producer

_VERDICTS = {
    governance_pb2.VERDICT_PASS: "pass",
    governance_pb2.VERDICT_MASK: "mask",
    governance_pb2.VERDICT_REFUSE: "refuse",
}
# The fields that only the caller can have got wrong, as the models name them in their errors.
_CALLERS_FIELDS = ("text_input", "sampling_parameters")


class GrpcGovernance:
    """Verdicts from the governance service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = governance_pb2_grpc.GovernanceStub(channel)  # the same stub serves both kinds of channel

    async def check_input(
        self, application: str, task: str, texts: Sequence[str], timeout_seconds: float
    ) -> InputVerdict:
        """Return the verdict on a request's texts."""
        request = governance_pb2.CheckInputRequest(application=application, task=task, texts=texts)
        try:
            response = await self._stub.CheckInput(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "governance") from error
        return InputVerdict(
            verdict=_verdict(response.verdict),
            texts=tuple(response.texts),
            sensitivity=sensitivity_of(response.sensitivity),
            clearances={
                sensitivity_of(each.sensitivity): Clearance(frozenset(each.models), tuple(each.policies))
                for each in response.clearances
            },
            bundle_version=response.bundle_version,
            findings=_findings("input", response.findings),
            policy_us=response.policy_us,
        )

    async def check_output(self, application: str, task: str, text: str, timeout_seconds: float) -> OutputVerdict:
        """Return the verdict on an answer or a part of it."""
        request = governance_pb2.CheckOutputRequest(application=application, task=task, text=text)
        try:
            response = await self._stub.CheckOutput(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "governance") from error
        return OutputVerdict(_verdict(response.verdict), response.text, _findings("output", response.findings))


def _verdict(value: governance_pb2.Verdict.ValueType) -> str:
    try:
        return _VERDICTS[value]
    except KeyError as error:
        raise Retryable(f"governance answered the verdict {value}, which is none") from error


def _findings(direction: str, findings: Sequence[types_pb2.Finding]) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            direction=direction,
            kind=finding.kind,
            action=finding.action,
            text_index=finding.text_index,
            start=finding.start,
            end=finding.end,
        )
        for finding in findings
    )


class GrpcContext:
    """Knowledge from the context service."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = context_pb2_grpc.ContextStub(channel)  # the same stub serves both kinds of channel

    async def stitch(
        self,
        tenant: str,
        task: str,
        query: str,
        conversation_id: str,
        budget_tokens: int,
        max_sensitivity: Sensitivity,
        timeout_seconds: float,
    ) -> Knowledge:
        """Return passages and earlier turns within the budget."""
        request = context_pb2.StitchRequest(
            tenant=tenant,
            task=task,
            query=query,
            conversation_id=conversation_id,
            budget_tokens=budget_tokens,
            max_sensitivity=sensitivity_value(max_sensitivity),
        )
        try:
            response = await self._stub.Stitch(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "context") from error
        return Knowledge(
            passages=tuple(
                Passage(
                    document_id=passage.document_id,
                    title=passage.title,
                    text=passage.text,
                    sensitivity=sensitivity_of(passage.sensitivity),
                    tokens=passage.tokens,
                    score=passage.score,
                )
                for passage in response.passages
            ),
            turns=tuple(
                Turn(message_of(turn.message), sensitivity_of(turn.sensitivity), turn.tokens) for turn in response.turns
            ),
        )


class TritonModels:
    """Answers from Triton: one decoupled stream a request."""

    def __init__(self, url: str) -> None:
        self._client = InferenceServerClient(url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def generate(self, prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        """Yield the answer piece by piece, then how it ended. Closing the generator stops the generation."""
        responses = self._client.stream_infer(_once(_inference(prompt)), stream_timeout=timeout_seconds)
        try:
            async for result, error in responses:
                if error is not None:
                    raise _model_error(prompt.model, error)
                text = _output(result, "text_output")
                if text:
                    yield text
                usage = _output(result, "usage")
                if usage:
                    yield _generated(prompt.model, usage, result.get_response().model_version)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, f"model {prompt.model!r}") from error
        except InferenceServerException as error:
            raise _model_error(prompt.model, error) from error
        finally:
            responses.cancel()


async def _once(inference: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield inference


def _inference(prompt: Prompt) -> dict[str, Any]:
    return {
        "model_name": prompt.model,
        "model_version": prompt.version,
        "inputs": [
            _text("text_input", msgspec.json.encode(prompt.messages)),
            _flag("stream", True),
            _text("sampling_parameters", msgspec.json.encode(prompt.sampling)),
            _flag("exclude_input_in_output", True),
        ],
    }


def _text(name: str, value: bytes) -> InferInput:
    tensor = InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=np.object_))
    return tensor


def _flag(name: str, value: bool) -> InferInput:
    tensor = InferInput(name, [1], "BOOL")
    tensor.set_data_from_numpy(np.array([value], dtype=np.bool_))
    return tensor


def _output(result: Any, name: str) -> str:
    values = result.as_numpy(name)
    return values[0].decode() if values is not None and len(values) else ""


def _generated(model: str, usage: str, model_version: str) -> Generated:
    try:
        return msgspec.convert({**msgspec.json.decode(usage), "model_version": model_version}, Generated)
    except (msgspec.MsgspecError, TypeError) as error:
        raise Retryable(f"model {model!r} did not say what its answer took: {error}") from error


def _model_error(model: str, error: InferenceServerException) -> Exception:
    message = str(error.message())
    if any(field in message for field in _CALLERS_FIELDS):
        return InvalidArgument(f"model {model!r} refuses the request: {message}")
    return Retryable(f"model {model!r} did not answer: {message}")


class KafkaRecorder:
    """The record in Kafka, acknowledged by all in-sync replicas."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def interaction(self, interaction: Interaction) -> None:
        """Write an interaction; on return it is acknowledged."""
        await self._producer.send(Topic.INTERACTIONS, interaction)

    async def feedback(self, feedback: Feedback) -> None:
        """Write feedback; on return it is acknowledged."""
        await self._producer.send(Topic.FEEDBACK, feedback)
