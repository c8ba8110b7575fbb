"""Who may call a gRPC server, by the certificate that they showed."""

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import lru_cache
from typing import Any

import grpc
import grpc.aio
from cryptography import x509

from services.runtime import telemetry
from services.runtime.edges import EDGES
from services.runtime.tls import identities

_KNOWN = frozenset(edge.caller for edge in EDGES)


def named(said: str, shown: frozenset[str]) -> str:
    """Return somebody's name for the record: as they gave it, and whose certificate they showed.

    Args:
        said: As they gave it; empty: they gave none.
        shown: Who they are by their certificate. One for development is good for `localhost` too, which is nobody.
    """
    return " as ".join(each for each in (said, ", ".join(sorted(shown & _KNOWN))) if each)


def asker(said: str, context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return the name of who asks, for the record: as they gave it, and as their certificate proves."""
    return named(said, _shown(context))


class Callers(grpc.aio.ServerInterceptor):
    """Turns away who has a certificate and may not ask here: of health and reflection too."""

    def __init__(self, callers: frozenset[str]) -> None:
        self._callers = callers

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Put the question before what answers."""
        handler = await continuation(details)
        if handler is None:
            return None
        sides = (handler.request_streaming, handler.response_streaming)
        kind = "_".join("stream" if side else "unary" for side in sides)
        make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(self._guarded(getattr(handler, kind)), handler.request_deserializer, handler.response_serializer)

    def _guarded(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Awaitable[Any]]:
        async def call(request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
            found = _shown(context)
            # gRPC lets a session be resumed for two days, on the certificate that was shown when it began.
            has_ended = any(_end(pem) <= time.time() for pem in context.auth_context().get("x509_pem_cert", ()))
            if has_ended or not found & self._callers:
                telemetry.log_refused("grpc", found)
                await context.abort(grpc.StatusCode.PERMISSION_DENIED, "this certificate's holder may not ask here")
            result = behaviour(request, context)
            if not hasattr(result, "__aiter__"):
                return await result
            async with aclosing(result) as responses:
                async for response in responses:
                    await context.write(response)
            return None

        return call


def _shown(context: grpc.aio.ServicerContext[Any, Any]) -> frozenset[str]:
    return identities(name.decode() for name in context.auth_context().get("peer_dns", ()))


@lru_cache(maxsize=1024)
def _end(pem: bytes) -> float:
    return x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
