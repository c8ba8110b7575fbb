"""Reading dead letters and sending their records back, for `gyre dlq`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Container, Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import click
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, ProducerFenced
from msgspec.structs import replace

from gyre.cli.who import operator
from schemas.codecs import UndecodableError, codec, dead_letter_codec, encode_dead_letter
from schemas.events import REPLAY_HOP, DeadLetter
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Retryable
from services.runtime.kafka import MAX_RECORD_BYTES, connection, ensure_topics
from services.runtime.settings import KafkaSettings

KAFKA_SECONDS = 15.0

T = TypeVar("T")


@dataclass(frozen=True)
class Summary:
    """A letter without the value that it holds: there may be many, of megabytes each.

    Attributes:
        offset: In the dead-letter topic.
        letter: With an empty value.
        replayed_at: When its record was sent back; None while it waits.
        undecodable: Why its record is no event of its topic; empty if it is one.
        replay: What is noted of that: who sent it back.
    """

    offset: int
    letter: DeadLetter
    replayed_at: datetime | None
    undecodable: str
    replay: str = ""


def ask_kafka(work: Coroutine[Any, Any, T]) -> T:
    """Run one of the functions below to its end.

    Raises:
        click.ClickException: Kafka does not answer, or somebody else replays the same topic.
    """
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they would say is said better below
    try:
        return asyncio.run(work)
    except ProducerFenced as error:
        raise click.ClickException("Another replay of this topic has begun; look again when it is done.") from error
    except (Retryable, KafkaError, TimeoutError, OSError) as error:
        raise click.ClickException(
            f"Kafka at {KafkaSettings().bootstrap_servers} does not answer; start it (gyre up), or say where it is "
            "(GYRE_KAFKA_BOOTSTRAP_SERVERS), and try again. What was sent back is noted, and is not sent twice."
        ) from error


async def summaries(topics: Sequence[Topic]) -> dict[Topic, list[Summary]]:
    """Return the letters beside topics, oldest first."""
    found: dict[Topic, list[Summary]] = {topic: [] for topic in topics}
    replays = {}
    async with _reader() as reader:
        async for topic, offset, letter in reader.read(topics):
            if letter.hop == REPLAY_HOP:
                replays[topic, letter.offset] = (letter.failed_at, letter.reason)
            else:
                found[topic].append(
                    Summary(
                        offset, replace(letter, value=b""), replayed_at=None, undecodable=_undecodable(topic, letter)
                    )
                )
    return {
        topic: [_with_replay(each, *replays.get((topic, each.offset), (None, ""))) for each in letters]
        for topic, letters in found.items()
    }


def _with_replay(found: Summary, at: datetime | None, note: str) -> Summary:
    return dataclasses.replace(found, replayed_at=at, replay=note)


def _undecodable(topic: Topic, letter: DeadLetter) -> str:
    try:
        codec(topic).decode(letter.value)
    except UndecodableError as error:
        return str(error)
    return ""


async def value(topic: Topic, offset: int) -> bytes:
    """Return what the record of a letter holds, by the letter's offset; nothing where there is no letter."""
    async with _reader() as reader:
        async for _, at, letter in reader.read([topic]):
            if at == offset:
                return letter.value
    return b""


async def replay(topic: Topic, offsets: Container[int]) -> int:
    """Send the records of letters back to their topic, those aside that were sent already; return how many were.

    Each record and the note that it was sent are written in one transaction, so that there is never one without the
    other. All who replay a topic share a transactional id: Kafka shuts out whoever came before, so the notes that are
    read here stay all there are.
    """
    sender = operator()
    producer = AIOKafkaProducer(
        **connection(KafkaSettings()),
        transactional_id=f"gyre-dlq-{topic}",
        compression_type="lz4",  # as it was sent: the largest would not fit otherwise
        max_request_size=2 * MAX_RECORD_BYTES,
    )
    sent = 0
    async with _reader() as reader, producer:
        noted = {letter.offset async for _, _, letter in reader.read([topic]) if letter.hop == REPLAY_HOP}
        async for _, offset, letter in reader.read([topic]):
            if offset not in offsets or offset in noted:
                continue
            note = DeadLetter(
                topic=topic.dead_letters,
                partition=0,
                offset=offset,
                hop=REPLAY_HOP,
                reason=f"the record of the letter at this offset was sent back to {topic} by {sender}",
                failed_at=Clock().now(),
                key=letter.key,
            )
            # The key decides, as it did for the original, so that records of one key meet.
            partition = None if letter.key else letter.partition
            async with producer.transaction():
                await producer.send_and_wait(str(topic), letter.value, key=letter.key, partition=partition)
                await producer.send_and_wait(topic.dead_letters, encode_dead_letter(note), key=letter.key)
            sent += 1
    return sent


class _Reader:
    """Reads dead-letter topics up to where they end now, transactions that are under way included."""

    def __init__(self, consumer: AIOKafkaConsumer, uncommitted: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._uncommitted = uncommitted

    async def read(self, topics: Sequence[Topic]) -> AsyncIterator[tuple[Topic, int, DeadLetter]]:
        """Yield the letters beside topics with their offsets, oldest first within a topic."""
        topic_of = {TopicPartition(topic.dead_letters, 0): topic for topic in topics}
        ends = await self._uncommitted.end_offsets([*topic_of])
        begins = await self._uncommitted.beginning_offsets([*topic_of])
        unread = {partition for partition, end in ends.items() if begins[partition] < end}
        if not unread:
            return
        self._consumer.assign(unread)
        await self._consumer.seek_to_beginning(*unread)
        monotonic = asyncio.get_running_loop().time
        deadline = monotonic() + KAFKA_SECONDS
        while unread:
            for partition, messages in (await self._consumer.getmany(*unread, timeout_ms=50)).items():
                for message in messages:
                    if message.offset < ends[partition]:
                        try:
                            letter = dead_letter_codec().decode(message.value or b"")
                        except UndecodableError as error:
                            click.echo(f"{message.topic}, offset {message.offset}: no letter ({error})", err=True)
                        else:
                            yield topic_of[partition], message.offset, letter
                deadline = monotonic() + KAFKA_SECONDS
            unread = {each for each in unread if await self._consumer.position(each) < ends[each]}
            if monotonic() > deadline:
                raise click.ClickException(
                    f"{min(unread).topic} cannot be read to its end: Kafka has gone, or a service that died has left a "
                    "transaction open; try again in a minute."
                )


@contextlib.asynccontextmanager
async def _reader() -> AsyncIterator[_Reader]:
    settings = KafkaSettings()
    async with asyncio.timeout(KAFKA_SECONDS):
        await ensure_topics(settings)
    consumer, uncommitted = (
        AIOKafkaConsumer(**connection(settings), auto_offset_reset="earliest", isolation_level=isolation_level)
        for isolation_level in ("read_committed", "read_uncommitted")
    )
    async with consumer, uncommitted:
        yield _Reader(consumer, uncommitted)
