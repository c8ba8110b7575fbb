"""An HTTP server of a service ends without losing what is asked on the connections that are open."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import web

from embedded.ports import free_ports
from services.runtime import http

SECONDS = 20


async def serve(end: AsyncExitStack) -> str:
    """Serve until the end; each answer names the connection that it was asked on."""

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        return web.Response(text=str(request.transport.get_extra_info("peername")))

    application, (port,) = web.Application(), free_ports(1)
    application.add_routes([web.get("/", answer)])
    await end.enter_async_context(http.serving(application, "127.0.0.1", port, drain_seconds=60))
    return f"http://127.0.0.1:{port}/"


async def ask(session: aiohttp.ClientSession, url: str) -> tuple[str, str]:
    """Return the connection, and what is to become of it."""
    async with session.get(url) as response:
        return await response.text(), response.headers.get("Connection", "keep-alive")


async def test_whoever_asks_while_the_server_ends_is_answered_and_sent_elsewhere() -> None:
    async with aiohttp.ClientSession() as session, AsyncExitStack() as end:
        url = await serve(end)
        connection, fate = await ask(session, url)
        assert fate == "keep-alive"
        ending = asyncio.create_task(end.aclose())
        await asyncio.sleep(0)
        assert await ask(session, url) == (connection, "close")
        async with asyncio.timeout(SECONDS):
            await ending
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(session, url)


async def test_whoever_asks_nothing_while_the_server_ends_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LEAVING_SECONDS", 0.1)
    async with aiohttp.ClientSession() as session, AsyncExitStack() as end:
        await ask(session, await serve(end))
        async with asyncio.timeout(SECONDS):
            await end.aclose()
