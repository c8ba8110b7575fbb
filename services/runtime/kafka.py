"""Kafka: topics, the idempotent producer, and the two ways of reading.

`Follower` reads state: every partition from its beginning, in every replica, no group. `Transformer` shares the
partitions of its topics with its group, and writes what it makes of a batch, its dead letters and its offsets in one
transaction.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import IllegalStateError, KafkaError, NoError, ProducerFenced, TopicAlreadyExistsError, for_code

from schemas.codecs import UndecodableError, codec, encode_dead_letter
from schemas.events import DeadLetter, Event
from schemas.topics import SPECS, Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Fatal, Rejected, Retryable
from services.runtime.settings import KafkaSettings

SEND_TIMEOUT_SECONDS = 10.0
RETRY_SECONDS = 1.0
STOP_SECONDS = 4.0
BATCH_RECORDS = 500
# Beyond this a record is refused by the client before it is sent; the router bounds requests well below it.
MAX_RECORD_BYTES = 4 * 1024 * 1024


T = TypeVar("T")

_TOPICS = {str(topic): topic for topic in Topic}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as Kafka holds it."""

    topic: Topic
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes

    @classmethod
    def of(cls, message: Any) -> Self:
        """Return the record that aiokafka read."""
        # Called so often that names of arguments, and of topics, are worth sparing.
        return cls(
            _TOPICS[message.topic],
            message.partition,
            message.offset,
            message.timestamp,
            message.key or b"",
            message.value or b"",
        )

    def dead(self, hop: str, reason: str, clock: Clock) -> DeadLetter:
        """Return this record as a dead letter of a service."""
        return DeadLetter(
            topic=str(self.topic),
            partition=self.partition,
            offset=self.offset,
            hop=hop,
            reason=reason,
            failed_at=clock.now(),
            key=self.key,
            value=self.value,
        )


@dataclass(frozen=True)
class Outgoing:
    """An event on its way to a topic."""

    topic: Topic
    event: Event

    @property
    def key(self) -> bytes:
        """The record's key, as the topic's table says."""
        return str(getattr(self.event, SPECS[self.topic].key)).encode()


async def ensure_topics(settings: KafkaSettings) -> None:
    """Create the topics that are missing, and their dead-letter topics. Every service may do it; one will be first.

    Raises:
        Retryable: Kafka is away.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    try:
        await admin.start()
        present = set(await admin.list_topics())
        wanted = [topic for each in Topic for topic in _new_topics(each, settings) if topic.name not in present]
        if wanted:
            created = await admin.create_topics(wanted)
            for topic, code, *_ in created.topic_errors:
                # Another service may have been first; anything else would leave a topic missing for good.
                if code not in (NoError.errno, TopicAlreadyExistsError.errno):
                    raise Retryable(f"topic {topic} cannot be created: {for_code(code).__name__}")
    except (KafkaError, OSError) as error:
        raise Retryable(f"Kafka at {settings.bootstrap_servers} does not answer: {error!r}") from error
    finally:
        await admin.close()


def _new_topics(topic: Topic, settings: KafkaSettings) -> list[NewTopic]:
    spec = SPECS[topic]
    if spec.compacted:
        kept = {
            "cleanup.policy": "compact,delete" if spec.expires else "compact",
            "retention.ms": str(spec.retention_ms if spec.expires else -1),
            "min.compaction.lag.ms": str(spec.uncompacted_ms),
            # The segment that is written to is never compacted, so it must not grow for long.
            "segment.ms": str(spec.uncompacted_ms),
        }
    else:
        kept = {"retention.ms": str(spec.retention_ms)}
    limits = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    return [
        NewTopic(
            name=str(topic),
            num_partitions=settings.partitions if spec.partitioned else 1,
            replication_factor=settings.replication_factor,
            topic_configs={**kept, **limits},
        ),
        NewTopic(
            name=topic.dead_letters,
            num_partitions=1,
            replication_factor=settings.replication_factor,
            topic_configs={"retention.ms": str(spec.retention_ms), "max.message.bytes": str(2 * MAX_RECORD_BYTES)},
        ),
    ]


async def until_answered(what: str, attempt: Callable[[], Awaitable[T]]) -> T:
    """Try until it is not `Retryable` any more. The log says what is waited for."""
    while True:
        try:
            return await attempt()
        except Retryable as error:
            telemetry.log().warning("waiting", what=what, error=str(error))
            await asyncio.sleep(RETRY_SECONDS)


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Disconnect a client, which first sends what is under way and leaves its group, if the broker answers in time.

    Left to itself it waits as long as a request may take, and the process would be killed meanwhile.
    """
    stopping = asyncio.ensure_future(client.stop())
    await asyncio.wait([stopping], timeout=STOP_SECONDS)
    if not stopping.done():
        stopping.cancel()
        await asyncio.wait([asyncio.ensure_future(client._client.close())], timeout=STOP_SECONDS)  # its connections


@contextlib.asynccontextmanager
async def transaction(producer: AIOKafkaProducer) -> AsyncIterator[None]:
    """Commit what is sent within, or abort it where that fails.

    In place of aiokafka's own: who is cancelled there waits for the answer to the abort as long as Kafka is away, and
    an abort that fails takes the cancellation's place.
    """
    await producer.begin_transaction()
    try:
        yield
    except asyncio.CancelledError:
        with contextlib.suppress(KafkaError, TimeoutError):
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await _abort(producer)
        raise
    except BaseException:
        await _abort(producer)  # however long it takes: there is no next transaction before
        raise
    await producer.commit_transaction()


async def _abort(producer: AIOKafkaProducer) -> None:
    if not producer._txn_manager.is_fatal_error():  # after which there is nothing to abort
        await producer.abort_transaction()


class Producer:
    """Sends events and waits for the acknowledgement of all in-sync replicas."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        """Wait for Kafka, create the topics that are missing, connect."""
        await until_answered("Kafka", lambda: ensure_topics(self._settings))
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is under way and disconnect."""
        if self._producer is not None:
            await stop(self._producer)

    async def _connect(self) -> None:
        self._producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers,
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            max_request_size=2 * MAX_RECORD_BYTES,  # a dead letter holds a whole record
            request_timeout_ms=int(SEND_TIMEOUT_SECONDS * 1000),
        )
        await self._producer.start()

    async def send(self, topic: Topic, event: Event) -> None:
        """Send one event; on return it is acknowledged.

        Raises:
            Retryable: It was not acknowledged in time; whether it was written is unknown.
            Rejected: It is too large.
        """
        outgoing = Outgoing(topic, event)
        value = codec(topic).encode(event)
        if len(value) > MAX_RECORD_BYTES:
            raise Rejected(f"{topic}: the event has {len(value)} bytes, wanted at most {MAX_RECORD_BYTES}")
        await self._send(str(topic), outgoing.key, value)

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        """Send a record that could not be handled to the dead-letter topic beside its own.

        Raises:
            Retryable: It was not acknowledged in time.
        """
        await self._send(topic.dead_letters, letter.key, encode_dead_letter(letter))

    async def _send(self, topic: str, key: bytes, value: bytes) -> None:
        assert self._producer is not None
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._producer.send_and_wait(topic, value, key=key)
        except (KafkaError, TimeoutError, OSError) as error:
            raise Retryable(f"{topic}: not acknowledged by Kafka: {error!r}") from error


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
    letters.
    """

    def __init__(
        self, settings: KafkaSettings, apply: Mapping[Topic, Callable[[Any], None]], name: str = "follower"
    ) -> None:
        self._settings = settings
        self._apply = apply
        self._name = name
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
                for messages in batches.values():
                    for message in messages:
                        self._take(Record.of(message))
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
        bootstrap_servers=settings.bootstrap_servers,
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


Handler = Callable[[Any], Awaitable[Sequence[Outgoing]]]


class Transformer:
    """Consumes topics with a group and produces what its handlers answer, exactly once.

    Each batch is one Kafka transaction over outputs, dead letters and offsets. `Rejected` sends the record to the dead
    letters and goes on; `Retryable` waits and handles the same record again.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        service: str,
        handlers: Mapping[Topic, Handler],
        clock: Clock | None = None,
        batch_records: int = BATCH_RECORDS,
    ) -> None:
        """Say what is consumed, and by whom.

        Args:
            settings: Where Kafka is.
            service: Names the group, and signs dead letters.
            handlers: What each topic's records are given to.
            clock: Of dead letters and ids.
            batch_records: Most in one transaction; 1 where handling a record needs what the one before it led to.
        """
        self._settings = settings
        self._service = service
        self._batch_records = batch_records
        self._group = f"gyre-{service}"
        self._handlers = handlers
        self._clock = clock or Clock()

    async def run(self) -> None:
        """Consume until cancelled.

        Raises:
            Fatal: Another process has taken this one's place.
        """
        await until_answered("Kafka", lambda: ensure_topics(self._settings))
        producer = AIOKafkaProducer(
            bootstrap_servers=self._settings.bootstrap_servers,
            transactional_id=f"{self._group}-{self._clock.new_id()}",
            max_request_size=2 * MAX_RECORD_BYTES,
        )
        consumer = AIOKafkaConsumer(
            *[str(topic) for topic in self._handlers],
            bootstrap_servers=self._settings.bootstrap_servers,
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_poll_interval_ms=30 * 60 * 1000,  # a handler may load a model
        )
        await producer.start()
        try:
            await consumer.start()
            while True:
                batches = await consumer.getmany(timeout_ms=500, max_records=self._batch_records)
                for partition, messages in batches.items():
                    await self._transform(producer, consumer, partition, [Record.of(m) for m in messages])
        except ProducerFenced as error:
            raise Fatal("another process has taken over this one's transactions") from error
        finally:
            await stop(consumer)
            await stop(producer)

    async def _transform(
        self,
        producer: AIOKafkaProducer,
        consumer: AIOKafkaConsumer,
        partition: TopicPartition,
        records: Sequence[Record],
    ) -> None:
        made = [outgoing for record in records for outgoing in await self._handle(record)]
        try:
            async with transaction(producer):
                for topic, key, value in made:
                    await producer.send(topic, value, key=key)
                await producer.send_offsets_to_transaction({partition: records[-1].offset + 1}, self._group)
        except (IllegalStateError, KafkaError) as error:
            # Nothing of the batch is committed: read it again from where the group stands.
            if isinstance(error, ProducerFenced):
                raise
            telemetry.log().warning("transaction aborted", error=repr(error))
            consumer.seek(partition, records[0].offset)
            await asyncio.sleep(RETRY_SECONDS)

    async def _handle(self, record: Record) -> list[tuple[str, bytes, bytes]]:
        while True:
            try:
                event = codec(record.topic).decode(record.value)
                answers = await self._handlers[record.topic](event)
            except Retryable as error:
                telemetry.RECORDS.labels(record.topic, "retried").inc()
                telemetry.log().warning("retrying", topic=str(record.topic), offset=record.offset, error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
            except (Rejected, UndecodableError) as error:
                telemetry.RECORDS.labels(record.topic, "dead-lettered").inc()
                telemetry.log().error("dead letter", topic=str(record.topic), offset=record.offset, reason=str(error))
                letter = record.dead(self._service, str(error), self._clock)
                return [(record.topic.dead_letters, record.key, encode_dead_letter(letter))]
            else:
                telemetry.RECORDS.labels(record.topic, "handled").inc()
                return [(str(o.topic), o.key, codec(o.topic).encode(o.event)) for o in answers]
