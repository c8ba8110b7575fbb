"""What changes is told on its topic, once, and can be asked for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from aiokafka import AIOKafkaConsumer
from msgspec.structs import replace

from schemas.bundle import Bundle, Objectives, load_bundle
from schemas.codecs import codec
from schemas.events import BundlePublished, Drift, Interaction
from schemas.topics import Topic
from services.audit.drift.watch import Promise, Watch
from services.audit.watcher import Watcher
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings
from tests.conftest import broker
from tests.integration.audit.record import eventually
from tests.integration.audit.story import BEGIN, interaction

if TYPE_CHECKING:  # exists for type checkers alone
    from gyre.api.audit.v1.audit_pb2_grpc import AuditAsyncStub

SAMPLE = Path(__file__).parents[3] / "deploy/bundle"


def traffic(tenant: str, count: int, start: int = 0, **changed: object) -> list[Interaction]:
    chance = Random(start)
    return [
        replace(
            interaction(str(uuid.uuid4())),
            tenant=tenant,
            received_at=BEGIN + timedelta(seconds=number),
            finished_at=BEGIN + timedelta(seconds=number + 1),
            language="en",
            total_us=int(500_000 * chance.lognormvariate(0, 0.3)),
            **changed,
        )
        for number in range(start, start + count)
    ]


async def send(producer: Producer, sent: list[Interaction]) -> None:
    for start in range(0, len(sent), 100):
        await asyncio.gather(*(producer.send(Topic.INTERACTIONS, each) for each in sent[start : start + 100]))


async def test_a_change_is_an_event_and_a_row(audit: AuditAsyncStub, database: ClickHouse, producer: Producer) -> None:
    tenant = f"drifting-{uuid.uuid4().hex[:8]}"
    await send(producer, traffic(tenant, 400))
    await send(producer, [replace(each, language="de") for each in traffic(tenant, 150, start=400)])
    found: list[dict[str, object]] = []

    async def told() -> bool:
        found[:] = await database.rows(
            "SELECT task, aspect, measure, state, subject, before, after, statistic >= threshold AS is_over, hash "
            "FROM gyre.drift WHERE tenant = {tenant:String} AND measure = 'language'",
            {"tenant": tenant},
        )
        return bool(found)

    await eventually(told)
    (row,) = found
    assert (row["task"], row["aspect"], row["measure"], row["state"]) == (
        "consumer-services",
        "input",
        "language",
        "detected",
    )
    assert (row["is_over"], len(str(row["hash"]))) == (1, 64)


@asynccontextmanager
async def watching(kafka: KafkaSettings) -> AsyncIterator[None]:
    watch = Watch(Promise(requests_per_false_alarm=10_000, parts=1, streams=10), None, Random(1).random)
    watcher = Watcher(kafka, 1.0, watch, Clock())
    tasks = [asyncio.create_task(loop()) for loop in (watcher.follow_bundles, watcher.run)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_events_are_written_once_and_alerts_fire_and_clear(tmp_path: Path) -> None:
    sample = load_bundle(SAMPLE)
    tasks = {
        name: task.model_copy(update={"objectives": Objectives(availability=0.99)})
        for name, task in sample.tasks.items()
    }
    with broker(tmp_path) as address:
        kafka = KafkaSettings(bootstrap_servers=address, partitions=1)
        async with Producer(kafka) as producer, _events(kafka) as events:
            await producer.send(Topic.BUNDLES, _published(sample.model_copy(update={"tasks": tasks})))
            await send(producer, traffic("customer-care", 300))
            async with watching(kafka):
                failing = traffic("customer-care", 180, start=300, finish_reason="error")
                await send(producer, failing)
                first = [await anext(events) for _ in range(2)]
                while not {("errors", "detected"), ("objective: availability", "cleared")} <= _told(first):
                    first.append(await anext(events))
            assert ("objective: availability", "firing") in _told(first)
            firing, cleared = (
                sum(each.state == state for each in first if each.aspect == "objective")
                for state in ("firing", "cleared")
            )
            assert firing >= cleared > 0

            async with watching(kafka):  # another process goes on where this one stood, and repeats nothing
                await send(producer, traffic("customer-care", 120, start=480))
                await send(producer, traffic("customer-care", 60, start=600, finish_reason="error"))
                again = [await anext(events)]
                while ("errors", "detected") not in _told(again):
                    again.append(await anext(events))
            began = BEGIN + timedelta(seconds=480)
            assert all(each.detected_at > began for each in again if each.aspect != "objective")


def _told(events: list[Drift]) -> set[tuple[str, str]]:
    return {(each.measure, each.state) for each in events}


def _published(bundle: Bundle) -> BundlePublished:
    return BundlePublished(version=bundle.version, published_at=BEGIN, content=bundle.model_dump_json())


@asynccontextmanager
async def _events(kafka: KafkaSettings) -> AsyncIterator[AsyncIterator[Drift]]:
    consumer = AIOKafkaConsumer(
        str(Topic.DRIFT),
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()

    async def read() -> AsyncIterator[Drift]:
        while True:
            async with asyncio.timeout(60):
                message = await consumer.getone()
            yield codec(Topic.DRIFT).decode(message.value)

    try:
        yield read()
    finally:
        await consumer.stop()
