"""Services that know their callers by certificates are asked as the operator."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from embedded.ports import free_ports
from gyre.api.governance.v1 import governance_pb2_grpc
from gyre.doctor.installation import Installation
from gyre.doctor.services import CHECKS
from services.audit.settings import Settings as AuditSettings
from services.runtime.rpc import Registration, Server
from services.runtime.settings import ClickHouseSettings, KafkaSettings, ServiceSettings, UpstreamSettings
from tests.certificates import Folders


@pytest.mark.parametrize(("service", "status"), [("audit", "SERVING"), ("governance", None)])
async def test_those_who_answer_operators_are_asked_and_others_are_left_alone(
    tmp_path: Path, service: str, status: str | None
) -> None:
    folders, (port,) = Folders(tmp_path), free_ports(1)
    registration = Registration(
        governance_pb2_grpc.add_GovernanceServicer_to_server,
        governance_pb2_grpc.GovernanceServicer(),
        "gyre.api.governance.v1.Governance",
    )
    settings = ServiceSettings(grpc_port=port, drain_seconds=0)
    server = Server(settings, [registration], service=service, tls=folders.tls(service))
    await server.start()
    await server.set_serving()
    at = Installation(
        kafka=KafkaSettings(),
        clickhouse=ClickHouseSettings(),
        upstreams=UpstreamSettings(),
        audit=AuditSettings(),
        services={service: f"localhost:{port}"},
        tls=folders.tls("operator"),
    )
    (probe,) = (check.probe for check in CHECKS if check.name == service)
    try:
        found: Any = await probe(at)
        assert found == status
        if status:
            assert await probe(replace(at, tls=None)) == "UNAVAILABLE"
    finally:
        await server.stop()
