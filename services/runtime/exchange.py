"""Calls between services of Gyre, many at once on one connection (`gyre.api.exchange.v1`).

What a gRPC call costs in Python is mostly gRPC's own thread and what passes between it and the event loop. Here both
sides write on the event loop, and what is written in one turn of it leaves together: who is alone goes at once, and the
busier it is, the more go together.
"""

import asyncio
import itertools
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, status_pb2
from opentelemetry import propagate, trace

from gyre.api.exchange.v1.exchange_pb2 import Call, Reply
from services.runtime import telemetry
from services.runtime.errors import Fatal

# Of a request or a response.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# Of what is around one.
_ENVELOPE_BYTES = 64 * 1024
# What may wait to be taken by the other side; beyond that it is as good as away.
_BUFFER_BYTES = 16 * MAX_MESSAGE_BYTES
# After so long without a sign of life from the other side's machine, it is away.
_SILENCE_SECONDS = 5.0
_LENGTH = struct.Struct(">I")


class StatusError(Exception):
    """A call has a status in the place of a response."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.message)
        self.status = status


# Answers a call of a unary method: takes the request, the method's full name and the caller's W3C trace, returns the
# response, and raises `StatusError`.
Method = Callable[[bytes, str, str], Awaitable[bytes]]


class ExchangeServer:
    """Answers calls of a service's unary methods."""

    def __init__(self, methods: Mapping[str, Method]) -> None:
        self._methods = methods
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            Fatal: The port is taken.
        """
        try:
            self._server = await asyncio.start_server(self._serve, host, port)
        except OSError as error:
            raise Fatal(f"cannot listen on {host}:{port}; is something else there?") from error

    async def stop(self, drain_seconds: float) -> None:
        """Take no new calls, let running ones end within the drain time, then cut them."""
        self._is_stopping = True
        if self._server is None:
            return
        self._server.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=drain_seconds)
        serving = list(self._connections.values())
        for connection in serving:
            connection.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        serving = asyncio.current_task()
        assert serving is not None
        self._connections[writer] = serving
        answering: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                call = Call.FromString(await _read(reader))
                if not call.cancelled:
                    task = answering[call.id] = asyncio.create_task(self._answer(call, writer, answering))
                    self._answering.add(task)
                    task.add_done_callback(self._answering.discard)
                elif call.id in answering:
                    answering[call.id].cancel()
                await writer.drain()  # who does not take replies is not read from
        except (EOFError, OSError):
            pass  # the other side has gone
        except (DecodeError, ValueError) as error:
            telemetry.log().warning("connection closed", reason=f"its bytes are no calls: {error}")
        finally:
            del self._connections[writer]
            for task in answering.values():
                task.cancel()
            writer.close()

    async def _answer(self, call: Call, writer: asyncio.StreamWriter, answering: dict[int, asyncio.Task[None]]) -> None:
        try:
            _write(writer, Reply(id=call.id, response=await self._response(call)))
        except StatusError as failed:
            _write(writer, Reply(id=call.id, status=failed.status.SerializeToString()))
        finally:
            del answering[call.id]

    async def _response(self, call: Call) -> bytes:
        if self._is_stopping:
            raise _status(code_pb2.UNAVAILABLE, "the service is stopping")
        method = self._methods.get(call.method)
        if method is None:
            raise _status(code_pb2.UNIMPLEMENTED, f"there is no method {call.method}")
        response = await method(call.request, call.method, call.traceparent)
        if len(response) > MAX_MESSAGE_BYTES:
            raise _status(code_pb2.RESOURCE_EXHAUSTED, _too_large("response", len(response)))
        return response


class ExchangeChannel:
    """In the place of a `grpc.aio.Channel`. It connects when first needed, and again when the other side is back."""

    def __init__(self, target: str) -> None:
        """Take where the other side listens, as host:port."""
        self._target = target
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connecting: asyncio.Task[asyncio.StreamWriter] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = [task for task in (self._connecting, self._reading) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

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

        That raises `grpc.aio.AioRpcError`, as a gRPC call does.
        """

        async def call(request: Any, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - as stubs name it
            return response_deserializer(await self._response(method, request_serializer(request), timeout))

        return call

    async def _response(self, method: str, request: bytes, seconds: float | None) -> bytes:
        if len(request) > MAX_MESSAGE_BYTES:
            raise _error(grpc.StatusCode.RESOURCE_EXHAUSTED, _too_large("request", len(request)))
        loop = asyncio.get_running_loop()
        id_, writer, due = next(self._ids), self._writer, None if seconds is None else loop.time() + seconds
        timer = None
        try:
            if writer is None:
                async with asyncio.timeout_at(due):
                    writer = await self._connected()
            future = self._waiting[id_] = loop.create_future()
            timer = None if due is None else loop.call_at(due, _time_out, future)
            _write(writer, Call(id=id_, method=method, request=request, traceparent=_traceparent()))
            reply = await future
        except TimeoutError as error:
            self._stop(id_, writer)
            raise _error(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time") from error
        except asyncio.CancelledError:
            self._stop(id_, writer)
            raise
        finally:
            if timer is not None:
                timer.cancel()
            self._waiting.pop(id_, None)
        if reply.status:
            status = status_pb2.Status.FromString(reply.status)
            raise _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
        response: bytes = reply.response
        return response

    def _stop(self, id_: int, writer: asyncio.StreamWriter | None) -> None:
        """Tell the other side, if it was asked, that nobody waits any more."""
        if writer is not None and writer is self._writer:
            _write(writer, Call(id=id_, cancelled=True))

    async def _connected(self) -> asyncio.StreamWriter:
        """Return a connection; who asks meanwhile waits for the same."""
        if self._writer is not None:
            return self._writer
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        return await asyncio.shield(self._connecting)

    async def _connect(self) -> asyncio.StreamWriter:
        host, _, port = self._target.rpartition(":")
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                reader, writer = await asyncio.open_connection(host, int(port))
        except (OSError, TimeoutError) as error:
            raise _error(grpc.StatusCode.UNAVAILABLE, f"{self._target} does not answer: {error}") from error
        finally:
            self._connecting = None
        # A process that is slow still has its kernel acknowledge; what is gone without a word does not.
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_SILENCE_SECONDS * 1000))
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader, writer))
        return writer

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand out replies until the connection ends; what is then unanswered has failed."""
        ended = "the other side has ended the connection"
        try:
            while True:
                reply = Reply.FromString(await _read(reader))
                future = self._waiting.get(reply.id)
                if future is not None and not future.done():
                    future.set_result(reply)
        except (EOFError, OSError):
            pass
        except (DecodeError, ValueError) as error:
            ended = f"what {self._target} says are no replies: {error}"
        finally:
            self._writer = None
            writer.close()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(_error(grpc.StatusCode.UNAVAILABLE, ended))


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return the next message.

    Raises:
        EOFError: The other side has ended the connection.
        ValueError: What follows is none.
    """
    (size,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if size > MAX_MESSAGE_BYTES + _ENVELOPE_BYTES:
        raise ValueError(f"a message of {size} bytes; wanted at most {MAX_MESSAGE_BYTES + _ENVELOPE_BYTES}")
    return await reader.readexactly(size)


def _write(writer: asyncio.StreamWriter, message: Message) -> None:
    if writer.transport.get_write_buffer_size() > _BUFFER_BYTES:
        writer.transport.abort()  # the reader is told that the connection has ended
        return
    encoded = message.SerializeToString()
    writer.write(_LENGTH.pack(len(encoded)) + encoded)


def _time_out(future: asyncio.Future[Reply]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _traceparent() -> str:
    if not trace.get_current_span().get_span_context().is_valid:
        return ""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent", "")


def _too_large(what: str, size: int) -> str:
    return f"{what}: {size} bytes; wanted at most {MAX_MESSAGE_BYTES}"


def _status(code: int, message: str) -> StatusError:
    return StatusError(status_pb2.Status(code=code, message=message))


def _error(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


_CODES = {code.value[0]: code for code in grpc.StatusCode}
