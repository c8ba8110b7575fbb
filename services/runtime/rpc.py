"""gRPC: one server per process with validation, deadlines, rich errors, health and reflection; channels to others.

Where other services ask many things at once, the same methods are there by `runtime.exchange` too.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pool, duration_pb2
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from services.runtime import edges, errors, telemetry, tracing, validation
from services.runtime.callers import Callers
from services.runtime.exchange import MAX_MESSAGE_BYTES, ExchangeServer, Method, StatusError
from services.runtime.settings import ServiceSettings
from services.runtime.tls import Renewed, Tls

OPTIONS = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a taken port is an error, not a second server behind it
]

_STATUS: list[tuple[type[errors.ServiceError], grpc.StatusCode]] = [
    (errors.InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Unimplemented, grpc.StatusCode.UNIMPLEMENTED),
    (errors.Rejected, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.ResourceExhausted, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Retryable, grpc.StatusCode.UNAVAILABLE),
]


@dataclass(frozen=True)
class Registration:
    """A servicer and how it is added to a server.

    Attributes:
        add: The generated `add_<Service>Servicer_to_server`.
        servicer: Its implementation.
        name: Full name of the service, for reflection and health.
    """

    add: Callable[[Any, Any], None]
    servicer: Any
    name: str


class Server:
    """A gRPC server with everything that each service of Gyre has in common, and where others ask many things at once.

    What is asked that way comes without a context. With TLS, only those are answered who may ask the service (`edges`).
    """

    def __init__(
        self,
        settings: ServiceSettings,
        registrations: Sequence[Registration],
        exchange_port: int = 0,
        *,
        service: str = "",
        tls: Tls | None = None,
    ) -> None:
        self._settings = settings
        self._exchange_port = exchange_port
        self._names = [registration.name for registration in registrations]
        self._tls = tls
        self._is_mutual = not edges.is_public(service, "grpc")
        interceptors: list[grpc.aio.ServerInterceptor] = [_Edge()]
        if tls is not None and self._is_mutual:
            interceptors.insert(0, Callers(edges.callers(service, "grpc")))
        # gRPC cancels calls that come while its server stops (https://github.com/grpc/grpc/issues/41785); a connection
        # that ends by its age loses none.
        age = ("grpc.max_connection_age_ms", round(settings.connection_seconds * 1000))
        self._server = grpc.aio.server(interceptors=interceptors, options=[*OPTIONS, age])
        self._health = health.aio.HealthServicer()
        for registration in registrations:
            registration.add(registration.servicer, self._server)
            pool: Any = descriptor_pool.Default()  # type: ignore[no-untyped-call] # protobuf's own
            for method in pool.FindServiceByName(registration.name).methods:
                validation.compile_rules(method.input_type)
        self._exchange = ExchangeServer(
            {path: method for each in registrations for path, method in _methods(each).items()},
            tls,
            edges.callers(service, "exchange"),
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)

    async def start(self) -> None:
        """Listen. Health says NOT_SERVING until `set_serving`.

        Raises:
            Fatal: The port is taken.
        """
        address = f"{self._settings.host}:{self._settings.grpc_port}"
        await self._set("", health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            if self._tls is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, self._tls.server_credentials(mutual=self._is_mutual))
        except RuntimeError as error:
            raise errors.Fatal(f"cannot listen on {address}; is something else there?") from error
        await self._server.start()
        if self._exchange_port:
            await self._exchange.start(self._settings.host, self._exchange_port)

    async def set_serving(self) -> None:
        """Say to those who ask that calls are welcome."""
        for name in ["", *self._names]:
            await self._set(name, health_pb2.HealthCheckResponse.SERVING)
        telemetry.SERVING.set(1)

    async def stop(self) -> None:
        """Take no new calls, let running ones end within the drain time, then cut them."""
        telemetry.SERVING.set(0)
        await self._health.enter_graceful_shutdown()
        drain_seconds = self._settings.drain_seconds
        await asyncio.gather(self._exchange.stop(drain_seconds), self._server.stop(drain_seconds))

    async def _set(self, name: str, status: Any) -> None:
        await self._health.set(name, status)


class _Edge(grpc.aio.ServerInterceptor):
    """What happens to every call at the edge: validation, errors to statuses, time measured."""

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        if handler.unary_unary:
            return grpc.unary_unary_rpc_method_handler(
                _unary(details.method, handler.unary_unary, handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                _stream(details.method, handler.unary_stream, handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        return handler


def _unary(
    method: str, behaviour: Callable[[Any, Any], Awaitable[Any]], decode: Callable[[bytes], Message]
) -> Callable[[Any, Any], Awaitable[Any]]:
    async def call(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            with _measured(method, _traceparent(context)):
                return await behaviour(_valid(request, decode), context)
        except StatusError as failed:
            return await context.abort_with_status(rpc_status.to_status(failed.status))

    return call


def _stream(
    method: str, behaviour: Callable[[Any, Any], Any], decode: Callable[[bytes], Message]
) -> Callable[[Any, Any], Any]:
    async def call(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        try:
            with _measured(method, _traceparent(context)):
                # Closed at once when the caller goes away, so that what stands behind it stops too.
                async with aclosing(behaviour(_valid(request, decode), context)) as responses:
                    async for response in responses:
                        yield response
        except StatusError as failed:
            await context.abort_with_status(rpc_status.to_status(failed.status))

    return call


def _methods(registration: Registration) -> dict[str, Method]:
    """Return the unary methods of a servicer, to be asked without a gRPC call of their own."""

    def method(handler: Any) -> Method:
        async def answer(request: bytes, method: str, traceparent: str) -> bytes:
            with _measured(method, traceparent):
                response = await handler.unary_unary(_valid(request, handler.request_deserializer), None)
            encoded: bytes = handler.response_serializer(response)
            return encoded

        return answer

    handlers = _Handlers()
    registration.add(registration.servicer, handlers)
    return {
        f"/{registration.name}/{name}": method(handler)
        for name, handler in handlers.of_methods.items()
        if handler.unary_unary
    }


class _Handlers:
    """Takes the place of a server, to learn what generated code would add to one."""

    def __init__(self) -> None:
        self.of_methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Take what says the same again."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Take in the handlers of a service's methods."""
        self.of_methods = handlers


def _traceparent(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    return str(dict(context.invocation_metadata() or ()).get("traceparent", ""))


@contextmanager
def _measured(method: str, traceparent: str) -> Iterator[None]:
    """Turn what a servicer raises into a status; what it did not mean to raise is logged and not shown.

    Raises:
        StatusError: It holds that status.
    """
    started = time.perf_counter()
    status = status_pb2.Status()
    under_way = telemetry.in_flight(method)
    under_way.inc()
    try:
        with tracing.span(method, traceparent):
            yield
    except errors.ServiceError as error:
        status = status_of(error)
        raise StatusError(status) from error
    except (asyncio.CancelledError, GeneratorExit):
        status.code = code_pb2.CANCELLED
        raise
    except Exception as error:
        telemetry.log().error("call failed unexpectedly", method=method, exc_info=error)
        status = status_of(errors.Fatal("unexpected error; the service's log has the details"))
        raise StatusError(status) from error
    finally:
        under_way.dec()
        code = code_pb2.Code.Name(status.code)
        telemetry.RPC_SECONDS.labels(method, code).observe(time.perf_counter() - started)


class InvalidFields(errors.InvalidArgument):
    """One or more fields of a request break their rules."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {wanted}" for path, wanted in fields))
        self.fields = fields


def _valid(request: bytes, decode: Callable[[bytes], Message]) -> Message:
    """Return a request that is one and keeps the rules of its proto.

    Raises:
        InvalidArgument: It is none, or does not.
    """
    try:
        message = decode(request)
    except DecodeError as error:
        raise errors.InvalidArgument("request: wanted a message of the method's type") from error
    found = list(validation.violations(message))
    if found:
        raise InvalidFields(found)
    return message


def status_of(error: errors.ServiceError) -> status_pb2.Status:
    """Return the rich status that a caller gets for an error."""
    code = next((code for kind, code in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=str(error))
    if isinstance(error, errors.InvalidArgument) and error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=path, description=wanted) for path, wanted in error.fields
        ]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    if isinstance(error, errors.ResourceExhausted):
        delay = duration_pb2.Duration()
        delay.FromTimedelta(timedelta(seconds=error.retry_after_seconds))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def error_from(error: grpc.aio.AioRpcError, what: str) -> errors.ServiceError:
    """Return the error that a failed call to another service means here.

    Args:
        error: What grpc raised.
        what: The service called, for the message.
    """
    code, message = error.code(), f"{what}: {error.details()}"
    for kind, known in _STATUS:
        if code is known:
            return kind(message)
    # ABORTED, and what is that service's own trouble: INTERNAL, UNKNOWN.
    return errors.Retryable(message)


def channel(target: str, tls: Tls | None = None) -> grpc.aio.Channel:
    """Return a channel to another service. It connects when first used, and again when the other side returns.

    Args:
        target: Where the other side listens, as host:port.
        tls: With what it is spoken to; None: in the clear.
    """
    options = [
        *OPTIONS,
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
    ]
    if tls is None:
        return grpc.aio.insecure_channel(target, interceptors=[_Traced()], options=options)

    def make(credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        assert credentials is not None
        return grpc.aio.secure_channel(target, credentials, options=options, interceptors=[_Traced()])

    return cast(grpc.aio.Channel, _RenewedChannel(Renewed(tls, make)))


class _Traced(grpc.aio.UnaryUnaryClientInterceptor):
    """Tells the service called which trace the call belongs to (W3C Trace Context)."""

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        headers = tracing.headers()
        if not headers:
            return await continuation(details, request)
        metadata = grpc.aio.Metadata(*(details.metadata or ()), *headers.items())
        return await continuation(details._replace(metadata=metadata), request)


class _RenewedChannel:
    """In the place of a `grpc.aio.Channel`, which keeps its certificate for good: calls go by one with today's."""

    def __init__(self, channels: Renewed[grpc.aio.Channel]) -> None:
        self._channels = channels

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for made in self._channels.made:
            await made.close()

    def unary_unary(self, *of_method: Any, **options: Any) -> Callable[..., Any]:
        """Return what calls a method, as a channel does."""
        return lambda *call, **how: self._channels.current().unary_unary(*of_method, **options)(*call, **how)

    def unary_stream(self, *of_method: Any, **options: Any) -> Callable[..., Any]:
        """Return what calls a method that answers with a stream, as a channel does."""
        return lambda *call, **how: self._channels.current().unary_stream(*of_method, **options)(*call, **how)

    def stream_stream(self, *of_method: Any, **options: Any) -> Callable[..., Any]:
        """Return what calls a method of two streams, as a channel does."""
        return lambda *call, **how: self._channels.current().stream_stream(*of_method, **options)(*call, **how)


async def wait_serving(target: str, seconds: float = 60.0, tls: Tls | None = None) -> None:
    """Wait until a service's health says SERVING; arguments as for `channel`.

    Raises:
        Retryable: It did not within the time.
    """
    deadline = time.monotonic() + seconds
    async with channel(target, tls) as to:
        stub: Any = health_pb2_grpc.HealthStub(to)  # its types lack the method
        while time.monotonic() < deadline:
            try:
                answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.aio.AioRpcError:
                pass
            await asyncio.sleep(0.1)
    raise errors.Retryable(f"{target} does not serve after {seconds:.0f} s")
