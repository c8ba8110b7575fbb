"""gRPC edge: the Review service."""

from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gyre.api.triage.v1 import review_pb2 as pb
from gyre.api.triage.v1 import review_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import EdgeCase, Tool
from services.runtime.wire import message_value, sensitivity_value
from services.triage.desk import Desk
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement

_OUTCOMES = {
    pb.OUTCOME_CONFIRMED: CONFIRMED,
    pb.OUTCOME_CORRECTED: CORRECTED,
    pb.OUTCOME_UNSAFE: UNSAFE,
}


class Review(review_pb2_grpc.ReviewServicer):
    """Gives items to experts, and takes their judgements."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def Claim(self, request: pb.ClaimRequest, context: Any) -> pb.ClaimResponse:  # noqa: N802 - as in the proto
        """Lease the most valuable open item."""
        claimed = self._desk.claim(request.expert, tenant=request.tenant, task=request.task)
        return pb.ClaimResponse(
            item=_item(claimed.item), lease=claimed.token, lease_expires_at=_timestamp(claimed.expires_at)
        )

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:  # noqa: N802 - as in the proto
        """Write a label; it is acknowledged by Kafka before this answers."""
        judgement = Judgement(
            outcome=_OUTCOMES[request.outcome],
            answer=request.answer,
            comment=request.comment,
            seconds_spent=request.seconds_spent,
            rating=request.rating if request.HasField("rating") else None,
        )
        return pb.SubmitResponse(label_id=await self._desk.submit(request.lease, judgement))

    async def Skip(self, request: pb.SkipRequest, context: Any) -> pb.SkipResponse:  # noqa: N802 - as in the proto
        """Say that an item is not worth a label."""
        await self._desk.skip(request.lease, request.reason)
        return pb.SkipResponse()

    async def Extend(self, request: pb.ExtendRequest, context: Any) -> pb.ExtendResponse:  # noqa: N802 - as in the proto
        """Begin a lease anew."""
        extended = self._desk.extend(request.lease)
        return pb.ExtendResponse(lease=extended.token, lease_expires_at=_timestamp(extended.expires_at))

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:  # noqa: N802 - as in the proto
        """Hand an item back."""
        self._desk.release(request.lease)
        return pb.ReleaseResponse()

    async def Stats(self, request: pb.StatsRequest, context: Any) -> pb.StatsResponse:  # noqa: N802 - as in the proto
        """Count."""
        return pb.StatsResponse(
            queues=[
                pb.QueueStats(
                    tenant=each.tenant,
                    task=each.task,
                    seen=each.seen,
                    flagged=each.flagged,
                    open=each.open,
                    leased=each.leased,
                    labelled=each.labelled,
                    skipped=each.skipped,
                )
                for each in self._desk.stats()
            ]
        )


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _item(edge_case: EdgeCase) -> pb.Item:
    return pb.Item(
        request_id=edge_case.request_id,
        tenant=edge_case.tenant,
        task=edge_case.task,
        messages=[message_value(message) for message in edge_case.messages],
        tools=[_tool(tool) for tool in edge_case.tools],
        answer=edge_case.answer,
        model=edge_case.model,
        signals=[
            pb.Signal(name=signal.name, value=signal.value, explanation=signal.explanation)
            for signal in edge_case.signals
        ],
        score=edge_case.score,
        sensitivity=sensitivity_value(edge_case.sensitivity),
    )


def _tool(tool: Tool) -> types_pb2.Tool:
    return types_pb2.Tool(name=tool.name, description=tool.description, parameters_json=tool.parameters)
