"""What the replayed day and the costs of capacity are both measured on: the shop's bundle, documents and requests."""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio

from benchmarks.router import listening, process
from benchmarks.store_bundle import ANSWERS, bundle, documents, key_of
from benchmarks.store_day import APPLICATIONS, Asked
from embedded.ports import free_ports, stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.bundle import Bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings

WAIT_SECONDS = 120


@contextlib.contextmanager
def before_a_stand_in(parts: Collection[str]) -> Iterator[tuple[Stack, int]]:
    """Start parts on free ports, with a state folder that is removed afterwards; yields where the stand-in listens too.

    Args:
        parts: Of the embedded stack.
    """
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder, contextlib.ExitStack() as stand_in:
        (port,) = free_ports(1)
        command = [sys.executable, "-m", "benchmarks.router_parts", "stand-in", str(port), *ANSWERS]
        stand_in.enter_context(process(command, {}, Path(folder) / "stand-in.log"))
        os.environ["GYRE_TELEMETRY_LOG_LEVEL"] = "WARNING"  # for the parts, which inherit it
        stack = Stack(Settings(state_dir=Path(folder), ports=stack_ports()))
        try:
            stack.start(parts)
            yield stack, port
        finally:
            stack.stop()


async def prepare(stack: Stack, stand_in_port: int) -> None:
    """Wait for the stand-in, put the shop's bundle in force, and give context its documents."""
    await listening(stand_in_port)
    kafka = KafkaSettings(bootstrap_servers=stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"))
    await publish(kafka, bundle(stand_in_port))
    await ingest(stack.settings.address("GYRE_CONTEXT_GRPC_PORT"))


def completion(asked: Asked) -> dict[str, Any]:
    """Return a request as a chat completion."""
    caller = APPLICATIONS[asked.application]
    return {
        "model": "auto",
        "messages": [{"role": "user", "content": asked.text}],
        "metadata": {"conversation_id": asked.conversation_id} | ({"task": asked.task} if caller.names_task else {}),
        "user": f"store-{asked.store:04}",
        "stream": caller.is_streamed,
    }


def headers(application: str) -> dict[str, str]:
    """Return what an application shows."""
    return {"authorization": f"Bearer {key_of(application)}"}


async def publish(kafka: KafkaSettings, bundle: Bundle) -> None:
    """Put a bundle in force."""
    async with Producer(kafka) as producer:
        await producer.send(
            Topic.BUNDLES,
            BundlePublished(version=bundle.version, published_at=datetime.now(UTC), content=bundle.model_dump_json()),
        )


async def ingest(target: str) -> None:
    """Give every tenant the shop's policy and what it sells, and wait until both are found."""
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = context_pb2_grpc.ContextStub(channel)
        for tenant in sorted({caller.tenant for caller in APPLICATIONS.values()}):
            for name, (title, text) in documents().items():
                request = context_pb2.IngestRequest(
                    tenant=tenant, document_id=name, title=title, text=text, sensitivity=types_pb2.SENSITIVITY_INTERNAL
                )
                # At first governance may not have read the bundle yet.
                await until(lambda request=request: stub.Ingest(request), "context takes documents")  # type: ignore[misc]

            async def found(tenant: str = tenant) -> None:
                for query in ("return a delivered order", "headphones"):
                    request = context_pb2.StitchRequest(
                        tenant=tenant, query=query, budget_tokens=500, max_sensitivity=types_pb2.SENSITIVITY_INTERNAL
                    )
                    if not (await stub.Stitch(request)).passages:
                        raise LookupError(query)

            await until(found, "context finds the documents")


async def until(succeeds: Callable[[], Awaitable[Any]], what: str) -> None:
    """Wait until something can be done that cannot be yet."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            await succeeds()
        except (grpc.aio.AioRpcError, aiohttp.ClientError, RuntimeError, LookupError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"{WAIT_SECONDS} s have passed until {what}: {error}") from error
            await asyncio.sleep(0.2)
        else:
            return
