"""Two replicas of the router under one budget, on a real broker with real governance; the model is a stand-in."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from aiohttp import web

from embedded.ports import free_ports
from gyre.api.router.v1 import router_pb2, router_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.bundle import Bundle, load_bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings
from tests.conftest import broker
from tests.integration.service_process import ServiceProcess

SAMPLE = Path(__file__).parents[3] / "deploy" / "bundle"
KEY = "gyre-demo-key"  # of the sample bundle
IN_FLIGHT = 8
BUDGET = 40
# Longer than a total takes to reach the other replica, on a busy machine too.
ANSWER_SECONDS = 0.25


async def _answer(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await asyncio.sleep(ANSWER_SECONDS)
    choice = {"index": 0, "delta": {"content": "Yes."}, "finish_reason": "stop"}
    for chunk in ({"choices": [choice]}, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}):
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    return response


@asynccontextmanager
async def stand_in_model() -> AsyncIterator[str]:
    """An OpenAI-compatible server that is no model; yields its URL."""
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", _answer)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    await runner.cleanup()


def bundle(url: str) -> Bundle:
    content: dict[str, Any] = load_bundle(SAMPLE).model_dump()
    content["upstreams"] = {"stand-in": {"url": url}}
    content["models"]["small"] |= {"upstream": "stand-in", "weights": ""}
    content["applications"]["concierge"]["limits"] = [{"of": "requests", "per": "month", "at_most": BUDGET}]
    return Bundle.model_validate(content)


@pytest.fixture
async def replicas(tmp_path: Path) -> AsyncIterator[list[ServiceProcess]]:
    with broker(tmp_path / "state") as kafka, ExitStack() as stack:
        async with stand_in_model() as url:
            settings = KafkaSettings(bootstrap_servers=kafka)
            async with Producer(settings) as producer:
                content = bundle(url).model_dump_json()
                await producer.send(
                    Topic.BUNDLES, BundlePublished(version="b1", published_at=datetime.now(UTC), content=content)
                )
            environment = {"GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka, "GYRE_CONTEXT_TARGET": "127.0.0.1:1"}
            governance = stack.enter_context(ServiceProcess("governance", tmp_path / "governance.log", environment))
            environment["GYRE_GOVERNANCE_TARGET"] = governance.exchange_target
            environment["GYRE_ROUTER_IN_FLIGHT"] = str(IN_FLIGHT)
            processes = [
                stack.enter_context(
                    ServiceProcess(
                        "router", tmp_path / f"{port}.log", environment | {"GYRE_ROUTER_HTTP_PORT": str(port)}
                    )
                )
                for port in free_ports(2)
            ]
            for process in (governance, *processes):
                await process.serving()
            yield processes


async def ask(process: ServiceProcess) -> grpc.StatusCode:
    """Ask for one answer and return what became of that."""
    async with grpc.aio.insecure_channel(process.target) as channel:
        stub: Any = router_pb2_grpc.RouterStub(channel)
        request = router_pb2.CompleteRequest(messages=[types_pb2.Message(role="user", content="Are you there?")])
        try:
            await stub.Complete(request, metadata=[("authorization", f"Bearer {KEY}")], timeout=60)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def test_they_overshoot_by_no_more_than_others_may_have_had_in_flight(replicas: list[ServiceProcess]) -> None:
    codes = Counter[grpc.StatusCode]()

    async def insist(process: ServiceProcess) -> None:
        while (code := await ask(process)) is grpc.StatusCode.OK:
            codes[code] += 1
        codes[code] += 1

    await asyncio.gather(*(insist(process) for process in replicas for _ in range(IN_FLIGHT)))
    assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert BUDGET <= codes[grpc.StatusCode.OK] <= BUDGET + IN_FLIGHT


async def test_what_a_killed_replica_has_used_is_used(replicas: list[ServiceProcess]) -> None:
    first, second = replicas
    for _ in range(BUDGET // 4):
        assert await ask(first) is grpc.StatusCode.OK
    first.kill()
    first.start()
    await first.serving()
    for _ in range(BUDGET // 4):
        assert await ask(first) is grpc.StatusCode.OK
    first.kill()
    answered = 0
    while await ask(second) is grpc.StatusCode.OK:
        answered += 1
    assert answered == BUDGET - 2 * (BUDGET // 4)
