"""Reading state: every partition from its beginning, in every replica, without a group."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codecs import UndecodableError, codec
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.errors import Rejected
from services.runtime.kafka.clients import connection, stop, until_answered
from services.runtime.kafka.lag import Lag
from services.runtime.kafka.records import Record
from services.runtime.kafka.topics import ensure_topics
from services.runtime.settings import KafkaSettings

BATCH_RECORDS = 500

# The next offset to read, by topic and partition.
Offsets = Mapping[tuple[Topic, int], int]


async def can_go_on(settings: KafkaSettings, offsets: Offsets) -> bool:
    """Return whether reading can go on at offsets: nothing behind them was removed, and the topics are no shorter.

    Raises:
        Retryable: Kafka is away.
    """
    if not offsets:
        return True
    await ensure_topics(settings)
    async with _consumer(settings, "offsets") as consumer:
        present = {
            TopicPartition(str(topic), each)
            for topic in {topic for topic, _ in offsets}
            for each in await _partitions(consumer, topic)
        }
        wanted = {TopicPartition(str(topic), partition): offset for (topic, partition), offset in offsets.items()}
        if not wanted.keys() <= present:
            return False
        first, last = await consumer.beginning_offsets([*wanted]), await consumer.end_offsets([*wanted])
        return all(first[each] <= offset <= last[each] for each, offset in wanted.items())


async def offsets_since(settings: KafkaSettings, topics: Sequence[Topic], since: datetime) -> Offsets:
    """Return where reading begins of records written since a time; where there are none, at the end.

    Raises:
        Retryable: Kafka is away.
    """
    await ensure_topics(settings)
    async with _consumer(settings, "offsets") as consumer:
        wanted = {
            TopicPartition(str(topic), each): topic for topic in topics for each in await _partitions(consumer, topic)
        }
        last = await consumer.end_offsets([*wanted])  # before it is asked for later ones, so that none comes between
        first = await consumer.offsets_for_times(dict.fromkeys(wanted, int(since.timestamp() * 1000)))
        return {
            (topic, each.partition): found.offset if (found := first[each]) is not None else last[each]
            for each, topic in wanted.items()
        }


class Follower:
    """Keeps a view of topics up to date by reading every partition, for ever: from the beginning, or from where told.

    A record that cannot be decoded is logged and passed over: audit, which reads every topic, sends it to the dead
    letters. Nor does it go on with records' traces: it reads them again at each start.
    """

    def __init__(
        self, settings: KafkaSettings, apply: Mapping[Topic, Callable[[Any], None]], name: str = "follower"
    ) -> None:
        self._settings = settings
        self._apply = apply
        self._name = name
        self._lag = Lag(name)
        self._caught_up = asyncio.Event()
        self._positions: dict[tuple[Topic, int], int] = {}

    @property
    def positions(self) -> Offsets:
        """Where each partition stands of which a record has been applied, now or by what `run` was told."""
        return dict(self._positions)

    async def caught_up(self) -> None:
        """Wait until everything that was there at the start has been applied."""
        await self._caught_up.wait()

    async def run(self, offsets: Offsets | None = None) -> None:
        """Read until cancelled.

        Args:
            offsets: Where to go on; a partition that is not among them is read from its beginning.
        """
        await until_answered("Kafka", lambda: ensure_topics(self._settings))
        self._positions = dict(offsets or {})
        async with _consumer(self._settings, self._name) as consumer:
            partitions = [
                TopicPartition(str(topic), partition)
                for topic in self._apply
                for partition in sorted(await _partitions(consumer, topic))
            ]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            for (topic, partition), offset in self._positions.items():
                consumer.seek(TopicPartition(str(topic), partition), offset)
            goal = await consumer.end_offsets(partitions)
            while True:
                batches = await consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS)
                self._lag.polled(consumer, batches)
                for partition, messages in batches.items():
                    for message in messages:
                        self._take(Record.of(message))
                    self._lag.handled(consumer, partition, messages[-1].offset, messages[-1].timestamp)
                if not self._caught_up.is_set():
                    positions = {each: await consumer.position(each) for each in partitions}
                    if all(positions[each] >= goal[each] for each in partitions):
                        self._caught_up.set()

    def _take(self, record: Record) -> None:
        try:
            self._apply[record.topic](codec(record.topic).decode(record.value))
            telemetry.RECORDS.labels(record.topic, "handled").inc()
        except (UndecodableError, Rejected) as error:
            telemetry.RECORDS.labels(record.topic, "passed over").inc()
            telemetry.log().error(
                "record passed over",
                topic=str(record.topic),
                partition=record.partition,
                offset=record.offset,
                reason=str(error),
            )
        self._positions[record.topic, record.partition] = record.offset + 1


@contextlib.asynccontextmanager
async def _consumer(settings: KafkaSettings, name: str) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer without a group, connected."""
    consumer = AIOKafkaConsumer(
        **connection(settings),
        client_id=name,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await stop(consumer)


async def _partitions(consumer: AIOKafkaConsumer, topic: Topic) -> set[int]:
    while True:
        found = consumer.partitions_for_topic(str(topic))
        if found:
            return set(found)
        await consumer._client.force_metadata_update()  # the public call answers None for a topic not heard of yet
        consumer._client.add_topic(str(topic))
        await asyncio.sleep(0.05)
