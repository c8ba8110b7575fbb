"""Kafka, as checks ask it: administration, whole topics, and the newest of each key; nothing is made or changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.codecs import UndecodableError, codec
from schemas.topics import Topic
from services.runtime.errors import Retryable
from services.runtime.kafka.clients import connection
from services.runtime.settings import KafkaSettings

SECONDS = 10.0
READ_SECONDS = 60.0


@contextlib.asynccontextmanager
async def admin_of(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give a client for administration, connected.

    Raises:
        Retryable: Kafka does not answer.
    """
    with _quiet():
        admin = AIOKafkaAdminClient(**connection(settings), request_timeout_ms=int(SECONDS * 1e3))
        try:
            async with asyncio.timeout(SECONDS):
                await admin.start()
            yield admin
        except (KafkaError, OSError, TimeoutError) as failure:
            raise Retryable(f"Kafka at {settings.bootstrap_servers} does not answer: {_why(failure)}") from failure
        finally:
            await admin.close()


@contextlib.asynccontextmanager
async def consumer_of(settings: KafkaSettings, isolation: str = "read_committed") -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer without a group, connected.

    Raises:
        Retryable: Kafka does not answer.
    """
    with _quiet():
        consumer = AIOKafkaConsumer(
            **connection(settings),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level=isolation,
        )
        try:
            async with asyncio.timeout(SECONDS):
                await consumer.start()
            yield consumer
        except (KafkaError, OSError, TimeoutError) as failure:
            raise Retryable(f"Kafka at {settings.bootstrap_servers} does not answer: {_why(failure)}") from failure
        finally:
            await consumer.stop()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # What the client would say is said better by findings.
    loggers = [logging.getLogger(name) for name in ("aiokafka", "asyncio")]
    before = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for each, level in zip(loggers, before, strict=True):
            each.setLevel(level)


def _why(failure: BaseException) -> str:
    if isinstance(failure, TimeoutError):
        return f"no answer within {SECONDS:.0f} s"
    return str(failure) or type(failure).__name__


async def read_all(settings: KafkaSettings, topics: Sequence[str], take: Callable[[Any], None]) -> None:
    """Read topics from their beginning to where they end now, committed records alone.

    Raises:
        Retryable: Kafka does not answer.
    """
    async with consumer_of(settings) as consumer:
        partitions = await partitions_of(consumer, topics)
        ends = await consumer.end_offsets(partitions)
        begins = await consumer.beginning_offsets(partitions)
        unread = {each for each in partitions if begins[each] < ends[each]}
        if not unread:
            return
        consumer.assign(list(unread))
        await consumer.seek_to_beginning(*unread)
        async with asyncio.timeout(READ_SECONDS):
            while unread:
                for messages in (await consumer.getmany(*unread, timeout_ms=100)).values():
                    for message in messages:
                        take(message)
                unread = {each for each in unread if await consumer.position(each) < ends[each]}


async def partitions_of(consumer: AIOKafkaConsumer, topics: Sequence[str]) -> list[TopicPartition]:
    """Return the partitions of topics that there are."""
    consumer._client.set_topics(topics)  # the public call answers None for a topic not heard of yet
    await consumer._client.force_metadata_update()
    return [
        TopicPartition(topic, partition)
        for topic in topics
        for partition in sorted(consumer.partitions_for_topic(topic) or ())
    ]


async def newest(settings: KafkaSettings, topic: Topic) -> dict[bytes, Any]:
    """Return the newest event of each key of a topic that holds state; those that cannot be read are left out.

    Raises:
        Retryable: Kafka does not answer.
    """
    events: dict[bytes, Any] = {}

    def take(message: Any) -> None:
        with contextlib.suppress(UndecodableError):
            events[message.key or b""] = codec(topic).decode(message.value or b"")

    await read_all(settings, [topic], take)
    return events
