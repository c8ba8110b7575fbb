"""A stack of Kafka and ClickHouse for tests that put faults into them, and stand-ins for what else may be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import grpc
import pytest
from aiohttp import web
from aiokafka.admin import AIOKafkaAdminClient
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.doctor.checks import Check, diagnose
from gyre.doctor.everything import CHECKS
from gyre.doctor.installation import Installation
from services.audit.settings import Settings as AuditSettings
from services.runtime.kafka import ensure_topics
from services.runtime.settings import ClickHouseSettings, KafkaSettings, UpstreamSettings


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(Settings(state_dir=tmp_path_factory.mktemp("lab"), ports=stack_ports()))
    stack.start(("kafka", "clickhouse"))
    yield stack
    stack.stop()


@pytest.fixture
async def installation(lab: Stack) -> Installation:
    return await installation_of(lab)


async def installation_of(lab: Stack) -> Installation:
    """The lab as environment variables would name it, with every topic."""
    kafka = KafkaSettings(bootstrap_servers=lab.settings.address("GYRE_EMBEDDED_KAFKA_PORT"), partitions=2)
    await ensure_topics(kafka)
    return Installation(
        kafka=kafka,
        clickhouse=ClickHouseSettings(
            url=f"http://{lab.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
            password=SecretStr(clickhouse_password(lab.settings, "audit")),
        ),
        upstreams=UpstreamSettings(triton_url=""),
        audit=AuditSettings(),
        sample_seconds=1.0,
    )


@pytest.fixture
async def admin(installation: Installation) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=installation.kafka.bootstrap_servers)
    await client.start()
    yield client
    await client.close()


async def delete(admin: AIOKafkaAdminClient, topic: str) -> None:
    await admin.delete_topics([topic])
    while topic in await admin.list_topics():
        await asyncio.sleep(0.05)


async def make(admin: AIOKafkaAdminClient, topic: str, at: Installation) -> None:
    """Make a topic that was deleted, as soon as Kafka has forgotten it."""
    while topic not in await admin.list_topics():
        await ensure_topics(at.kafka)
        await asyncio.sleep(0.05)


def chosen(*names: str) -> list[Check]:
    """The checks that are named, and those that they come after."""
    wanted = set(names)
    for check in reversed(CHECKS):
        if check.name in wanted:
            wanted |= set(check.after)
    return [each for each in CHECKS if each.name in wanted]


async def causes(installation: Installation, *only: str) -> dict[str, list[str]]:
    """What is found, by check: by those named, what they come after included, or by all."""
    results = await diagnose(installation, chosen(*only) if only else CHECKS)
    return {each.check.name: [found.cause for found in each.findings] for each in results if each.findings}


async def remedy(installation: Installation, check: str) -> str:
    """What a check that finds one thing says is to be done."""
    results = await diagnose(installation, chosen(check))
    ((found,),) = [each.findings for each in results if each.check.name == check]
    return found.remedy


Status = health_pb2.HealthCheckResponse


@pytest.fixture
async def service(installation: Installation) -> AsyncIterator[Callable[..., Any]]:
    """Gives an installation with a stand-in for a service, of which there is its health alone."""
    servers = []

    async def serve(name: str, status: int = Status.SERVING, beside: Installation = installation) -> Installation:
        server, servicer = grpc.aio.server(), health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        await servicer.set("", status)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return replace(beside, services={**beside.services, name: f"127.0.0.1:{port}"})

    yield serve
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def upstream() -> AsyncIterator[Callable[..., Any]]:
    """Starts a stand-in for an OpenAI-compatible server that lists models to who shows the key; returns its URL."""
    runners = []

    async def serve(*models: str, key: str = "", status: int = 200) -> str:
        async def listed(request: web.Request) -> web.Response:
            if key and request.headers.get("authorization") != f"Bearer {key}":
                return web.Response(status=401)
            return web.json_response({"data": [{"id": each} for each in models]}, status=status)

        application = web.Application()
        application.router.add_get("/v1/models", listed)
        runner = web.AppRunner(application)
        await runner.setup()
        runners.append(runner)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}/v1"

    yield serve
    for runner in runners:
        await runner.cleanup()
