"""The seven services: whether each says that it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedded.settings import SERVICES
from gyre.doctor.checks import Check, Finding, error
from gyre.doctor.installation import Installation
from services.runtime import edges
from services.runtime.rpc import channel

SECONDS = 3.0
# What a service waits for before it says that it serves.
_NEEDS = {
    "audit": ("clickhouse",),
    "triage": ("bundle",),
    "serving": ("triton",),
    "router": ("governance", "context", "serving"),
}


def _probe(service: str) -> Callable[[Installation], Any]:
    async def probe(at: Installation) -> str | None:
        if service not in at.services or (at.tls is not None and not _answers_operators(service)):
            return None
        async with channel(at.services[service], at.tls) as to:
            stub: Any = health_pb2_grpc.HealthStub(to)  # its types lack the method
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=SECONDS)
            except AioRpcError as failure:
                return failure.code().name
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    return probe


def _answers_operators(service: str) -> bool:
    return edges.is_public(service, "grpc") or edges.OPERATOR in edges.callers(service, "grpc")


def judge_service(service: str) -> Callable[[Installation, str], Iterator[Finding]]:
    """Return what judges a service by the status that its health says, or the code of its failure."""

    def judge(at: Installation, status: str) -> Iterator[Finding]:
        if status == "SERVING":
            return
        where = at.services[service]
        logs = f"gyre logs {service}" if at.is_embedded else f"docker compose logs {service}, or kubectl logs"
        if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED"):
            yield error(
                f"{service} at {where} does not answer.",
                f"Start it, or say where it is (GYRE_{service.upper()}_TARGET); why it ended: {logs}.",
            )
        else:
            yield error(
                f"{service} at {where} runs, and says {status}: it is not ready for calls.",
                f"Its log says what it waits for: {logs}.",
            )

    return judge


CHECKS = [
    Check(
        service,
        f"{service} serves",
        _probe(service),
        judge_service(service),
        after=("kafka", "topics", *_NEEDS.get(service, ())),
    )
    for service in SERVICES
]
