"""The life of a service process: start, serve, drain, stop."""

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import uvloop

from services.runtime import rpc, telemetry
from services.runtime.errors import Fatal, InvalidSettings
from services.runtime.settings import ServiceSettings, TelemetrySettings, TlsSettings
from services.runtime.tls import Tls, identities, tls_of


@dataclass(frozen=True)
class Service:
    """What one process runs: servicers on one gRPC server, and loops beside it.

    Attributes:
        name: Of the service, as in `services/<name>`.
        settings: Where it listens.
        servicers: What its gRPC server answers with.
        exchange_port: Where other services may ask the same at less cost, without a context; 0: nowhere.
        loops: Run until cancelled. One that ends or raises ends the process, for the supervisor to start it anew.
        edges: What answers callers beside the gRPC server. Entered before that starts, and left as it stops; meanwhile
            the loops go on.
        ready: Awaited before health says SERVING.
    """

    name: str
    settings: ServiceSettings
    servicers: Sequence[rpc.Registration]
    exchange_port: int = 0
    loops: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    edges: Sequence[AbstractAsyncContextManager[None]] = ()
    ready: Sequence[Callable[[], Coroutine[Any, Any, None]]] = field(default=())


# What a service may take to stop beyond the time that running calls get, before it is ended as it is.
STOP_SECONDS = 20.0

Build = Callable[[AsyncExitStack], Awaitable[Service]]


def run(build: Build) -> None:
    """Run a service until SIGTERM or SIGINT. Exits with 1 when it cannot start, or a loop failed."""
    try:
        status = uvloop.run(_run(build))
    except InvalidSettings as error:  # of the log itself
        sys.exit(str(error))
    sys.exit(status)


async def _run(build: Build) -> int:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    settings = TelemetrySettings()
    telemetry.set_up_logs(settings)
    log = telemetry.log()
    stopping: asyncio.Task[Any] = asyncio.create_task(stop.wait())
    async with AsyncExitStack() as stack:
        building = asyncio.ensure_future(build(stack))
        # What is waited for while building may stay away, and whoever stops the process then must not wait too.
        await asyncio.wait([building, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not building.done():
            building.cancel()
            await asyncio.gather(building, return_exceptions=True)
            return 0
        try:
            service, tls = building.result(), tls_of(TlsSettings())
            _check_own(service.name, tls)
            telemetry.set_up(service.name, settings, service.settings.host, service.settings.metrics_port, tls)
            server = rpc.Server(
                service.settings, service.servicers, service.exchange_port, service=service.name, tls=tls
            )
            edges = await stack.enter_async_context(AsyncExitStack())
            for edge in service.edges:
                await edges.enter_async_context(edge)
            await server.start()
        except Fatal as error:
            log.error("cannot start", error=str(error))
            return 1
        tasks = [asyncio.create_task(loop()) for loop in service.loops]
        readying = asyncio.create_task(_all_ready(service, server))
        try:
            done, _ = await asyncio.wait([*tasks, stopping, readying], return_when=asyncio.FIRST_COMPLETED)
            if done == {readying} and readying.exception() is None:
                log.info("serving", port=service.settings.grpc_port)
                done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            failed = _failure(done - {stopping})
            if failed is not None:
                log.error("failed", error=str(failed), exc_info=failed)
            return 1 if failed is not None else 0
        finally:
            log.info("stopping")
            _end_within(service.settings.drain_seconds + STOP_SECONDS)
            await asyncio.gather(server.stop(), edges.aclose())
            for task in [*tasks, stopping, readying]:
                task.cancel()
            await asyncio.gather(*tasks, stopping, readying, return_exceptions=True)


def _end_within(seconds: float) -> None:
    """Have the process end in any case, for one that waits for what is away would never be started anew."""

    def end() -> None:
        telemetry.log().error("did not stop in time", seconds=seconds)
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def _all_ready(service: Service, server: rpc.Server) -> None:
    for ready in service.ready:
        await ready()
    # What is there by now stays, so looking through it for garbage again and again would be for nothing.
    gc.collect()
    gc.freeze()
    await server.set_serving()


def _failure(done: set[asyncio.Task[Any]]) -> BaseException | None:
    for task in done:
        return task.exception() or Fatal("a loop ended that should have gone on")
    return None


def _check_own(name: str, tls: Tls | None) -> None:
    """Do nothing for a service whose certificate is its own, or that has none.

    Raises:
        Fatal: It is another's.
    """
    names = tls.current().names if tls else ()
    if tls is not None and name not in identities(names):
        raise Fatal(f"GYRE_TLS_DIR: the certificate is of {', '.join(names)}; wanted one of {name}")
