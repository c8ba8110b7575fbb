"""Every port with TLS: whom it answers, whom it does not, and that a replaced certificate is taken up."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from tritonclient.grpc import service_pb2, service_pb2_grpc

from embedded.ports import free_ports
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from services.runtime import rpc, tracing
from services.runtime.callers import asker
from services.runtime.exchange import ExchangeChannel
from services.runtime.scraping import serve_metrics
from services.runtime.settings import ServiceSettings
from services.runtime.telemetry import CERTIFICATE_EXPIRES
from services.runtime.tls import Tls
from services.runtime.triton import TritonClients
from tests.certificates import Folders

NAME = "gyre.api.governance.v1.Governance"
# By connection alone: whoever is refused learns nothing.
REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)


class Echo(governance_pb2_grpc.GovernanceServicer):
    def __init__(self) -> None:
        self.asked = 0
        self.askers: list[str] = []

    async def CheckOutput(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.asked += 1
        if context is not None:  # by exchange there is none
            self.askers.append(asker("ann", context))
        return governance_pb2.CheckOutputResponse(text=request.text)


@dataclass
class Served:
    """What stands for context, behind its three ports.

    Attributes:
        port: Of each kind.
        servicer: Counts what it is asked.
        server: Of gRPC and exchange.
    """

    port: dict[str, int]
    servicer: Echo
    server: rpc.Server

    def target(self, kind: str) -> str:
        return f"localhost:{self.port[kind]}"


def context(servicer: Echo, port: dict[str, int], tls: Tls) -> rpc.Server:
    registration = rpc.Registration(governance_pb2_grpc.add_GovernanceServicer_to_server, servicer, NAME)
    settings = ServiceSettings(grpc_port=port["grpc"], drain_seconds=0)
    return rpc.Server(settings, [registration], port["exchange"], service="context", tls=tls)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


@pytest.fixture
async def served(folders: Folders) -> AsyncIterator[Served]:
    port = dict(zip(("grpc", "exchange", "metrics"), free_ports(3), strict=True))
    servicer, tls = Echo(), folders.tls("context")
    server = context(servicer, port, tls)
    await server.start()
    serve_metrics("context", "127.0.0.1", port["metrics"], tls)
    yield Served(port, servicer, server)
    await server.stop()


def question() -> governance_pb2.CheckOutputRequest:
    return governance_pb2.CheckOutputRequest(application="web", task="chat", text="Hi")


async def by_grpc(served: Served, tls: Tls | None) -> str:
    async with rpc.channel(served.target("grpc"), tls) as channel:
        return str((await governance_pb2_grpc.GovernanceStub(channel).CheckOutput(question(), timeout=5)).text)


async def by_exchange(served: Served, tls: Tls | None) -> str:
    async with ExchangeChannel(served.target("exchange"), tls) as channel:
        stub = channel.stub(governance_pb2_grpc.GovernanceStub)
        return str((await stub.CheckOutput(question(), timeout=5)).text)


async def by_scraping(served: Served, tls: Tls | None) -> str:
    """Return what an HTTP client gets of the metrics port."""
    context = None if tls is None else tls.client_context()
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("localhost", served.port["metrics"], ssl=context)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
    if "gyre_rpc_seconds" not in answer:
        raise ConnectionError(f"no metrics: {answer!r}")
    return "Hi"


Ask = Callable[[Served, Tls | None], Awaitable[str]]


async def assert_refused(served: Served, ask: Ask, tls: Tls | None) -> None:
    with pytest.raises((grpc.aio.AioRpcError, OSError)) as caught:
        await ask(served, tls)
    if isinstance(caught.value, grpc.aio.AioRpcError):
        assert caught.value.code() in REFUSED
    assert served.servicer.asked == 0


def caller(ask: Ask) -> str:
    """Return who may ask so."""
    return {by_grpc: "operator", by_exchange: "router", by_scraping: "prometheus"}[ask]  # type: ignore[index]


KINDS = pytest.mark.parametrize("ask", [by_grpc, by_exchange, by_scraping], ids=["gRPC", "exchange", "metrics"])


async def test_who_asked_is_put_on_record_as_the_certificate_proves(served: Served, folders: Folders) -> None:
    await by_grpc(served, folders.tls("operator"))
    assert served.servicer.askers == ["ann as operator"]


@KINDS
async def test_who_may_ask_is_answered(served: Served, folders: Folders, ask: Ask) -> None:
    assert await ask(served, folders.tls(caller(ask))) == "Hi"


@KINDS
async def test_a_caller_in_the_clear_gets_nowhere(served: Served, ask: Ask) -> None:
    await assert_refused(served, ask, None)


class WithoutCertificate(Tls):
    """Believes the CA and shows nothing."""

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.current().authorities.decode())

    def channel_credentials(self) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(self.current().authorities)


@KINDS
async def test_a_caller_without_a_certificate_gets_nowhere(served: Served, folders: Folders, ask: Ask) -> None:
    await assert_refused(served, ask, WithoutCertificate(folders.of(caller(ask))))


@KINDS
async def test_a_caller_whose_certificate_has_ended_gets_nowhere(served: Served, folders: Folders, ask: Ask) -> None:
    await assert_refused(served, ask, Tls(folders.expired(caller(ask))))


@KINDS
async def test_a_caller_of_another_ca_gets_nowhere(served: Served, folders: Folders, ask: Ask) -> None:
    await assert_refused(served, ask, Tls(folders.of_another_ca(caller(ask))))


@KINDS
@pytest.mark.parametrize("identity", ["audit", "triton"])
async def test_a_caller_who_is_somebody_else_gets_nowhere(
    served: Served, folders: Folders, ask: Ask, identity: str
) -> None:
    await assert_refused(served, ask, folders.tls(identity))


async def test_nobody_else_is_told_of_health_or_methods(served: Served, folders: Folders) -> None:
    async with rpc.channel(served.target("grpc"), folders.tls("audit")) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as check:
            await health.Check(health_pb2.HealthCheckRequest())
        with pytest.raises(grpc.aio.AioRpcError) as watch:
            await health.Watch(health_pb2.HealthCheckRequest()).read()
        with pytest.raises(grpc.aio.AioRpcError) as methods:
            await reflection.ServerReflectionInfo(
                iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            ).read()
    assert {each.value.code() for each in (check, watch, methods)} == {grpc.StatusCode.PERMISSION_DENIED}


async def test_a_service_may_ask_for_its_own_health_and_methods(served: Served, folders: Folders) -> None:
    async with rpc.channel(served.target("grpc"), folders.tls("context")) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        wanted = health_pb2.HealthCheckResponse.NOT_SERVING
        assert (await health.Watch(health_pb2.HealthCheckRequest()).read()).status == wanted
        call = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        assert NAME in {each.name for each in (await call.read()).list_services_response.service}


@KINDS
async def test_a_server_of_another_ca_is_asked_nothing(
    served: Served, folders: Folders, ask: Ask, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    for name in ("tls.crt", "tls.key"):
        (stranger / name).write_bytes((folders.of(caller(ask)) / name).read_bytes())
    (stranger / "ca.crt").write_bytes(folders.with_a_new_ca().ca_file.read_bytes())
    await assert_refused(served, ask, Tls(stranger))


@KINDS
async def test_a_server_takes_up_a_replaced_certificate_and_ca(served: Served, folders: Folders, ask: Ask) -> None:
    assert await ask(served, folders.tls(caller(ask))) == "Hi"
    new = folders.with_a_new_ca()
    folders.replace("context", new.of("context"))
    assert await ask(served, new.tls(caller(ask))) == "Hi"
    served.servicer.asked = 0
    await assert_refused(served, ask, folders.tls(caller(ask)))  # whose CA is none any more


@KINDS
async def test_half_a_replacement_changes_nothing(served: Served, folders: Folders, ask: Ask) -> None:
    new = folders.with_a_new_ca()
    (folders.of("context") / "tls.key").write_bytes((new.of("context") / "tls.key").read_bytes())
    assert await ask(served, folders.tls(caller(ask))) == "Hi"


async def test_a_grpc_channel_shows_a_replaced_certificate(served: Served, folders: Folders) -> None:
    async with rpc.channel(served.target("grpc"), folders.tls("operator")) as channel:
        stub = governance_pb2_grpc.GovernanceStub(channel)
        assert (await stub.CheckOutput(question(), timeout=5)).text == "Hi"
        new = folders.with_a_new_ca()
        for identity in ("context", "operator"):
            folders.replace(identity, new.of(identity))
        assert (await stub.CheckOutput(question(), timeout=5)).text == "Hi"


async def test_an_exchange_channel_shows_a_replaced_certificate_when_it_connects_again(
    served: Served, folders: Folders
) -> None:
    async with ExchangeChannel(served.target("exchange"), folders.tls("router")) as channel:
        stub = channel.stub(governance_pb2_grpc.GovernanceStub)
        assert (await stub.CheckOutput(question(), timeout=5)).text == "Hi"
        new = folders.with_a_new_ca()
        for identity in ("context", "router"):
            folders.replace(identity, new.of(identity))
        await served.server.stop()
        server = context(served.servicer, served.port, folders.tls("context"))
        await server.start()
        assert (await stub.CheckOutput(question(), timeout=5)).text == "Hi"
        await server.stop()


async def test_a_call_on_a_connection_that_is_older_than_its_certificate_gets_nowhere(
    served: Served, folders: Folders
) -> None:
    async with rpc.channel(served.target("grpc"), Tls(folders.ending("operator", seconds=4))) as channel:
        stub = governance_pb2_grpc.GovernanceStub(channel)
        assert (await stub.CheckOutput(question(), timeout=3)).text == "Hi"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(20):
                while True:
                    await stub.CheckOutput(question(), timeout=5)
                    await asyncio.sleep(0.1)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc] # published without types
    async def ServerLive(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return service_pb2.ServerLiveResponse(live=True)


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self) -> None:
        self.callers: list[str] = []

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.callers += [name.decode() for name in context.auth_context()["peer_dns"]]
        return trace_service_pb2.ExportTraceServiceResponse()


@contextlib.asynccontextmanager
async def other_server(add: Any, servicer: Any, tls: Tls) -> AsyncIterator[str]:
    """Serve what is not ours, with TLS that wants a certificate."""
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_secure_port("localhost:0", tls.server_credentials(mutual=True))
    await server.start()
    yield f"localhost:{port}"
    await server.stop(None)


async def test_triton_is_asked_by_tls_also_after_a_renewal(folders: Folders) -> None:
    add = service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
    async with other_server(add, Triton(), folders.tls("triton")) as url:
        clients = TritonClients(url, folders.tls("router"))
        assert await clients.current().is_server_live(client_timeout=5)
        new = folders.with_a_new_ca()
        folders.replace("triton", new.of("triton"))
        folders.replace("router", new.of("router"))
        assert await clients.current().is_server_live(client_timeout=5)
        await clients.close()


async def test_traces_are_sent_by_tls_also_after_a_renewal(folders: Folders) -> None:
    add, collector = trace_service_pb2_grpc.add_TraceServiceServicer_to_server, Collector()
    async with other_server(add, collector, folders.tls("collector")) as endpoint:
        exporter = tracing.Exporter(endpoint, folders.tls("router"))
        span = TracerProvider().get_tracer("test").start_span("one")
        span.end()
        assert await asyncio.to_thread(exporter.export, [span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
        new = folders.with_a_new_ca()
        folders.replace("collector", new.of("collector"))
        folders.replace("router", new.of("router"))
        assert await asyncio.to_thread(exporter.export, [span]) is SpanExportResult.SUCCESS  # type: ignore[list-item]
        exporter.shutdown()
    assert collector.callers.count("router") == 2


async def test_when_the_certificate_ends_is_a_metric(folders: Folders) -> None:
    tls = folders.tls("router")
    CERTIFICATE_EXPIRES.set_function(lambda: tls.current().expires)
    ends = x509.load_pem_x509_certificate((folders.of("router") / "tls.crt").read_bytes()).not_valid_after_utc
    (sample,) = (each for each in CERTIFICATE_EXPIRES.collect()[0].samples)
    assert sample.value == ends.timestamp()
