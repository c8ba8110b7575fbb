"""Topics, the producer and the two ways of reading, on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from schemas.codecs import codec, dead_letter_codec
from schemas.events import BundlePublished, DeadLetter, Feedback
from schemas.topics import SPECS, Topic
from services.runtime.errors import Rejected, Retryable
from services.runtime.kafka import Follower, Outgoing, Producer, Transformer, ensure_topics, offsets_since
from services.runtime.settings import KafkaSettings


@pytest.fixture(scope="session")
def settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka, partitions=2)


def feedback(number: int, marker: str) -> Feedback:
    return Feedback(
        feedback_id=str(number),
        request_id=f"{marker}-{number}",
        tenant="t",
        application="a",
        given_at=datetime(2026, 1, 1, tzinfo=UTC),
        source="explicit",
        kind="rating",
        rating=1.0,
    )


def test_a_connection_that_has_just_been_closed_is_broken_and_no_more(settings: KafkaSettings) -> None:
    async def go_on() -> None:
        await ensure_topics(settings)
        async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as producer:
            await producer.send_and_wait(str(Topic.FEEDBACK), b"x", key=b"k")
            (connection, *_) = producer.client._conns.values()
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # it is closed, and who reads from it has not been told
            with pytest.raises(KafkaConnectionError):
                connection.send(MetadataRequest([]))
            await producer.send_and_wait(str(Topic.FEEDBACK), b"x", key=b"k")

    uvloop.run(go_on())  # as services are


@asynccontextmanager
async def running(loop: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def read(settings: KafkaSettings, topic: str, enough: Callable[[list[bytes]], bool]) -> list[bytes]:
    """The committed values of a topic, once there are enough."""
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=settings.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
    )
    await consumer.start()
    try:
        found: list[bytes] = []
        async with asyncio.timeout(30):
            while not enough(found):
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += [message.value for message in messages]
        return found
    finally:
        await consumer.stop()


async def all_committed(settings: KafkaSettings, group: str, partitions: Sequence[TopicPartition]) -> None:
    """Wait until a group's offsets stand at the end of partitions; a failure says where they stand instead."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, group_id=group)
    await consumer.start()
    try:
        ends = {each: end for each, end in (await consumer.end_offsets(partitions)).items() if end}
        deadline = asyncio.get_running_loop().time() + 30
        while (committed := {each: await consumer.committed(each) for each in ends}) != ends:
            assert asyncio.get_running_loop().time() < deadline, f"committed: {committed}; wanted {ends}"
            await asyncio.sleep(0.05)
    finally:
        await consumer.stop()


def own(letters: Sequence[bytes]) -> list[DeadLetter]:
    """The dead letters of these tests, among those that others have left on the shared broker."""
    return [each for letter in letters if (each := dead_letter_codec().decode(letter)).hop == "test"]


async def test_every_topic_is_created_as_its_table_says(settings: KafkaSettings) -> None:
    await ensure_topics(settings)
    await ensure_topics(settings)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        described = {topic["topic"]: topic for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    for topic in Topic:
        assert topic.dead_letters in described
        assert (len(described[topic]["partitions"]) > 1) == SPECS[topic].partitioned


async def test_a_follower_has_caught_up_once_it_has_applied_what_was_there(settings: KafkaSettings) -> None:
    seen: list[str] = []
    async with Producer(settings) as producer:
        for version in ("one", "two"):
            event = BundlePublished(version=version, published_at=datetime(2026, 1, 1, tzinfo=UTC), content="{}")
            await producer.send(Topic.BUNDLES, event)
        follower = Follower(settings, {Topic.BUNDLES: lambda event: seen.append(event.version)})
        async with running(follower.run), asyncio.timeout(30):
            await follower.caught_up()
            assert seen[-1] == "two"
            event = BundlePublished(version="three", published_at=datetime(2026, 1, 1, tzinfo=UTC), content="{}")
            await producer.send(Topic.BUNDLES, event)
            while seen[-1] != "three":
                await asyncio.sleep(0.01)


async def test_a_transformer_writes_outputs_dead_letters_and_offsets_together(settings: KafkaSettings) -> None:
    tried: list[str] = []

    async def handle(event: Feedback) -> Sequence[Outgoing]:
        if not event.request_id.startswith("transform-"):
            return []
        tried.append(event.request_id)
        if event.request_id == "transform-1":
            raise Rejected("of no use")
        if event.request_id == "transform-2" and tried.count("transform-2") == 1:
            raise Retryable("not yet")
        answer = BundlePublished(
            name=event.request_id, version="made", published_at=datetime(2026, 1, 1, tzinfo=UTC), content="{}"
        )
        return [Outgoing(Topic.BUNDLES, answer)]

    transformer = Transformer(settings, "test", {Topic.FEEDBACK: handle})
    async with Producer(settings) as producer:
        for number in range(4):
            await producer.send(Topic.FEEDBACK, feedback(number, "transform"))
        # Of these nothing is made, and they come to partitions that hold none of the others too.
        for number in range(8):
            await producer.send(Topic.FEEDBACK, feedback(number, "other"))
    raw = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await raw.start()
    await raw.send_and_wait(str(Topic.FEEDBACK), b"not avro", key=b"broken")
    # Whichever test came first on this broker has created the topic.
    partitions = [TopicPartition(str(Topic.FEEDBACK), each) for each in await raw.partitions_for(str(Topic.FEEDBACK))]
    await raw.stop()

    async with running(transformer.run):
        letters = await read(settings, Topic.FEEDBACK.dead_letters, lambda found: len(own(found)) >= 2)
        made = await read(
            settings, str(Topic.BUNDLES), lambda found: sum(b"transform-" in value for value in found) >= 3
        )
        # Only now may it stop: a batch of which nothing was made may be the last.
        await all_committed(settings, "gyre-test", partitions)
    dead = own(letters)
    assert {letter.reason[:10] for letter in dead} == {"of no use", "router.fee"}
    assert b"not avro" in {letter.value for letter in dead}
    assert sum(b"transform-" in value for value in made) == 3
    assert tried.count("transform-2") == 2


async def test_a_follower_catches_up_with_what_transactions_wrote(settings: KafkaSettings) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id="test-catching-up")
    await producer.start()
    event = BundlePublished(version="in-a-transaction", published_at=datetime(2026, 1, 1, tzinfo=UTC), content="{}")
    async with producer.transaction():
        await producer.send_and_wait(str(Topic.BUNDLES), codec(Topic.BUNDLES).encode(event), key=b"bundle")
    await producer.stop()
    seen: list[str] = []
    follower = Follower(settings, {Topic.BUNDLES: lambda event: seen.append(event.version)})
    async with running(follower.run), asyncio.timeout(30):
        await follower.caught_up()
    assert seen[-1] == "in-a-transaction"


async def test_a_follower_passes_over_what_is_no_event(settings: KafkaSettings) -> None:
    seen: list[str] = []
    async with Producer(settings) as producer:
        raw = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
        await raw.start()
        await raw.send_and_wait(str(Topic.DRIFT), b"\x00\x00", key=b"x")
        await raw.stop()
        follower = Follower(
            settings, {Topic.DRIFT: lambda event: None, Topic.FEEDBACK: lambda event: seen.append(event.request_id)}
        )
        async with running(follower.run), asyncio.timeout(30):
            await producer.send(Topic.FEEDBACK, feedback(9, "after"))
            while "after-9" not in seen:
                await asyncio.sleep(0.01)


async def test_a_follower_can_begin_with_what_was_written_since_a_time(settings: KafkaSettings) -> None:
    seen: list[str] = []
    follower = Follower(settings, {Topic.FEEDBACK: lambda event: seen.append(event.request_id)})
    async with Producer(settings) as producer:
        await asyncio.gather(*(producer.send(Topic.FEEDBACK, feedback(number, "before")) for number in range(8)))
        await asyncio.sleep(0.05)
        since = datetime.now(UTC)
        offsets = await offsets_since(settings, [Topic.FEEDBACK], since)
        await asyncio.gather(*(producer.send(Topic.FEEDBACK, feedback(number, "since")) for number in range(8)))
        assert offsets == await offsets_since(settings, [Topic.FEEDBACK], since)
        async with running(lambda: follower.run(offsets)):
            await follower.caught_up()
    assert sorted(seen) == sorted(f"since-{number}" for number in range(8))
