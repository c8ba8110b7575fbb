"""One trace leads from an application's call through every hop, and over Kafka to those who handle its record."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from embedded.ports import free_ports
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.api.router.v1 import router_pb2, router_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.audit.consumer import Recorder
from services.audit.erasing import Eraser
from services.audit.settings import Settings as AuditSettings
from services.audit.signing import Keys
from services.router.adapters import KafkaRecorder, RemoteGovernance
from services.runtime import rpc
from services.runtime.clock import Clock
from services.runtime.exchange import ExchangeChannel
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings, ServiceSettings
from tests.conftest import broker
from tests.integration.service_process import ServiceProcess
from tests.router_on_fakes import RouterOnFakes, router_on_fakes
from tests.spans import Spans, kept_spans
from tests.unit.audit.fakes import FakeLedger
from tests.unit.router.fakes import KEY
from tests.unit.triage.builders import NOW, bundle

CALLER_SPAN = "00f067aa0ba902b7"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what services that are processes of their own send: the names of spans, by trace and service."""

    def __init__(self) -> None:
        self.names: dict[tuple[int, str], list[str]] = {}

    async def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            (service,) = (
                each.value.string_value for each in resource.resource.attributes if each.key == "service.name"
            )
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                self.names.setdefault((int.from_bytes(span.trace_id), service), []).append(span.name)
        return trace_service_pb2.ExportTraceServiceResponse()


class Passing(governance_pb2_grpc.GovernanceServicer):
    """Lets everything pass."""

    async def CheckInput(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return governance_pb2.CheckInputResponse(
            verdict=governance_pb2.VERDICT_PASS,
            texts=request.texts,
            sensitivity=types_pb2.SENSITIVITY_INTERNAL,
            bundle_version="b1",
            clearances=[
                governance_pb2.Clearance(sensitivity=level, models=["small"])
                for level in (types_pb2.SENSITIVITY_INTERNAL, types_pb2.SENSITIVITY_RESTRICTED)
            ],
        )

    async def CheckOutput(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        return governance_pb2.CheckOutputResponse(verdict=governance_pb2.VERDICT_PASS, text=request.text)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker of these tests' own: audit and triage would have to read what others have sent."""
    with broker(tmp_path_factory.mktemp("tracing")) as address:
        yield KafkaSettings(bootstrap_servers=address, partitions=2)


@pytest.fixture(scope="module")
def spans() -> Iterator[Spans]:
    with kept_spans() as kept:
        yield kept


@pytest.fixture(scope="module")
async def producer(settings: KafkaSettings) -> AsyncIterator[Producer]:
    async with Producer(settings) as producer:
        yield producer


@pytest.fixture
async def router(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RouterOnFakes]:
    """A router that records in Kafka and asks a governance that it reaches as it does in earnest."""
    grpc_port, exchange_port = free_ports(2)
    registration = rpc.Registration(
        governance_pb2_grpc.add_GovernanceServicer_to_server, Passing(), "gyre.api.governance.v1.Governance"
    )
    server = rpc.Server(ServiceSettings(grpc_port=grpc_port, drain_seconds=0), [registration], exchange_port)
    await server.start()
    async with router_on_fakes() as served, ExchangeChannel(f"127.0.0.1:{exchange_port}") as channel:
        governance, recorder = RemoteGovernance(channel), KafkaRecorder(producer)
        monkeypatch.setattr(served.stack.governance, "check_input", governance.check_input)
        monkeypatch.setattr(served.stack.governance, "check_output", governance.check_output)
        monkeypatch.setattr(served.stack.recorder, "interaction", recorder.interaction)
        yield served
    await server.stop()


@pytest.fixture
async def audit(settings: KafkaSettings, spans: Spans) -> AsyncIterator[FakeLedger]:
    """The loop that keeps the record, and where it keeps it."""
    ledger = FakeLedger()
    kept = AuditSettings(flush_seconds=0)
    recorder = Recorder(settings, kept, ledger, Keys(), Eraser(ledger, signed=False), Clock())
    running = asyncio.create_task(recorder.run())
    await asyncio.wait_for(recorder.ready(), 60)
    yield ledger
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def over_http(router: RouterOnFakes, traceparent: str) -> str:
    body = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "metadata": {"task": "chat"}}
    headers = {"authorization": f"Bearer {KEY}", "traceparent": traceparent}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{router.url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()
        return str(response.headers["x-request-id"])


async def over_grpc(router: RouterOnFakes, traceparent: str) -> str:
    request = router_pb2.CompleteRequest(
        messages=[types_pb2.Message(role="user", content="Hi")], task="chat", model="small"
    )
    metadata = (("authorization", f"Bearer {KEY}"), ("traceparent", traceparent))
    async with grpc.aio.insecure_channel(router.target) as channel:
        answer = await router_pb2_grpc.RouterStub(channel).Complete(request, metadata=metadata)
        return str(answer.request_id)


def in_order(spans: Sequence[ReadableSpan]) -> list[tuple[str, SpanKind]]:
    return [(span.name, span.kind) for span in sorted(spans, key=lambda span: span.start_time or 0)]


@pytest.mark.parametrize(
    ("ask", "edge", "trace_id"),
    [
        (over_http, "POST /v1/chat/completions", 0xA1),
        (over_grpc, "/gyre.api.router.v1.Router/Complete", 0xA2),
    ],
)
async def test_the_callers_trace_leads_to_the_row_of_its_request(
    router: RouterOnFakes, audit: FakeLedger, spans: Spans, ask: Any, edge: str, trace_id: int
) -> None:
    request_id = await ask(router, f"00-{trace_id:032x}-{CALLER_SPAN}-01")
    consumed = f"process {Topic.INTERACTIONS}"
    async with asyncio.timeout(60):
        while consumed not in [span.name for span in spans.of(trace_id)]:
            await asyncio.sleep(0.05)
    found = {span.name: span for span in spans.of(trace_id)}
    assert in_order(found.values()) == [
        (edge, SpanKind.SERVER),
        ("/gyre.api.governance.v1.Governance/CheckInput", SpanKind.SERVER),
        ("chat small", SpanKind.CLIENT),
        ("/gyre.api.governance.v1.Governance/CheckOutput", SpanKind.SERVER),
        (f"send {Topic.INTERACTIONS}", SpanKind.PRODUCER),
        (consumed, SpanKind.CONSUMER),
    ]
    for name, parent in ((consumed, f"send {Topic.INTERACTIONS}"), ("chat small", edge)):
        assert found[name].parent.span_id == found[parent].context.span_id
    assert f"{found[edge].parent.span_id:016x}" == CALLER_SPAN
    # From the trace to the row: by the request, and by where the row is.
    assert found[edge].attributes["gyre.request_id"] == request_id
    row = found[consumed].attributes
    place = Topic(row["messaging.destination.name"]), int(row["messaging.destination.partition.id"])
    (kept,) = (each for each in audit.rows[place] if each.record.offset == row["messaging.kafka.offset"])
    assert kept.record.key == request_id.encode()


async def test_a_models_answer_is_told_as_the_conventions_for_generative_ai_want_it(
    router: RouterOnFakes, spans: Spans
) -> None:
    request_id = await over_http(router, f"00-{0xA3:032x}-{CALLER_SPAN}-01")
    (span,) = (span for span in spans.of(0xA3) if span.kind is SpanKind.CLIENT)
    assert span.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "triton",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 2,
        "gyre.model_version": "1",
        "gyre.request_id": request_id,
    }


async def test_triage_goes_on_with_the_trace_in_a_process_of_its_own(
    router: RouterOnFakes, producer: Producer, settings: KafkaSettings, models: Path, tmp_path: Path
) -> None:
    collector, (port,) = Collector(), free_ports(1)
    server = grpc.aio.server()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    published = bundle()
    event = BundlePublished(version=published.version, published_at=NOW, content=published.model_dump_json())
    await producer.send(Topic.BUNDLES, event)
    environment = {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "GYRE_KAFKA_PARTITIONS": str(settings.partitions),
        "GYRE_MODELS_DIR": str(models),
        "GYRE_TRIAGE_CONSOLE_PORT": str(free_ports(1)[0]),
        "GYRE_TRIAGE_DATA_DIR": str(tmp_path / "data"),
        "GYRE_TELEMETRY_OTLP_ENDPOINT": f"127.0.0.1:{port}",
        "OTEL_BSP_SCHEDULE_DELAY": "100",
    }
    with ServiceProcess("triage", tmp_path / "log", environment) as process:
        await process.serving(120)
        await over_http(router, f"00-{0xA4:032x}-{CALLER_SPAN}-01")
        async with asyncio.timeout(60):
            while (0xA4, "gyre-triage") not in collector.names:
                await asyncio.sleep(0.05)
    assert collector.names[0xA4, "gyre-triage"] == [f"process {Topic.INTERACTIONS}"]
    await server.stop(None)
