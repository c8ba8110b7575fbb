"""The router's ports made real: governance and context by `runtime.exchange`, the record by Kafka."""

from collections.abc import Sequence

import grpc
import grpc.aio

from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from schemas.events import Feedback, Interaction, Sensitivity, Shadow, Usage
from schemas.topics import Topic
from services.router.domain.answers import Asked
from services.router.domain.knowledge import Clearance, InputVerdict, Knowledge, Mask, OutputVerdict, Passage, Turn
from services.runtime import rpc
from services.runtime.errors import Retryable
from services.runtime.exchange import ExchangeChannel
from services.runtime.kafka import Producer
from services.runtime.wire import findings_of, message_of, sensitivity_of, sensitivity_value

_VERDICTS = {
    governance_pb2.VERDICT_PASS: "pass",
    governance_pb2.VERDICT_MASK: "mask",
    governance_pb2.VERDICT_REFUSE: "refuse",
}


class RemoteGovernance:
    """Verdicts from the governance service."""

    def __init__(self, channel: ExchangeChannel) -> None:
        self._stub = channel.stub(governance_pb2_grpc.GovernanceStub)

    async def check_input(
        self, application: str, task: str, texts: Sequence[str], instructions: Sequence[int], timeout_seconds: float
    ) -> InputVerdict:
        """Return the verdict on a request's texts."""
        request = governance_pb2.CheckInputRequest(
            application=application, task=task, texts=texts, instructions=instructions
        )
        try:
            response = await self._stub.CheckInput(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "governance") from error
        return InputVerdict(
            verdict=_verdict(response.verdict),
            texts=tuple(response.texts),
            sensitivity=sensitivity_of(response.sensitivity),
            clearances={
                sensitivity_of(each.sensitivity): Clearance(
                    frozenset(each.models),
                    tuple(each.policies),
                    {other.model: tuple(other.policies) for other in each.forbidden},
                )
                for each in response.clearances
            },
            bundle_version=response.bundle_version,
            findings=findings_of("input", response.findings),
            policy_us=response.policy_us,
            masks=_masks(response.masks),
        )

    async def check_output(
        self, application: str, task: str, text: str, asked: Asked, timeout_seconds: float
    ) -> OutputVerdict:
        """Return the verdict on an answer or a part of it, given what was asked for."""
        request = governance_pb2.CheckOutputRequest(
            application=application, task=task, text=text, instructions=asked.instructions, schema=asked.schema
        )
        try:
            response = await self._stub.CheckOutput(request, timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "governance") from error
        return OutputVerdict(
            _verdict(response.verdict),
            response.text,
            response.bundle_version,
            findings_of("output", response.findings),
            _masks(response.masks),
        )


def _verdict(value: governance_pb2.Verdict.ValueType) -> str:
    try:
        return _VERDICTS[value]
    except KeyError as error:
        raise Retryable(f"governance answered the verdict {value}, which is none") from error


def _masks(masks: Sequence[governance_pb2.Mask]) -> tuple[Mask, ...]:
    return tuple(Mask(mask.placeholder, mask.value, mask.text) for mask in masks)


class RemoteContext:
    """Knowledge from the context service."""

    def __init__(self, channel: ExchangeChannel) -> None:
        self._stub = channel.stub(context_pb2_grpc.ContextStub)

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
            asked_again=response.asked_again_request_id,
        )


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

    async def shadow(self, shadow: Shadow) -> None:
        """Write what a specialist in the shadow answered; on return it is acknowledged."""
        await self._producer.send(Topic.SHADOWS, shadow)

    async def usage(self, usage: Usage) -> None:
        """Write what an application has used; on return it is acknowledged."""
        await self._producer.send(Topic.USAGE, usage)
