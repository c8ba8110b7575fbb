"""A router with both of its real edges, HTTP and gRPC; what stands behind its ports is scripted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from openai import AsyncOpenAI, OpenAI

from embedded.ports import free_ports
from gyre.api.router.v1 import router_pb2_grpc
from services.router.http import Http
from services.router.idempotency import Bounds, Idempotency
from services.router.servicer import RouterServicer
from services.router.settings import Settings
from services.runtime import rpc
from services.runtime.tls import Tls
from tests.unit.router.fakes import KEY, Stack, deployment


class RouterOnFakes:
    """Where it answers, and what it stands on."""

    def __init__(self, stack: Stack, http_port: int, grpc_port: int, scheme: str) -> None:
        self.stack = stack
        self.url = f"{scheme}://127.0.0.1:{http_port}"
        self.target = f"127.0.0.1:{grpc_port}"

    def client(self, key: str = KEY, retries: int = 0) -> AsyncOpenAI:
        """Return the openai SDK as an application sets it up."""
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=retries, timeout=10)

    def blocking_client(self, key: str = KEY, retries: int = 0) -> OpenAI:
        """Return the same for code that waits; it must not wait on the loop that serves."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=retries, timeout=10)


@asynccontextmanager
async def router_on_fakes(tls: Tls | None = None) -> AsyncIterator[RouterOnFakes]:
    """Serve on this loop until the end of the block."""
    stack = Stack(deployment("calls"))
    http_port, grpc_port = free_ports(2)
    idempotency = Idempotency(Bounds(seconds=600.0, entries=100, bytes=2**20))
    registration = rpc.Registration(
        router_pb2_grpc.add_RouterServicer_to_server,
        RouterServicer(stack.router, stack.clock, idempotency),
        "gyre.api.router.v1.Router",
    )
    server = rpc.Server(Settings(grpc_port=grpc_port, drain_seconds=0.0), [registration], service="router", tls=tls)
    await server.start()
    edge = Http(stack.router, stack.clock, idempotency)
    async with edge.serving("127.0.0.1", http_port, 1.0, tls):
        yield RouterOnFakes(stack, http_port, grpc_port, "http" if tls is None else "https")
    await server.stop()
