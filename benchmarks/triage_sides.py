"""One side of `benchmarks.triage`, in a process of its own: `python -m benchmarks.triage_sides SIDE KAFKA`.

`bare`, `plain` and `triage` are described there.
"""

import gc
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import faust
import msgspec
import uvloop

from benchmarks.triage_traffic import bundle, said_before
from schemas.codecs import codec
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.embeddings import space_of
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings
from services.triage.adapters import ItemsOnDisk
from services.triage.backlog import Backlog
from services.triage.consumer import GROUP, Triage
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.experience import Experience
from services.triage.handlers import Picker
from services.triage.settings import Settings
from services.triage.state import FollowedBundles, FollowedDrift
from services.triage.tables import ensure_changelogs

REMEMBERED = 1000
"""Requests of each partition, so that a short run forgets some, too."""

Side = Callable[[KafkaSettings, Settings], Coroutine[Any, Any, None]]


async def bare(kafka: KafkaSettings, _: Settings) -> None:
    """Count interactions in a table in memory, as a first Faust app does, and read nothing of them."""
    app = _app(kafka, store="memory://")
    counts = app.Table("counts", default=int, partitions=kafka.partitions)

    async def count(stream: Any) -> None:
        async for event in stream.events():
            counts[event.message.partition] += 1

    app.agent(app.topic(str(Topic.INTERACTIONS), key_serializer="raw", value_serializer="raw"))(count)
    await _run(app, kafka)


async def plain(kafka: KafkaSettings, settings: Settings) -> None:
    """Decide as triage does, one record after the other, as Faust's documentation has it."""
    app = _app(kafka, store="rocksdb://", processing_guarantee="exactly_once", datadir=str(settings.data_dir))
    remembered, selectors = (
        app.Table(name, key_type=bytes, value_type=bytes, partitions=kafka.partitions)
        for name in ("remembered", "selectors")
    )
    encode = msgspec.msgpack.Encoder().encode
    read_row, read_selector = msgspec.msgpack.Decoder(Remembered).decode, msgspec.msgpack.Decoder(Selector).decode
    experience, oldest = _experience(settings), [deque[bytes]() for _ in range(kafka.partitions)]
    picker, known = Picker(experience, Clock(), kafka.partitions), bundle()
    edge_cases = app.topic(str(Topic.EDGE_CASES), key_serializer="raw", value_serializer="raw")
    # Faust writes in transactions to topics alone that the app reads, too.
    read = app.topic(str(Topic.INTERACTIONS), str(Topic.EDGE_CASES), key_serializer="raw", value_serializer="raw")

    async def decide(stream: Any) -> None:
        async for event in stream.events():
            if event.message.topic != Topic.INTERACTIONS:
                continue
            interaction, partition = codec(Topic.INTERACTIONS).decode(event.value), event.message.partition
            key, name = interaction.request_id.encode(), f"{partition}/{interaction.tenant}/{interaction.task}".encode()
            before, selector = remembered.get(key), selectors.get(name)
            considered = picker.consider(
                interaction,
                event.value,
                read_row(before) if before else Remembered(partition=partition),
                read_selector(selector) if selector else Selector(),
                known,
            )
            if considered is None:
                continue
            if considered.edge_case is not None:
                if not considered.edge_case.same_as:
                    experience.take_edge_case(considered.edge_case)
                value = codec(Topic.EDGE_CASES).encode(considered.edge_case)
                await edge_cases.send(key=key, value=value, partition=partition)
            selectors[name] = encode(considered.selector)
            remembered[key] = encode(considered.remembered)
            oldest[partition].append(key)
            if len(oldest[partition]) > settings.remembered:
                del remembered[oldest[partition].popleft()]

    app.agent(read)(decide)
    await _run(app, kafka)


async def triage(kafka: KafkaSettings, settings: Settings) -> None:
    """Decide with triage's own agent and tables, without its console and its followers."""
    items = ItemsOnDisk(settings.data_dir / "items")
    bundles, clock, known = FollowedBundles(), Clock(), bundle()
    bundles.apply(BundlePublished(version=known.version, published_at=clock.now(), content=known.model_dump_json()))
    async with Producer(kafka) as producer:
        await Triage(
            settings,
            kafka,
            bundles,
            FollowedDrift(settings.drift_hours, settings.drift_exploration),
            Backlog(items, clock),
            _experience(settings),
            producer,
            clock,
        ).run()


SIDES: dict[str, Side] = {"bare": bare, "plain": plain, "triage": triage}


def group(side: str) -> str:
    """Return the consumer group of a side."""
    return GROUP if side == "triage" else "benchmark"


def _app(kafka: KafkaSettings, **settings: Any) -> Any:
    app = faust.App(
        "benchmark",
        broker=f"kafka://{kafka.bootstrap_servers}",
        broker_commit_interval=1.0,  # as triage does
        consumer_auto_offset_reset="earliest",
        topic_partitions=kafka.partitions,
        topic_replication_factor=kafka.replication_factor,
        topic_disable_leader=True,
        web_enabled=False,
        **settings,
    )
    app.in_worker = True  # without it Faust takes itself for a mere client and uses no transactions
    return app


async def _run(app: Any, kafka: KafkaSettings) -> None:
    await ensure_changelogs(app, kafka)
    await app.start()
    await app.wait_until_stopped()


def _experience(settings: Settings) -> Experience:
    experience = Experience(space_of(settings.models_dir)())
    for edge_case, label in said_before():
        experience.take_edge_case(edge_case)
        experience.take_label(label)
    gc.collect()
    gc.freeze()  # as the service does once it is ready
    return experience


def main(side: str, address: str) -> None:
    """Run a side until the process is ended."""
    settings = Settings(remembered=REMEMBERED)
    uvloop.run(SIDES[side](KafkaSettings(bootstrap_servers=address), settings))


if __name__ == "__main__":
    main(*sys.argv[1:])
