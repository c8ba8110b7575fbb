"""The gRPC edge that every service has: validation, errors, health, reflection, draining."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from embedded.ports import free_ports
from gyre.api.router.v1 import router_pb2, router_pb2_grpc
from gyre.api.types.v1 import types_pb2
from services.runtime import errors, rpc
from services.runtime.settings import ServiceSettings


class Scripted(router_pb2_grpc.RouterServicer):
    """Does what a test told it to."""

    def __init__(self) -> None:
        self.raises: Exception | None = None
        self.release = asyncio.Event()
        self.release.set()
        self.entered = asyncio.Event()
        self.trace_id = 0
        self.peers: set[str] = set()

    async def SendFeedback(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.entered.set()
        self.peers.add(context.peer())
        self.trace_id = trace.get_current_span().get_span_context().trace_id
        await self.release.wait()
        if self.raises:
            raise self.raises
        return router_pb2.SendFeedbackResponse(feedback_id="f")

    async def CompleteStream(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - gRPC's name
        yield router_pb2.CompleteStreamResponse(text_delta="one")
        if self.raises:
            raise self.raises


@pytest.fixture
async def servicer() -> Scripted:
    return Scripted()


@pytest.fixture
async def server(servicer: Scripted) -> AsyncIterator[tuple[rpc.Server, grpc.aio.Channel]]:
    settings = ServiceSettings(grpc_port=free_ports(1)[0], drain_seconds=5)
    registration = rpc.Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, "gyre.api.router.v1.Router")
    server = rpc.Server(settings, [registration])
    await server.start()
    async with rpc.channel(f"127.0.0.1:{settings.grpc_port}") as channel:
        yield server, channel
    await server.stop()


FEEDBACK = router_pb2.SendFeedbackRequest(request_id="0190b6a0-5f5c-7cc3-98c5-6a2f3e1b8a11", rating=1)


async def test_a_request_that_breaks_a_rule_gets_the_field_and_what_was_wanted(server: Any) -> None:
    stub = router_pb2_grpc.RouterStub(server[1])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SendFeedback(router_pb2.SendFeedbackRequest(request_id="7", rating=3))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request_id: must be a UUID" in str(caught.value.details())
    status = rpc_status.from_call(caught.value)
    detail = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(detail)
    assert {violation.field for violation in detail.field_violations} == {"request_id", "rating"}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Unauthenticated("no key"), grpc.StatusCode.UNAUTHENTICATED),
        (errors.PermissionDenied("not for you"), grpc.StatusCode.PERMISSION_DENIED),
        (errors.NotFound("no such thing"), grpc.StatusCode.NOT_FOUND),
        (errors.FailedPrecondition("not now"), grpc.StatusCode.FAILED_PRECONDITION),
        (errors.Retryable("later"), grpc.StatusCode.UNAVAILABLE),
        (errors.Fatal("broken"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_an_error_becomes_the_status_that_says_what_to_do(
    server: Any, servicer: Scripted, error: errors.ServiceError, code: grpc.StatusCode
) -> None:
    servicer.raises = error
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await router_pb2_grpc.RouterStub(server[1]).SendFeedback(FEEDBACK)
    assert (caught.value.code(), caught.value.details()) == (code, str(error))


async def test_what_a_bug_raises_is_not_shown_to_the_caller(server: Any, servicer: Scripted) -> None:
    servicer.raises = KeyError("secret-value")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await router_pb2_grpc.RouterStub(server[1]).SendFeedback(FEEDBACK)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret-value" not in str(caught.value.details())


async def test_a_bug_of_a_service_is_no_fault_of_its_caller(server: Any, servicer: Scripted) -> None:
    servicer.raises = RuntimeError("a bug")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await router_pb2_grpc.RouterStub(server[1]).SendFeedback(FEEDBACK)
    assert isinstance(rpc.error_from(caught.value, "router"), errors.Retryable)


async def test_an_error_in_mid_stream_comes_after_what_was_sent(server: Any, servicer: Scripted) -> None:
    servicer.raises = errors.Retryable("gone")
    request = router_pb2.CompleteStreamRequest(
        request=router_pb2.CompleteRequest(messages=[types_pb2.Message(role="user", content="hi")])
    )
    pieces = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for piece in router_pb2_grpc.RouterStub(server[1]).CompleteStream(request):
            pieces.append(piece.text_delta)
    assert pieces == ["one"]
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_says_serving_only_when_told(server: Any) -> None:
    stub: Any = health_pb2_grpc.HealthStub(server[1])
    ask = health_pb2.HealthCheckRequest(service="")
    assert (await stub.Check(ask)).status == health_pb2.HealthCheckResponse.NOT_SERVING
    await server[0].set_serving()
    assert (await stub.Check(ask)).status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_service(server: Any) -> None:
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(server[1])
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await call.read()
    assert "gyre.api.router.v1.Router" in {each.name for each in answer.list_services_response.service}


async def test_a_running_call_ends_well_while_the_server_stops(server: Any, servicer: Scripted) -> None:
    servicer.release.clear()
    call = asyncio.ensure_future(router_pb2_grpc.RouterStub(server[1]).SendFeedback(FEEDBACK))
    await servicer.entered.wait()
    stopping = asyncio.create_task(server[0].stop())
    await asyncio.wait([stopping], timeout=0.05)
    servicer.release.set()
    assert (await call).feedback_id == "f"
    await stopping


async def test_a_connection_ends_by_its_age_and_no_call_with_it(servicer: Scripted) -> None:
    settings = ServiceSettings(grpc_port=free_ports(1)[0], connection_seconds=0.1)
    registration = rpc.Registration(router_pb2_grpc.add_RouterServicer_to_server, servicer, "gyre.api.router.v1.Router")
    server = rpc.Server(settings, [registration])
    await server.start()
    async with rpc.channel(f"127.0.0.1:{settings.grpc_port}") as channel, asyncio.timeout(20):
        while len(servicer.peers) < 3:
            assert (await router_pb2_grpc.RouterStub(channel).SendFeedback(FEEDBACK)).feedback_id == "f"
    await server.stop()


async def test_a_taken_port_is_a_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = rpc.Server(ServiceSettings(grpc_port=taken.getsockname()[1]), [])
        with pytest.raises(errors.Fatal, match="is something else there"):
            await server.start()


async def test_a_trace_goes_on_in_the_service_that_is_called(server: Any, servicer: Scripted) -> None:
    trace.set_tracer_provider(TracerProvider())
    with trace.get_tracer("test").start_as_current_span("caller") as span:
        await router_pb2_grpc.RouterStub(server[1]).SendFeedback(FEEDBACK)
    assert servicer.trace_id == span.get_span_context().trace_id
