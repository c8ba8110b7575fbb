"""A servicer behind the server that every service of Gyre has, and a channel to it as services have to one another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embedded.ports import free_ports
from services.runtime import rpc
from services.runtime.exchange import ExchangeChannel
from services.runtime.settings import ServiceSettings


@asynccontextmanager
async def served(registration: rpc.Registration) -> AsyncIterator[str]:
    """Serve until the block ends; yields where other services ask."""
    grpc_port, exchange_port = free_ports(2)
    server = rpc.Server(ServiceSettings(grpc_port=grpc_port, drain_seconds=0), [registration], exchange_port)
    await server.start()
    yield f"127.0.0.1:{exchange_port}"
    await server.stop()


@asynccontextmanager
async def channel_to(registration: rpc.Registration) -> AsyncIterator[ExchangeChannel]:
    """Serve until the block ends; yields a channel."""
    async with served(registration) as target, ExchangeChannel(target) as channel:
        yield channel
