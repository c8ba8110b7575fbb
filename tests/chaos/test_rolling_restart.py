"""Every replica of every service, or a few of them, is replaced in turn, while all are asked all the time.

Replicas are reached as by Services of Kubernetes, and replaced as by its Deployments: out of the endpoints, time for
`preStop`, SIGTERM, a new one, into the endpoints when its health says SERVING.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AsyncOpenAI

from embedded.environment import part_environment
from embedded.parts import INFRASTRUCTURE, ports_of
from embedded.settings import HOST, SERVICES, Settings
from gyre.api.audit.v1 import audit_pb2, audit_pb2_grpc
from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.api.trainer.v1 import training_pb2, training_pb2_grpc
from gyre.api.triage.v1 import review_pb2, review_pb2_grpc
from gyre.api.types.v1 import types_pb2
from gyre.client.asynchronous import AsyncClient
from gyre.client.connection import Retries
from gyre.demo.play import DEMO_KEY
from gyre.demo.story import TENANT
from schemas.topics import Topic
from services.runtime.rpc import channel
from tests.chaos.extent import IS_WHOLE
from tests.chaos.recovery import assert_nothing_is_lost_or_repeated
from tests.chaos.traffic import NUMBERS
from tests.integration.service_process import ServiceProcess
from tests.whole_stack import CALL_SECONDS, TEXT, WholeStack, answers, small_bundle, started, wait_for

pytestmark = pytest.mark.timeout(300)

# The manifests' 30 s and 35 s, on the scale of a test.
CONNECTION_SECONDS, PRE_STOP_SECONDS = 0.5, 1.0
# A client asks, reads the answer for so long, and asks again.
READING_SECONDS, GLANCING_SECONDS = 1.0, 0.1
REPLICA_HOSTS = ("127.0.0.2", "127.0.0.3")
FEW = [(name, REPLICA_HOSTS[0]) for name in ("governance", "triage", "serving", "router")]
REPLACED = [(name, host) for name in SERVICES for host in REPLICA_HOSTS] if IS_WHOLE else FEW


class Balancer:
    """Takes a new connection to one of the endpoints; what then becomes of those does not concern it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connections: set[asyncio.Task[None]] = set()
        self.endpoints: set[str] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with await asyncio.start_server(self._forward, HOST, self._port):
            try:
                yield
            finally:
                for connection in self._connections:
                    connection.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.current_task()
        assert connection is not None
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        try:
            host = random.choice(sorted(self.endpoints))
            upstream_reader, upstream_writer = await asyncio.open_connection(host, self._port)
            await asyncio.gather(_pass_on(reader, upstream_writer), _pass_on(upstream_reader, writer))
        except (IndexError, OSError, asyncio.CancelledError):  # the first: there is none yet
            writer.transport.abort()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
    except OSError:
        writer.transport.abort()


class Replicas:
    """Two of every service. Their balancers are where the stack would have the services themselves."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._balancers = {name: [Balancer(settings.port(each)) for each in _asked_ports(name)] for name in SERVICES}
        self._processes = {
            (name, host): ServiceProcess(
                name, folder / f"{name}-{host}.log", _environment(settings, name, host, folder), host
            )
            for name in SERVICES
            for host in REPLICA_HOSTS
        }

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for balancers in self._balancers.values():
                for balancer in balancers:
                    await stack.enter_async_context(balancer.serving())
            stack.push_async_callback(self._stop)
            for process in self._processes.values():
                process.start()
            for name, host in self._processes:
                await self._join(name, host)
            yield

    async def replace(self, name: str, host: str, meanwhile: Callable[[], Awaitable[None]]) -> None:
        process = self._processes[name, host]
        for balancer in self._balancers[name]:
            balancer.endpoints.remove(host)
        await asyncio.sleep(PRE_STOP_SECONDS)
        assert await asyncio.to_thread(process.stop) == 0, process.log.read_text()[-2000:]
        process.start()
        await meanwhile()
        await self._join(name, host)

    async def _stop(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(process.stop) for process in self._processes.values()))

    async def _join(self, name: str, host: str) -> None:
        await self._processes[name, host].serving(120)
        for balancer in self._balancers[name]:
            balancer.endpoints.add(host)


def _asked_ports(name: str) -> list[str]:
    return [variable for variable in ports_of(name) if not variable.endswith("METRICS_PORT")]


def _environment(settings: Settings, name: str, host: str, folder: Path) -> dict[str, str]:
    """What the stack would tell the service, but for what a replica has for itself."""
    own = folder / f"{name}-{host}"
    return {
        **part_environment(settings, name),
        f"GYRE_{name.upper()}_HOST": host,
        f"GYRE_{name.upper()}_CONNECTION_SECONDS": str(CONNECTION_SECONDS),
        "GYRE_TRIAGE_DATA_DIR": str(own),
        "GYRE_CONTEXT_SNAPSHOT_DIR": str(own),
        "GYRE_AUDIT_CHECKPOINTS_FILE": str(own / "checkpoints"),
    }


class Clients:
    """Of every service. They keep their connections and never try anything again."""

    def __init__(self, gyre: WholeStack) -> None:
        self._gyre = gyre
        self.answered: list[str] = []
        self.failed: list[str] = []
        self.times: Counter[str] = Counter()

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Ask within the block, each client for itself; at its end no request is left unanswered."""
        is_over = asyncio.Event()

        async def ask(name: str, call: Callable[[], Awaitable[object]], pause_seconds: float) -> None:
            while not is_over.is_set():
                try:
                    await call()
                except Exception as error:
                    self.failed.append(f"{name}: {error!r}")
                self.times[name] += 1
                await asyncio.sleep(pause_seconds)

        async with AsyncExitStack() as stack, asyncio.TaskGroup() as asking:
            for name, call, pause_seconds in await self._calls(stack):
                self.times[name] = 0
                asking.create_task(ask(name, call, pause_seconds))
            try:
                yield
            finally:
                is_over.set()

    async def more(self) -> None:
        """Wait until every client was answered once more."""
        before = self.times.copy()
        async with asyncio.timeout(2 * CALL_SECONDS):
            while any(self.times[name] < before[name] + 2 for name in before):  # the first was under way
                await asyncio.sleep(0.05)

    async def _calls(self, stack: AsyncExitStack) -> list[tuple[str, Callable[[], Awaitable[object]], float]]:
        gyre = self._gyre
        url, target = gyre.router_url, gyre.address("router")

        async def openai() -> AsyncOpenAI:
            client = AsyncOpenAI(base_url=f"{url}/v1", api_key=DEMO_KEY, max_retries=0, timeout=CALL_SECONDS)
            return await stack.enter_async_context(client)

        async def stub(kind: Any, service: str) -> Any:
            return kind(await stack.enter_async_context(channel(gyre.address(service))))

        plain, streaming, listing = await openai(), await openai(), await openai()
        client = await stack.enter_async_context(AsyncClient(target, DEMO_KEY, retries=Retries(attempts=1)))
        console_url = f"http://{gyre.stack.settings.address('GYRE_TRIAGE_CONSOLE_PORT')}"
        console = await stack.enter_async_context(httpx.AsyncClient(base_url=console_url, timeout=CALL_SECONDS))
        governance = await stub(governance_pb2_grpc.GovernanceStub, "governance")
        context = await stub(context_pb2_grpc.ContextStub, "context")
        audit = await stub(audit_pb2_grpc.AuditStub, "audit")
        triage = await stub(review_pb2_grpc.ReviewStub, "triage")
        trainer = await stub(training_pb2_grpc.TrainingStub, "trainer")
        serving = await stub(serving_pb2_grpc.ServingStub, "serving")

        async def complete_by_http() -> None:
            answer = await plain.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": question()}], max_tokens=8
            )
            assert answer.choices[0].message.content
            self.answered.append(answer.id)

        async def stream_by_http() -> None:
            stream = await streaming.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": question()}], max_tokens=8, stream=True
            )
            chunks = [chunk async for chunk in stream]
            assert chunks[-1].choices[0].finish_reason
            self.answered.append(chunks[-1].id)

        async def complete_by_grpc() -> None:
            self.answered.append((await client.complete(question(), task=TEXT, max_tokens=8)).request_id)

        async def stream_by_grpc() -> None:
            async with client.stream(question(), task=TEXT, max_tokens=8) as stream:
                assert "".join([text async for text in stream])
                self.answered.append(stream.answer.request_id)

        async def page() -> None:
            (await console.get("/static/gyre.svg")).raise_for_status()

        check = governance_pb2.CheckInputRequest(application="concierge", task=TEXT, texts=["Hello"])
        stitch = context_pb2.StitchRequest(
            tenant=TENANT, task=TEXT, query="Hello", budget_tokens=100, max_sensitivity=types_pb2.SENSITIVITY_PUBLIC
        )
        verify = audit_pb2.VerifyRequest(topic=Topic.BUNDLES, partition=0)
        stats = review_pb2.StatsRequest()
        timeout = CALL_SECONDS
        return [
            ("complete by HTTP", complete_by_http, READING_SECONDS),
            ("stream by HTTP", stream_by_http, READING_SECONDS),
            ("complete by gRPC", complete_by_grpc, READING_SECONDS),
            ("stream by gRPC", stream_by_grpc, READING_SECONDS),
            ("list by HTTP", listing.models.list, GLANCING_SECONDS),
            ("console", page, GLANCING_SECONDS),
            ("governance", lambda: governance.CheckInput(check, timeout=timeout), GLANCING_SECONDS),
            ("context", lambda: context.Stitch(stitch, timeout=timeout), GLANCING_SECONDS),
            ("audit", lambda: audit.Verify(verify, timeout=timeout), READING_SECONDS),
            ("triage", lambda: triage.Stats(stats, metadata=gyre.expert, timeout=timeout), GLANCING_SECONDS),
            ("trainer", lambda: trainer.Status(training_pb2.StatusRequest(), timeout=timeout), GLANCING_SECONDS),
            ("serving", lambda: serving.Status(serving_pb2.StatusRequest(), timeout=timeout), GLANCING_SECONDS),
        ]


def question() -> str:
    return f"How do you spell the number {next(NUMBERS)}?"


async def test_while_every_service_is_restarted_no_request_fails(tmp_path: Path) -> None:
    async with started(tmp_path / "state", small_bundle(), INFRASTRUCTURE) as gyre:
        replicas, clients = Replicas(gyre.stack.settings, tmp_path), Clients(gyre)
        async with replicas.running():
            await asyncio.to_thread(wait_for, lambda: answers(gyre), 120)
            async with clients.going_on():
                await clients.more()
                for name, host in REPLACED:
                    await replicas.replace(name, host, meanwhile=clients.more)
                await clients.more()
            assert clients.failed == []
            await asyncio.to_thread(assert_nothing_is_lost_or_repeated, gyre, clients.answered)
