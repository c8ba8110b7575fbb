"""Calls between services of Gyre, many at once on one stream (`gyre.api.exchange.v1`).

What a unary call costs in Python is mostly the call and not the message. So calls wait for one another while a message
is being written: who is alone goes at once, and the busier it is, the more go together.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.rpc import code_pb2, status_pb2
from opentelemetry import propagate

from gyre.api.exchange.v1 import exchange_pb2, exchange_pb2_grpc

# Of what goes together; a single call or reply may be larger.
BATCH_BYTES = 1024 * 1024


class StatusError(Exception):
    """A call has a status in the place of a response."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


# Answers a call of a unary method: takes the request, the method's full name and the caller's W3C trace, returns the
# response, and raises `StatusError`.
Method = Callable[[bytes, str, str], Awaitable[bytes]]


class _Waiting:
    """Calls or replies that wait for the next message."""

    def __init__(self) -> None:
        self._items: deque[Any] = deque()
        self._some = asyncio.Event()
        self._is_closed = False

    def put(self, item: exchange_pb2.Call | exchange_pb2.Reply) -> None:
        """Let one more wait."""
        self._items.append(item)
        self._some.set()

    def close(self) -> None:
        """Let `take` return nothing once nothing waits."""
        self._is_closed = True
        self._some.set()

    async def take(self) -> list[Any]:
        """Return what waits, as much of it as goes together; nothing when it is closed."""
        await self._some.wait()
        taken: list[Any] = []
        size = 0
        while self._items and (not taken or size + self._items[0].ByteSize() <= BATCH_BYTES):
            taken.append(self._items.popleft())
            size += taken[-1].ByteSize()
        if not self._items and not self._is_closed:
            self._some.clear()
        return taken


class ExchangeServicer(exchange_pb2_grpc.ExchangeServicer):
    """Answers calls of a service's unary methods."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._open: set[_Waiting] = set()

    def close(self) -> None:
        """Let each stream end when what came on it is answered: by themselves they would outlast any drain."""
        for replies in self._open:
            replies.close()

    async def Open(  # noqa: N802 - the name that protos/ gives it
        self, request_iterator: AsyncIterator[exchange_pb2.OpenRequest], context: Any
    ) -> AsyncIterator[exchange_pb2.OpenResponse]:
        """Answer the calls of one stream."""
        replies, running = _Waiting(), dict[int, asyncio.Task[None]]()
        self._open.add(replies)
        reading = asyncio.create_task(self._read(request_iterator, replies, running))
        try:
            while (taken := await replies.take()) or running:
                if taken:
                    yield exchange_pb2.OpenResponse(replies=taken)
                else:
                    await asyncio.wait(running.values())
        finally:
            self._open.discard(replies)
            for task in (reading, *running.values()):
                task.cancel()

    async def _read(
        self,
        requests: AsyncIterator[exchange_pb2.OpenRequest],
        replies: _Waiting,
        running: dict[int, asyncio.Task[None]],
    ) -> None:
        async for request in requests:
            for call in request.calls:
                if not call.cancelled:
                    running[call.id] = asyncio.create_task(self._answer(call, replies, running))
                elif call.id in running:
                    running[call.id].cancel()
        replies.close()

    async def _answer(self, call: exchange_pb2.Call, replies: _Waiting, running: dict[int, asyncio.Task[None]]) -> None:
        try:
            async with asyncio.timeout(call.timeout_ms / 1000 if call.timeout_ms else None):
                replies.put(exchange_pb2.Reply(id=call.id, response=await self._response(call)))
        except StatusError as failed:
            replies.put(exchange_pb2.Reply(id=call.id, status=failed.status.SerializeToString()))
        except TimeoutError:
            pass  # by now the caller has stopped waiting by itself
        finally:
            del running[call.id]

    async def _response(self, call: exchange_pb2.Call) -> bytes:
        method = self._methods.get(call.method)
        if method is None:
            raise StatusError(
                status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message=f"there is no method {call.method}")
            )
        return await method(call.request, call.method, call.traceparent)


class ExchangeChannel:
    """In the place of a `grpc.aio.Channel`. It connects when first needed, and again when the other side is back."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._stub: Any = exchange_pb2_grpc.ExchangeStub(channel)  # the same stub serves both kinds of channel
        self._ids = 0
        self._calls = _Waiting()
        self._replies: dict[int, asyncio.Future[exchange_pb2.Reply]] = {}
        self._running: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        await self._channel.close()

    def stub(self, kind: Callable[[Any], Any]) -> Any:
        """Return a service's generated stub, of which the unary methods go by this channel."""
        return kind(self)

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_: Any,
    ) -> Callable[..., Awaitable[Any]]:
        """Return what calls a method: with a request, and a timeout in seconds.

        That raises `grpc.aio.AioRpcError`, as a call by itself does.
        """

        async def call(request: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as stubs name it
            return response_deserializer(await self._response(method, request_serializer(request), timeout))

        return call

    async def _response(self, method: str, request: bytes, seconds: float | None) -> bytes:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        self._ids += 1
        id_ = self._ids
        future = self._replies[id_] = asyncio.get_running_loop().create_future()
        self._calls.put(
            exchange_pb2.Call(
                id=id_,
                method=method,
                request=request,
                timeout_ms=max(1, round(seconds * 1000)) if seconds else 0,
                traceparent=carrier.get("traceparent", ""),
            )
        )
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(seconds):
                reply = await future
        except TimeoutError as error:
            self._calls.put(exchange_pb2.Call(id=id_, cancelled=True))
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time") from error
        except asyncio.CancelledError:
            self._calls.put(exchange_pb2.Call(id=id_, cancelled=True))
            raise
        finally:
            del self._replies[id_]
        if reply.status:
            status = status_pb2.Status.FromString(reply.status)
            raise _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
        response: bytes = reply.response
        return response

    async def _run(self) -> None:
        """Write what waits and read what comes, until the stream ends; what is then unanswered has failed."""
        stream = self._stub.Open()
        sides = [asyncio.create_task(self._read(stream)), asyncio.create_task(self._write(stream))]
        try:
            await asyncio.wait(sides, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for side in sides:
                side.cancel()
            ended = await asyncio.gather(*sides, return_exceptions=True)
            stream.cancel()
        self._calls = _Waiting()
        failure = next((error for error in ended if isinstance(error, grpc.aio.AioRpcError)), _ENDED)
        for future in self._replies.values():
            if not future.done():
                future.set_exception(_error(failure.code(), failure.details()))

    async def _write(self, stream: Any) -> None:
        while True:
            await stream.write(exchange_pb2.OpenRequest(calls=await self._calls.take()))

    async def _read(self, stream: Any) -> None:
        while (response := await stream.read()) is not grpc.aio.EOF:
            for reply in response.replies:
                future = self._replies.get(reply.id)
                if future is not None and not future.done():
                    future.set_result(reply)
        await stream.code()  # raises what ended it
        raise _ENDED


def _error(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


_ENDED = _error(grpc.StatusCode.UNAVAILABLE, "the other side has ended the stream")
_CODES = {code.value[0]: code for code in grpc.StatusCode}
