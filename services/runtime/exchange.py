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
from functools import partial
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, status_pb2

from gyre.api.exchange.v1.exchange_pb2 import Call, Reply
from services.runtime import telemetry, tracing
from services.runtime.errors import Fatal
from services.runtime.tls import Tls, peer_identities

# Of a request or a response.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# Of what is around one.
_ENVELOPE_BYTES = 64 * 1024
# What may wait to be taken by the other side; beyond that it is as good as away.
_BUFFER_BYTES = 16 * MAX_MESSAGE_BYTES
# After so long without a sign of life from the other side's machine, it is away.
_SILENCE_SECONDS = 5.0
# The id of a reply to no call: the other side is stopping, and takes no more calls on this connection.
LAST_CALL = 0
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
    """Answers calls of a service's unary methods; with TLS, of these callers alone."""

    def __init__(
        self, methods: Mapping[str, Method], tls: Tls | None = None, callers: frozenset[str] = frozenset()
    ) -> None:
        self._methods = methods
        self._tls = tls
        self._callers = callers
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[Any]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            Fatal: The port is taken.
        """
        secured: dict[str, Any] = {}
        if self._tls is not None:
            secured = {"ssl": self._tls.server_context(mutual=True), "ssl_handshake_timeout": _SILENCE_SECONDS}
        try:
            self._server = await asyncio.start_server(self._serve, host, port, **secured)
        except OSError as error:
            raise Fatal(f"cannot listen on {host}:{port}; is something else there?") from error

    async def stop(self, drain_seconds: float) -> None:
        """Have others ask elsewhere, let running calls end within the drain time, then cut them."""
        if self._server is None:
            return
        self._server.close()
        for writer in self._connections:
            _write(writer, Reply(id=LAST_CALL))
        if self._connections:  # each is ended by the other side, which alone knows of calls that are on their way
            await asyncio.wait(list(self._connections.values()), timeout=drain_seconds)
        ending = [*self._connections.values(), *self._answering]
        for writer in self._connections:
            writer.close()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the calls of one connection."""
        if self._tls is not None:
            found = peer_identities(writer.get_extra_info("ssl_object"))
            if not found & self._callers:
                telemetry.log_refused("exchange", found)
                writer.close()
                return
        serving = asyncio.current_task()
        assert serving is not None
        self._connections[writer] = serving
        _watch(writer)
        answering: dict[int, asyncio.Task[None]] = {}
        try:
            while True:
                call = Call.FromString(await _read(reader))
                if call.cancelled:
                    if call.id in answering:
                        answering[call.id].cancel()
                    continue
                task = answering[call.id] = asyncio.create_task(self._answer(call, writer))
                self._answering.add(task)
                # Not within the task: one that is cancelled before its first step has none.
                task.add_done_callback(partial(self._ended, call.id, answering))
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

    def _ended(self, id_: int, answering: dict[int, asyncio.Task[None]], task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        answering.pop(id_, None)  # a peer may use a number twice

    async def _answer(self, call: Call, writer: asyncio.StreamWriter) -> None:
        try:
            _write(writer, Reply(id=call.id, response=await self._response(call)))
        except StatusError as failed:
            _write(writer, Reply(id=call.id, status=failed.status.SerializeToString()))

    async def _response(self, call: Call) -> bytes:
        method = self._methods.get(call.method)
        if method is None:
            raise _status(code_pb2.UNIMPLEMENTED, f"there is no method {call.method}")
        response = await method(call.request, call.method, call.traceparent)
        if len(response) > MAX_MESSAGE_BYTES:
            raise _status(code_pb2.RESOURCE_EXHAUSTED, _too_large("response", len(response)))
        return response


class _Connection:
    """One connection of a channel, and the calls on it that are not answered yet."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.waiting: dict[int, asyncio.Future[Reply]] = {}
        self._reader = reader
        self._writer = writer
        self._is_told_to_end = False

    @property
    def takes_calls(self) -> bool:
        """Whether it is open, and the other side has not said that it is stopping."""
        return not (self._is_told_to_end or self._writer.is_closing())

    def send(self, call: Call) -> None:
        """Write a call; on a connection that has ended, nothing."""
        _write(self._writer, call)

    async def read(self) -> None:
        """Hand out replies until the connection ends, or is to end and all is answered; what is not has failed."""
        ended = "the other side has ended the connection"
        try:
            while not self._is_told_to_end or any(not future.done() for future in self.waiting.values()):
                reply = Reply.FromString(await _read(self._reader))
                if reply.id == LAST_CALL:
                    self._is_told_to_end = True
                future = self.waiting.get(reply.id)
                if future is not None and not future.done():
                    future.set_result(reply)
        except (EOFError, OSError):
            pass
        except (DecodeError, ValueError) as error:
            ended = f"what it says are no replies: {error}"
        finally:
            self._writer.close()
            for future in self.waiting.values():
                if not future.done():
                    future.set_exception(_error(grpc.StatusCode.UNAVAILABLE, ended))


class ExchangeChannel:
    """In the place of a `grpc.aio.Channel`. It connects when first needed, and again when the other side is back."""

    def __init__(self, target: str, tls: Tls | None = None) -> None:
        """Take where the other side listens, as host:port, and with what it is spoken to.

        Raises:
            Fatal: It is not of that form.
        """
        host, _, port = target.rpartition(":")
        if not host or not port.isdecimal():
            raise Fatal(f"{target!r} is not where a service listens; wanted host:port")
        self._host, self._port = host.strip("[]"), int(port)
        self._target = target
        self._tls = tls
        self._ids = itertools.count(LAST_CALL + 1)
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._reading: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running: list[asyncio.Task[Any]] = [*self._reading, *([self._connecting] if self._connecting else [])]
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
        id_, connection, due = next(self._ids), self._connection, None if seconds is None else loop.time() + seconds
        if connection is None or not connection.takes_calls:
            connection = await self._connected(due)
        future = connection.waiting[id_] = loop.create_future()
        timer = None if due is None else loop.call_at(due, _time_out, future)
        try:
            connection.send(Call(id=id_, method=method, request=request, traceparent=tracing.traceparent()))
            reply = await future
        except TimeoutError as error:
            connection.send(Call(id=id_, cancelled=True))
            raise _late() from error
        except asyncio.CancelledError:
            connection.send(Call(id=id_, cancelled=True))
            raise
        finally:
            if timer is not None:
                timer.cancel()
            del connection.waiting[id_]
        if reply.status:
            status = status_pb2.Status.FromString(reply.status)
            raise _error(_CODES.get(status.code, grpc.StatusCode.UNKNOWN), status.message)
        response: bytes = reply.response
        return response

    async def _connected(self, due: float | None) -> _Connection:
        """Return a connection; who asks meanwhile waits for the same."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect())
        try:
            async with asyncio.timeout_at(due):
                connection = await asyncio.shield(self._connecting)
        except TimeoutError as error:
            raise _late() from error
        if not connection.takes_calls:  # it may end before whoever waited for it goes on
            raise _error(grpc.StatusCode.UNAVAILABLE, f"{self._target} has ended the connection")
        return connection

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                secured = None if self._tls is None else self._tls.client_context()
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=secured)
        except (OSError, TimeoutError) as error:
            raise _error(grpc.StatusCode.UNAVAILABLE, f"{self._target} does not answer: {error}") from error
        finally:
            self._connecting = None
        _watch(writer)
        connection = self._connection = _Connection(reader, writer)
        reading = asyncio.create_task(connection.read())
        self._reading.add(reading)
        reading.add_done_callback(self._reading.discard)
        return connection


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
    """Write a message; on a connection that has ended, nothing: its reader is told."""
    if writer.is_closing():
        return
    if writer.transport.get_write_buffer_size() > _BUFFER_BYTES:
        writer.transport.abort()
        return
    encoded = message.SerializeToString()
    writer.write(_LENGTH.pack(len(encoded)) + encoded)


def _watch(writer: asyncio.StreamWriter) -> None:
    """Have the kernel end a connection whose other side is gone without a word, or takes nothing for as long."""
    connection = writer.get_extra_info("socket")
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, round(_SILENCE_SECONDS)),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(_SILENCE_SECONDS * 1000)),
    ):
        connection.setsockopt(level, option, value)


def _time_out(future: asyncio.Future[Reply]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


def _too_large(what: str, size: int) -> str:
    return f"{what}: {size} bytes; wanted at most {MAX_MESSAGE_BYTES}"


def _status(code: int, message: str) -> StatusError:
    return StatusError(status_pb2.Status(code=code, message=message))


def _late() -> grpc.aio.AioRpcError:
    return _error(grpc.StatusCode.DEADLINE_EXCEEDED, "no answer in time")


def _error(code: grpc.StatusCode, details: str | None) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


_CODES = {code.value[0]: code for code in grpc.StatusCode}
