"""HTTP as every service serves it: idle connections are closed, and who stops has its clients leave first."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.typedefs import Handler

from services.runtime.errors import Fatal
from services.runtime.tls import Tls

# How long a connection may wait for the next whole head of a request, and how long when the service stops.
IDLE_SECONDS = 75.0
LEAVING_SECONDS = 5.0


@asynccontextmanager
async def serving(
    application: web.Application, host: str, port: int, drain_seconds: float, tls: Tls | None = None, **of_runner: Any
) -> AsyncIterator[None]:
    """Serve within the block. At its end each answer is its connection's last, and running requests get the drain time.

    Args:
        application: What is served.
        host: Where to listen.
        port: Likewise.
        drain_seconds: What is still open or running then is cut.
        tls: With what; None: in the clear.
        of_runner: What else `aiohttp.web.AppRunner` takes.

    Raises:
        Fatal: The port is taken.
    """
    connections = _Connections()
    application.middlewares.insert(0, connections.under_way)
    application.on_response_prepare.append(connections.tell)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=drain_seconds, **of_runner)
    await runner.setup()
    assert runner.server is not None
    try:
        secured = None if tls is None else tls.server_context(mutual=False)
        await web.TCPSite(runner, host, port, ssl_context=secured).start()
    except OSError as error:
        await runner.cleanup()
        raise Fatal(f"cannot listen on {host}:{port}; is something else there?") from error
    watching = asyncio.create_task(connections.watch(runner.server))
    try:
        yield
    finally:
        watching.cancel()
        await connections.leave(runner.server, drain_seconds)
        await runner.cleanup()


class _Connections:
    """Closes those on which nothing is asked: aiohttp itself waits for the head of a request without end."""

    def __init__(self) -> None:
        self._busy: set[BaseProtocol] = set()
        self._idle_since: dict[BaseProtocol, float] = {}
        self._is_leaving = False

    @web.middleware
    async def under_way(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Know a connection as busy while a request of it is being answered."""
        self._busy.add(request.protocol)
        try:
            return await handler(request)
        finally:
            self._busy.discard(request.protocol)
            self._idle_since[request.protocol] = asyncio.get_running_loop().time()

    async def tell(self, request: web.Request, response: web.StreamResponse) -> None:
        """Say in an answer's head that it is the connection's last, if it is."""
        if self._is_leaving:
            response.headers["Connection"] = "close"
            response.force_close()

    async def watch(self, server: web.Server) -> None:
        """Close a server's idle connections, until cancelled."""
        while True:
            await asyncio.sleep(min(1.0, IDLE_SECONDS))
            self._close_idle(server, IDLE_SECONDS)

    async def leave(self, server: web.Server, drain_seconds: float) -> None:
        """Have clients connect anew, elsewhere, until none is connected or the drain time is over.

        Closed at once, a connection would lose the request that is on its way. So it is closed behind its next answer,
        or when there was time for a client that asks all the time to ask again.
        """
        self._is_leaving = True
        now = asyncio.get_running_loop().time()
        self._idle_since = dict.fromkeys(server.connections, now)
        end = now + drain_seconds
        while server.connections and asyncio.get_running_loop().time() < end:
            self._close_idle(server, LEAVING_SECONDS)
            await asyncio.sleep(0.05)

    def _close_idle(self, server: web.Server, seconds: float) -> None:
        now = asyncio.get_running_loop().time()
        self._idle_since = {each: self._idle_since.get(each, now) for each in server.connections}
        for connection in server.connections:
            if connection not in self._busy and now - self._idle_since[connection] > seconds:
                connection.force_close()
