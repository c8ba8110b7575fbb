import asyncio
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from schemas.events import DeadLetter
from schemas.topics import Topic
from services.audit.domain import Chain, Head
from services.audit.erasing import Eraser
from services.audit.handlers import keep, recount
from services.audit.ports import DeadLetters, Ledger
from services.audit.settings import Settings
from services.audit.signing import Keys, resume, sign
from services.runtime import telemetry, tracing
from services.runtime.clock import Clock
from services.runtime.errors import Retryable
from services.runtime.kafka import RETRY_SECONDS, Lag, Producer, Record, connection, stop, until_answered
from services.runtime.settings import KafkaSettings

GROUP = "gyre-audit"
_POLL_MS = 200
# While rows are being stored: a partition that is through with its own is to go on at once.
_BUSY_POLL_MS = 20
# Batches in work at once, each of another partition: ClickHouse stores one while the chain of the other is computed.
_BATCHES = 2
# How long the partitions of a killed process stand still. Short, because two at once do no harm (see `Ledger.append`).
_SESSION_TIMEOUT_MS = 6000
# A long chain that was never signed is read as a whole before its partition goes on.
_PLACE_MS = 30 * 60 * 1000
# What waits here of each partition while ClickHouse is slow or away; a larger batch comes alone.
_FETCH_BYTES = 6 << 20


class Recorder:
    """Reads every topic and keeps every record.

    The consumer group only shares out the partitions. Where to go on in one is asked of the ledger, each time that it
    is assigned and after each error, and the partition stands still until the ledger has answered.
    """

    def __init__(
        self, kafka: KafkaSettings, settings: Settings, ledger: Ledger, keys: Keys, eraser: Eraser, clock: Clock
    ) -> None:
        self._kafka = kafka
        self._settings = settings
        self._ledger = ledger
        self._keys = keys
        self._eraser = eraser
        self._clock = clock
        self._chains: dict[TopicPartition, Chain] = {}
        self._signed_at: dict[TopicPartition, float] = {}
        self._work: dict[TopicPartition, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(_BATCHES)
        self._lag = Lag(GROUP)
        self._assigned = False
        self._retry_at = 0.0
        self._ready = asyncio.Event()

    async def ready(self) -> None:
        """Wait until the tables are there and partitions have been assigned and found in the ledger."""
        await self._ready.wait()

    async def run(self) -> None:
        """Read until cancelled.

        Raises:
            Rejected: ClickHouse refuses the tables or views.
        """
        await until_answered("ClickHouse", self._ledger.prepare)
        self._eraser.ask()  # a process before this one may have left something to erase
        async with Producer(self._kafka) as producer:
            letters = _Once(producer)
            while True:
                try:
                    await self._consume(producer, letters)
                except (KafkaError, OSError) as error:
                    telemetry.log().warning("waiting", what="Kafka", error=repr(error))
                    await asyncio.sleep(RETRY_SECONDS)

    async def _consume(self, producer: Producer, letters: DeadLetters) -> None:
        consumer = AIOKafkaConsumer(
            **connection(self._kafka),
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=_FETCH_BYTES,
            session_timeout_ms=_SESSION_TIMEOUT_MS,
            max_poll_interval_ms=_PLACE_MS,
            heartbeat_interval_ms=_SESSION_TIMEOUT_MS // 3,
        )
        self._assigned = False
        self._slots = asyncio.Semaphore(_BATCHES)
        consumer.subscribe([str(topic) for topic in Topic], listener=_Assignment(self, consumer))
        try:
            await consumer.start()
            while True:
                self._settle()
                await self._place(consumer)
                await self._sign(producer)
                await self._read(letters, consumer)
        finally:
            for task in self._work.values():
                task.cancel()
            await asyncio.gather(*self._work.values(), return_exceptions=True)
            self._work.clear()
            self._chains.clear()
            await stop(consumer)

    def forget(self, partitions: Sequence[TopicPartition]) -> None:
        """Hold partitions not to be placed any more."""
        self._lag.forget(partitions)
        for partition in partitions:
            self._chains.pop(partition, None)
            telemetry.UNSIGNED.labels(partition.topic, partition.partition).set(0)

    def assigned(self) -> None:
        """Take note that the group has shared out the partitions."""
        self._assigned = True

    async def _place(self, consumer: AIOKafkaConsumer) -> None:
        """Ask the ledger where to go on in the partitions of which that is not known, and go on there."""
        unplaced = [each for each in consumer.assignment() if each not in self._chains and each not in self._work]
        if not unplaced:
            if self._assigned:
                self._ready.set()
            return
        if self._clock.monotonic() < self._retry_at:
            return
        begins, ends = await consumer.beginning_offsets(unplaced), await consumer.end_offsets(unplaced)
        for partition in unplaced:
            try:
                chain = await resume(self._ledger, self._keys, Topic(partition.topic), partition.partition)
                self._check(partition, chain.head, begins[partition], ends[partition])
                await recount(self._ledger, Topic(partition.topic), partition.partition)
            except Retryable as error:
                self._wait(partition, error)
                continue
            if partition in consumer.assignment():  # it may have gone meanwhile
                consumer.seek(partition, max(chain.head.offset + 1, begins[partition]))
                consumer.resume(partition)
                self._chains[partition] = chain

    def _check(self, partition: TopicPartition, head: Head, begin: int, end: int) -> None:
        if end <= head.offset:
            raise Retryable(
                f"Kafka ends at offset {end}, but row {head.offset} is stored: the topic has been made anew. Give it "
                "another name or another ClickHouse; its records cannot continue the old chain"
            )
        if begin > head.offset + 1:
            telemetry.log().error(
                "records lost",
                topic=partition.topic,
                partition=partition.partition,
                first=head.offset + 1,
                last=begin - 1,
                reason="Kafka had deleted them before they were read",
            )

    def _settle(self) -> None:
        """Take partitions out of work that are through with it. What nobody expected of one ends all."""
        for partition in [each for each, task in self._work.items() if task.done()]:
            self._work.pop(partition).result()

    async def _read(self, letters: DeadLetters, consumer: AIOKafkaConsumer) -> None:
        """Begin to keep what has come of one partition that is not in work; wait a moment where nothing has."""
        idle = [each for each in self._chains if each not in self._work]
        if self._work and not idle:
            await asyncio.wait(self._work.values(), timeout=_POLL_MS / 1000, return_when=asyncio.FIRST_COMPLETED)
            return
        await self._slots.acquire()
        taken: dict[TopicPartition, list[Any]] = {}
        try:
            taken = await self._take(consumer, idle)
        finally:
            if not taken:
                self._slots.release()
        if not taken:
            self._lag.caught_up(idle)
        for partition, messages in taken.items():
            self._work[partition] = asyncio.create_task(self._work_on(letters, consumer, partition, messages))

    async def _take(
        self, consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]
    ) -> dict[TopicPartition, list[Any]]:
        """Return what has come of one of some partitions, or nothing when nothing comes for a moment."""
        timeout_ms = _BUSY_POLL_MS if self._work else _POLL_MS
        # One message tells of which partition there are some. All of that one then, none cut off for another's sake.
        taken: dict[TopicPartition, list[Any]] = await consumer.getmany(
            *partitions, timeout_ms=timeout_ms, max_records=1
        )
        if self._settings.batch_records > 1:
            for partition, messages in taken.items():
                more = await consumer.getmany(partition, max_records=self._settings.batch_records - 1)
                messages += more.get(partition, [])
        return taken

    async def _work_on(
        self, letters: DeadLetters, consumer: AIOKafkaConsumer, partition: TopicPartition, messages: Sequence[Any]
    ) -> None:
        try:
            left = await self._keep(letters, consumer, partition, messages)
        finally:
            self._slots.release()
        # Not while more is waiting than was just taken. (Of transactions, markers that nobody reads are left.)
        if left <= len(messages):
            await asyncio.sleep(self._settings.flush_seconds)

    async def _keep(
        self, letters: DeadLetters, consumer: AIOKafkaConsumer, partition: TopicPartition, messages: Sequence[Any]
    ) -> int:
        """Keep records of a partition and return how many are behind them, as far as is known."""
        chain = self._chains.get(partition)
        if chain is None:
            return 0  # read before its place was known; it will be read again from there
        records = [Record.of(message) for message in messages]
        self._lag.taken(partition, records[0].timestamp_ms)
        began_ns = time.time_ns()
        try:
            kept = await keep(self._ledger, letters, self._clock, chain, records)
        except Retryable as error:
            self._chains.pop(partition, None)
            if partition in consumer.assignment():
                consumer.pause(partition)
            telemetry.RECORDS.labels(partition.topic, "retried").inc(len(records))
            self._wait(partition, error)
            return 0
        # Not where the group has shared out the partitions anew meanwhile: one that is paused waits to be placed.
        if self._chains.get(partition) is chain:
            self._chains[partition] = kept
        telemetry.RECORDS.labels(partition.topic, "handled").inc(len(records))
        tracing.handled(GROUP, records, began_ns)
        if partition.topic == Topic.ERASURES:
            self._eraser.ask()
        return self._lag.handled(consumer, partition, records[-1].offset, records[-1].timestamp_ms)

    async def _sign(self, producer: Producer) -> None:
        """Publish a checkpoint of each chain of which a row has been unsigned for long enough."""
        notes = []
        # Those in work are extended meanwhile, and signed before they are next.
        for partition, chain in [each for each in self._chains.items() if each[0] not in self._work]:
            topic, now = Topic(partition.topic), self._clock.monotonic()
            telemetry.UNSIGNED.labels(topic, partition.partition).set(chain.unsigned)
            wanted = self._signed_at.get(partition, 0.0) + self._settings.checkpoint_seconds
            # What an erasure has removed shows as removed until its own row is signed.
            if not chain.unsigned or (now < wanted and topic is not Topic.ERASURES):
                continue
            signed, event = sign(chain, self._keys, topic, partition.partition, self._clock.now())
            try:
                await producer.send(Topic.CHECKPOINTS, event)
            except Retryable as error:
                telemetry.log().warning("waiting", what="Kafka", error=str(error))
                break
            self._signed_at[partition] = now
            if self._chains.get(partition) is chain:
                self._chains[partition] = signed
            notes.append(event.note)
        if notes and self._settings.checkpoints_file is not None:
            try:
                await asyncio.to_thread(_append, self._settings.checkpoints_file, notes)
            except OSError as error:  # the next checkpoints cover what these do
                telemetry.log().error("checkpoints not kept in their file", error=str(error))

    def _wait(self, partition: TopicPartition, error: Retryable) -> None:
        self._retry_at = self._clock.monotonic() + RETRY_SECONDS
        telemetry.log().warning(
            "waiting", what="ledger", topic=partition.topic, partition=partition.partition, error=str(error)
        )


class _Once:
    """Sends the dead letter of a record once in the life of this process, however often the record is tried."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._last: dict[tuple[Topic, int], int] = {}

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        if letter.offset > self._last.get((topic, letter.partition), -1):
            await self._producer.send_dead_letter(topic, letter)
            self._last[topic, letter.partition] = letter.offset


class _Assignment(ConsumerRebalanceListener):  # type: ignore[misc] # published without types
    """Stops partitions when they come, until they are placed, and forgets them when they go."""

    def __init__(self, recorder: Recorder, consumer: AIOKafkaConsumer) -> None:
        self._recorder = recorder
        self._consumer = consumer

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self._recorder.forget(revoked)

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self._recorder.forget(assigned)
        self._consumer.pause(*assigned)
        self._recorder.assigned()


def _append(path: Path, notes: Sequence[str]) -> None:
    """Write notes behind those that are there, all or none.

    Raises:
        OSError: They cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            for note in notes:
                file.write(f"{note}\n".encode())
            os.fsync(file.fileno())
        except OSError:
            file.truncate(before)
            raise
