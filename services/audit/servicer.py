from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from gyre.api.audit.v1 import audit_pb2, audit_pb2_grpc
from services.audit import handlers
from services.audit.erasing import announce, finished
from services.audit.ports import Ledger
from services.audit.signing import Keys
from services.runtime.callers import asker
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings


class AuditServicer(audit_pb2_grpc.AuditServicer):
    """The gRPC edge of audit."""

    def __init__(self, ledger: Ledger, keys: Keys, kafka: KafkaSettings, clock: Clock) -> None:
        self._ledger = ledger
        self._keys = keys
        self._kafka = kafka
        self._clock = clock

    async def Verify(self, request: audit_pb2.VerifyRequest, context: Any) -> audit_pb2.VerifyResponse:  # noqa: N802 - gRPC's name
        """Recompute the hash chain of a topic partition."""
        verdict = await handlers.verify(self._ledger, self._keys, request.topic, request.partition)
        return audit_pb2.VerifyResponse(
            intact=verdict.first_bad_offset is None,
            rows=verdict.rows,
            signed_rows=verdict.signed_rows,
            first_bad_offset=verdict.first_bad_offset,
            reason=verdict.reason,
            head_hash=verdict.head_hash.hex(),
        )

    async def Trace(self, request: audit_pb2.TraceRequest, context: Any) -> audit_pb2.TraceResponse:  # noqa: N802 - gRPC's name
        """Return the lineage of one request or label."""
        response = audit_pb2.TraceResponse()
        for step in await handlers.trace(self._ledger, request.id):
            at = Timestamp()
            at.FromDatetime(step.at)
            response.steps.add(
                direction=step.direction, kind=step.kind, id=step.id, at=at, summary=step.summary, hash=step.hash
            )
        return response

    async def Prove(self, request: audit_pb2.ProveRequest, context: Any) -> audit_pb2.ProveResponse:  # noqa: N802 - gRPC's name
        """Prove that the rows of a request or a candidate are part of the record."""
        proof = await handlers.prove(self._ledger, request.request_id)
        return audit_pb2.ProveResponse(proof_json=proof.json())

    async def Erase(self, request: audit_pb2.EraseRequest, context: Any) -> audit_pb2.EraseResponse:  # noqa: N802 - gRPC's name
        """Erase what is on record of a person, and answer when it is gone."""
        async with Producer(self._kafka) as producer:
            asked_by = asker(request.asked_by, context)
            erased = await announce(self._ledger, producer, self._clock, request.tenant, request.subject, asked_by)
        await finished(self._ledger, erased)
        return audit_pb2.EraseResponse(
            erasure_id=erased.erasure_id,
            requests=erased.requests,
            rows=erased.rows,
            dataset_ids=erased.dataset_ids,
            candidate_ids=erased.candidate_ids,
        )
