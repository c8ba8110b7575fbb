"""Calls between services ride one connection, and each is answered, refused, late or stopped as a call by itself is."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from embedded.ports import free_ports
from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.exchange.v1.exchange_pb2 import Call, Reply
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from services.runtime import errors, rpc
from services.runtime.exchange import LAST_CALL, MAX_MESSAGE_BYTES, ExchangeChannel
from services.runtime.settings import ServiceSettings
from tests.served import channel_to, served

NAME = "gyre.api.governance.v1.Governance"


class Scripted(governance_pb2_grpc.GovernanceServicer):
    """Answers with the text it is asked about, when it is let to."""

    def __init__(self) -> None:
        self.release = asyncio.Event()
        self.release.set()
        self.entered = asyncio.Event()
        self.stopped = asyncio.Event()
        self.raises: Exception | None = None
        self.together = 0
        self.trace_id = 0

    async def CheckOutput(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        self.trace_id = trace.get_current_span().get_span_context().trace_id
        self.together += 1
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.stopped.set()
            raise
        finally:
            self.together -= 1
        if self.raises:
            raise self.raises
        return governance_pb2.CheckOutputResponse(verdict=governance_pb2.VERDICT_PASS, text=request.text)


@pytest.fixture
async def servicer() -> Scripted:
    return Scripted()


def registration(servicer: Scripted) -> rpc.Registration:
    return rpc.Registration(governance_pb2_grpc.add_GovernanceServicer_to_server, servicer, NAME)


@pytest.fixture
async def channel(servicer: Scripted) -> AsyncIterator[ExchangeChannel]:
    async with channel_to(registration(servicer)) as channel:
        yield channel


def question(text: str = "Hi") -> governance_pb2.CheckOutputRequest:
    return governance_pb2.CheckOutputRequest(application="web", task="chat", text=text)


async def ask(channel: ExchangeChannel, text: str = "Hi", seconds: float | None = 20) -> str:
    stub = channel.stub(governance_pb2_grpc.GovernanceStub)
    return str((await stub.CheckOutput(question(text), timeout=seconds)).text)


def frame(call: Call) -> bytes:
    encoded = call.SerializeToString()
    return len(encoded).to_bytes(4, "big") + encoded


async def reply(reader: asyncio.StreamReader) -> Reply:
    return Reply.FromString(await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big")))


async def until_nobody_listens(port: int) -> None:
    async with asyncio.timeout(20):
        with contextlib.suppress(OSError):
            while True:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await asyncio.sleep(0.01)


async def test_each_of_many_calls_at_once_gets_its_own_answer(channel: ExchangeChannel, servicer: Scripted) -> None:
    servicer.release.clear()
    texts = [f"text {i}" for i in range(500)]
    calls = asyncio.gather(*(ask(channel, text) for text in texts))
    async with asyncio.timeout(20):
        while servicer.together < len(texts):
            await asyncio.sleep(0.01)
    servicer.release.set()
    assert await calls == texts


async def test_large_calls_and_small_ones_pass_together(channel: ExchangeChannel) -> None:
    texts = [letter * (MAX_MESSAGE_BYTES // 4 if i % 2 else 1) for i, letter in enumerate("abcdefghijklmnop")]
    assert await asyncio.gather(*(ask(channel, text) for text in texts)) == texts


async def test_a_call_that_is_too_large_fails_by_itself(channel: ExchangeChannel) -> None:
    held = asyncio.create_task(ask(channel, "held"))
    with pytest.raises(grpc.aio.AioRpcError, match=r"request: \d+ bytes; wanted at most") as caught:
        await ask(channel, "x" * MAX_MESSAGE_BYTES)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await held == "held"


@pytest.mark.parametrize(
    "sent", [bytes(64), b"\xff" * 64, b"\x00\x00\x00\x04\xff\xff\xff\xff"], ids=["nothing", "too long", "no call"]
)
async def test_bytes_that_are_no_calls_end_their_connection_and_no_other(servicer: Scripted, sent: bytes) -> None:
    async with served(registration(servicer)) as target, ExchangeChannel(target) as channel:
        host, _, port = target.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        if sent == bytes(64):  # messages of no bytes are calls of no method
            writer.write_eof()
        async with asyncio.timeout(20):
            await reader.read(-1)
        writer.close()
        assert await ask(channel) == "Hi"


async def test_who_answers_in_no_replies_is_away(servicer: Scripted) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    (port,) = free_ports(1)
    async with await asyncio.start_server(nonsense, "127.0.0.1", port), ExchangeChannel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="are no replies") as caught:
            await ask(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_slow_call_holds_up_no_other(channel: ExchangeChannel, servicer: Scripted) -> None:
    held = servicer.release
    held.clear()
    slow = asyncio.create_task(ask(channel, "slow"))
    await servicer.entered.wait()
    servicer.release = asyncio.Event()
    servicer.release.set()
    assert await ask(channel, "fast") == "fast"
    assert not slow.done()
    held.set()
    assert await slow == "slow"


@pytest.mark.parametrize(
    ("raised", "code", "details"),
    [
        (errors.InvalidArgument("text: wanted less"), grpc.StatusCode.INVALID_ARGUMENT, "text: wanted less"),
        (errors.Retryable("away"), grpc.StatusCode.UNAVAILABLE, "away"),
        (KeyError("of the inside"), grpc.StatusCode.INTERNAL, "unexpected error; the service's log has the details"),
    ],
)
async def test_what_a_servicer_raises_is_the_calls_status(
    channel: ExchangeChannel, servicer: Scripted, raised: Exception, code: grpc.StatusCode, details: str
) -> None:
    servicer.raises = raised
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(channel)
    assert (caught.value.code(), caught.value.details()) == (code, details)


async def test_a_request_that_breaks_a_rule_is_refused(channel: ExchangeChannel) -> None:
    stub = channel.stub(governance_pb2_grpc.GovernanceStub)
    with pytest.raises(grpc.aio.AioRpcError, match="application") as caught:
        await stub.CheckOutput(governance_pb2.CheckOutputRequest())
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_method_that_there_is_not_cannot_be_asked(channel: ExchangeChannel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.stub(context_pb2_grpc.ContextStub).Stitch(context_pb2.StitchRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_that_is_late_fails_and_is_stopped(channel: ExchangeChannel, servicer: Scripted) -> None:
    servicer.release.clear()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(channel, seconds=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        await servicer.stopped.wait()


async def test_a_call_that_nobody_waits_for_is_stopped(channel: ExchangeChannel, servicer: Scripted) -> None:
    servicer.release.clear()
    call = asyncio.create_task(ask(channel))
    await servicer.entered.wait()
    call.cancel()
    async with asyncio.timeout(10):
        await servicer.stopped.wait()
    servicer.release.set()
    assert await ask(channel, "next") == "next"


async def test_whoever_is_away_is_away_and_whoever_comes_back_is_found(servicer: Scripted) -> None:
    grpc_port, port = free_ports(2)
    async with ExchangeChannel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        for _ in range(2):
            server = rpc.Server(ServiceSettings(grpc_port=grpc_port, drain_seconds=0), [registration(servicer)], port)
            await server.start()
            async with asyncio.timeout(20):
                while True:
                    try:
                        assert await ask(channel) == "Hi"
                        break
                    except grpc.aio.AioRpcError:
                        await asyncio.sleep(0.05)
            await server.stop()


async def test_a_server_that_stops_answers_what_it_was_asked_and_does_not_wait_for_the_connection(
    servicer: Scripted,
) -> None:
    grpc_port, port = free_ports(2)
    server = rpc.Server(ServiceSettings(grpc_port=grpc_port, drain_seconds=60), [registration(servicer)], port)
    await server.start()
    async with ExchangeChannel(f"127.0.0.1:{port}") as channel:
        servicer.release.clear()
        call = asyncio.create_task(ask(channel))
        await servicer.entered.wait()
        stopping = asyncio.create_task(server.stop())
        await until_nobody_listens(port)
        servicer.release.set()
        assert await call == "Hi"
        async with asyncio.timeout(30):
            await stopping


async def test_a_call_that_was_on_its_way_to_a_server_that_stops_is_answered(servicer: Scripted) -> None:
    grpc_port, port = free_ports(2)
    server = rpc.Server(ServiceSettings(grpc_port=grpc_port, drain_seconds=60), [registration(servicer)], port)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(frame(Call(id=1, method=f"/{NAME}/CheckOutput", request=question("one").SerializeToString())))
    assert (await reply(reader)).id == 1
    stopping = asyncio.create_task(server.stop())
    assert (await reply(reader)).id == LAST_CALL
    writer.write(frame(Call(id=2, method=f"/{NAME}/CheckOutput", request=question("two").SerializeToString())))
    assert (await reply(reader)).id == 2
    writer.close()
    async with asyncio.timeout(30):
        await stopping


async def test_while_a_server_stops_others_answer_new_calls(servicer: Scripted) -> None:
    *grpc_ports, port = free_ports(3)
    settings = [ServiceSettings(grpc_port=each, drain_seconds=60) for each in grpc_ports]
    stopping, next_one = (rpc.Server(each, [registration(servicer)], port) for each in settings)
    await stopping.start()
    async with ExchangeChannel(f"127.0.0.1:{port}") as channel:
        held = servicer.release
        held.clear()
        slow = asyncio.create_task(ask(channel, "slow"))
        await servicer.entered.wait()
        stopped = asyncio.create_task(stopping.stop())
        await until_nobody_listens(port)
        await next_one.start()
        servicer.release = asyncio.Event()
        servicer.release.set()
        async with asyncio.timeout(20):
            while True:  # until it is told
                try:
                    assert [await ask(channel, text) for text in "abc"] == ["a", "b", "c"]
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.01)
        assert not slow.done()
        held.set()
        assert await slow == "slow"
        await stopped
        await next_one.stop()


async def test_whoever_takes_a_connection_and_ends_it_is_away() -> None:
    async def turn_away(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def ends(channel: ExchangeChannel) -> grpc.StatusCode:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(channel, seconds=10)
        code: grpc.StatusCode = caught.value.code()
        return code

    (port,) = free_ports(1)
    async with (
        await asyncio.start_server(turn_away, "127.0.0.1", port),
        ExchangeChannel(f"127.0.0.1:{port}") as channel,
    ):
        for _ in range(20):
            found = await asyncio.gather(*(ends(channel) for _ in range(5)))
            assert set(found) == {grpc.StatusCode.UNAVAILABLE}


async def test_a_call_on_a_connection_that_has_just_ended_can_be_cancelled(channel: ExchangeChannel) -> None:
    assert await ask(channel) == "Hi"
    assert channel._connection is not None
    call = asyncio.create_task(ask(channel, "never sent"))
    await asyncio.sleep(0)
    channel._connection._writer.transport.abort()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await ask(channel, "again") == "again"


async def test_calls_that_are_stopped_before_they_begin_get_no_answer_and_the_next_one_does(
    servicer: Scripted,
) -> None:
    stopped = [Call(id=id_ // 2, method=f"/{NAME}/CheckOutput", cancelled=bool(id_ % 2)) for id_ in range(2, 202)]
    last = Call(id=200, method=f"/{NAME}/CheckOutput", request=question().SerializeToString())
    async with served(registration(servicer)) as target:
        host, _, port = target.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        for call in (*stopped, last):
            writer.write(frame(call))
        async with asyncio.timeout(20):
            answered = await reply(reader)
        assert (answered.id, answered.status) == (200, b"")
        writer.close()


@pytest.mark.parametrize("target", ["governance", "governance:", ":18092", "governance:http"])
def test_a_target_that_is_none_is_said_at_once(target: str) -> None:
    with pytest.raises(errors.Fatal, match="wanted host:port"):
        ExchangeChannel(target)


async def test_a_call_belongs_to_its_callers_trace(channel: ExchangeChannel, servicer: Scripted) -> None:
    tracer = TracerProvider().get_tracer("test")
    with tracer.start_as_current_span("caller") as span:
        await ask(channel)
    assert servicer.trace_id == span.get_span_context().trace_id
