"""Sharing the partitions of topics with a group: what is made of a batch is written in one transaction."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError, ProducerFenced
from opentelemetry.trace import SpanKind

from schemas.codecs import UndecodableError, codec, encode_dead_letter
from schemas.topics import Topic
from services.runtime import telemetry, tracing
from services.runtime.clock import Clock
from services.runtime.errors import Fatal, Rejected, Retryable
from services.runtime.kafka.clients import RETRY_SECONDS, connection, stop, until_answered
from services.runtime.kafka.lag import Lag
from services.runtime.kafka.records import MAX_RECORD_BYTES, Outgoing, Record
from services.runtime.kafka.topics import ensure_topics
from services.runtime.settings import KafkaSettings

ABORT_SECONDS = 10.0
BATCH_RECORDS = 500


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
            async with asyncio.timeout(ABORT_SECONDS):
                await _abort(producer)
        raise
    except BaseException:
        await _abort(producer)  # however long it takes: there is no next transaction before
        raise
    await producer.commit_transaction()


async def _abort(producer: AIOKafkaProducer) -> None:
    if not producer._txn_manager.is_fatal_error():  # after which there is nothing to abort
        await producer.abort_transaction()


Handler = Callable[[Any], Awaitable[Sequence[Outgoing]]]
# Topic, key, value and headers of a record to send.
_Made = tuple[str, bytes, bytes, list[tuple[str, bytes]]]


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
        self._lag = Lag(self._group)
        self._clock = clock or Clock()

    async def run(self) -> None:
        """Consume until cancelled.

        Raises:
            Fatal: Another process has taken this one's place.
        """
        await until_answered("Kafka", lambda: ensure_topics(self._settings))
        producer = AIOKafkaProducer(
            **connection(self._settings),
            transactional_id=f"{self._group}-{self._clock.new_id()}",
            max_request_size=2 * MAX_RECORD_BYTES,
        )
        consumer = AIOKafkaConsumer(
            *[str(topic) for topic in self._handlers],
            **connection(self._settings),
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
                self._lag.polled(consumer, batches)
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
                for topic, key, value, headers in made:
                    await producer.send(topic, value, key=key, headers=headers)
                await producer.send_offsets_to_transaction({partition: records[-1].offset + 1}, self._group)
        except (IllegalStateError, KafkaError) as error:
            # Nothing of the batch is committed: read it again from where the group stands.
            if isinstance(error, ProducerFenced):
                raise
            telemetry.log().warning("transaction aborted", error=repr(error))
            consumer.seek(partition, records[0].offset)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            self._lag.handled(consumer, partition, records[-1].offset, records[-1].timestamp_ms)

    async def _handle(self, record: Record) -> list[_Made]:
        with tracing.span(f"process {record.topic}", record.traceparent, SpanKind.CONSUMER):
            return await self._made_of(record, tracing.record_headers())

    async def _made_of(self, record: Record, headers: list[tuple[str, bytes]]) -> list[_Made]:
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
                return [(record.topic.dead_letters, record.key, encode_dead_letter(letter), headers)]
            else:
                telemetry.RECORDS.labels(record.topic, "handled").inc()
                return [(str(o.topic), o.key, codec(o.topic).encode(o.event), headers) for o in answers]
