"""gRPC edge: the Review service. Who calls shows an account's token: `authorization: Bearer <token>`."""

from datetime import datetime
from typing import Any
from urllib.parse import unquote

from google.protobuf.timestamp_pb2 import Timestamp

from gyre.api.triage.v1 import review_pb2 as pb
from gyre.api.triage.v1 import review_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import EdgeCase, Tool
from services.runtime.authorization import bearer_key, metadata
from services.runtime.wire import message_value, sensitivity_value
from services.triage.desk import Desk
from services.triage.domain.access import Person, is_this_machine
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement
from services.triage.identity import Identity

_OUTCOMES = {
    pb.OUTCOME_CONFIRMED: CONFIRMED,
    pb.OUTCOME_CORRECTED: CORRECTED,
    pb.OUTCOME_UNSAFE: UNSAFE,
}


class Review(review_pb2_grpc.ReviewServicer):
    """Gives items to experts, and takes their judgements."""

    def __init__(self, desk: Desk, identity: Identity) -> None:
        self._desk = desk
        self._identity = identity

    async def Claim(self, request: pb.ClaimRequest, context: Any) -> pb.ClaimResponse:  # noqa: N802 - as in the proto
        """Lease the most valuable open item."""
        claimed = await self._desk.claim(
            self._caller(context), tenant=request.tenant, task=request.task, to_decide=request.to_decide
        )
        return pb.ClaimResponse(
            item=_item(claimed.item, claimed.repeats),
            lease=claimed.token,
            lease_expires_at=_timestamp(claimed.expires_at),
            guideline=claimed.guideline,
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
        return pb.SubmitResponse(label_id=await self._desk.submit(self._caller(context), request.lease, judgement))

    async def Skip(self, request: pb.SkipRequest, context: Any) -> pb.SkipResponse:  # noqa: N802 - as in the proto
        """Say that an item is not worth a label."""
        await self._desk.skip(self._caller(context), request.lease, request.reason)
        return pb.SkipResponse()

    async def Extend(self, request: pb.ExtendRequest, context: Any) -> pb.ExtendResponse:  # noqa: N802 - as in the proto
        """Begin a lease anew."""
        extended = await self._desk.extend(self._caller(context), request.lease)
        return pb.ExtendResponse(lease=extended.token, lease_expires_at=_timestamp(extended.expires_at))

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:  # noqa: N802 - as in the proto
        """Hand an item back."""
        await self._desk.release(self._caller(context), request.lease)
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
                for each in self._desk.stats(self._caller(context))
            ]
        )

    def _caller(self, context: Any) -> Person:
        shown = metadata(context, "authorization")
        address = _address(context.peer())
        token = bearer_key(shown) if shown is not None else None
        return self._identity.caller(token, address, is_local=is_this_machine(address))


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _address(peer: str) -> str:
    """Return the address in what gRPC calls a peer: `ipv4:127.0.0.1:4711`, `ipv6:[::1]:4711`, `unix:...`."""
    kind, _, rest = unquote(peer).partition(":")
    return kind if kind == "unix" else rest.rpartition(":")[0].strip("[]")


def _item(edge_case: EdgeCase, repeats: int) -> pb.Item:
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
        repeats=repeats,
    )


def _tool(tool: Tool) -> types_pb2.Tool:
    return types_pb2.Tool(name=tool.name, description=tool.description, parameters_json=tool.parameters)
