"""The loop that watches requests as they come on record, beside the one that keeps them."""

import asyncio
from collections.abc import Sequence
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from schemas.bundle import Bundle
from schemas.codecs import UndecodableError, codec
from schemas.events import BundlePublished, Drift, Interaction
from schemas.topics import Topic
from services.audit.drift.objectives import Budgets
from services.audit.drift.watch import Watch
from services.runtime import telemetry
from services.runtime.bundles import bundle_of
from services.runtime.clock import Clock
from services.runtime.kafka import (
    MAX_RECORD_BYTES,
    RETRY_SECONDS,
    Follower,
    Lag,
    Outgoing,
    connection,
    ensure_topics,
    stop,
    transaction,
    until_answered,
)
from services.runtime.settings import KafkaSettings

GROUP = "gyre-audit-drift"
_POLL_MS = 500
# Few at once, and a pause of so many times as long behind them: the record's own loop, in the same thread, comes first.
_BATCH_RECORDS = 50
_REST = 9.0
# Between two batches that are not full: drift is not found a second sooner for being looked at every millisecond.
_PAUSE_SECONDS = 0.5


class Watcher:
    """Reads every interaction, and writes what has changed and which objectives are being missed.

    The events of a batch and its offsets are one transaction. Where that fails they are not written again: a change is
    told at most once. What is known of the streams is kept in memory, and learned anew by another process.
    """

    def __init__(self, kafka: KafkaSettings, share: float, watch: Watch, clock: Clock) -> None:
        """Say what is watched.

        Args:
            kafka: Where the record comes from.
            share: Of the requests, in (0, 1]; which they are, their ids decide.
            watch: Finds what has changed.
            clock: Lets alerts clear while nobody asks.
        """
        self._kafka = kafka
        self._share = share
        self._watch = watch
        self._budgets = Budgets()
        self._clock = clock
        self._lag = Lag(GROUP)
        self._bundle: Bundle | None = None
        self._minute = 0
        self._bundles = Follower(kafka, {Topic.BUNDLES: self._take_bundle}, name="audit-bundles")

    async def follow_bundles(self) -> None:
        """Keep the bundle up to date until cancelled."""
        await self._bundles.run()

    async def run(self) -> None:
        """Watch until cancelled."""
        await self._bundles.caught_up()  # objectives are in it
        while True:
            await until_answered("Kafka", lambda: ensure_topics(self._kafka))
            try:
                await self._consume()
            except (IllegalStateError, KafkaError, OSError) as error:
                telemetry.log().warning("waiting", what="Kafka", error=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def _consume(self) -> None:
        producer = AIOKafkaProducer(**connection(self._kafka), transactional_id=f"{GROUP}-{self._clock.new_id()}")
        consumer = AIOKafkaConsumer(
            str(Topic.INTERACTIONS),
            **connection(self._kafka),
            group_id=GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=MAX_RECORD_BYTES,
        )
        try:
            await producer.start()
            await consumer.start()
            while True:
                batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_BATCH_RECORDS)
                messages = [message for batch in batches.values() for message in batch]
                self._lag.polled(consumer, batches)
                began = self._clock.monotonic()
                found = self._take(messages)
                took = self._clock.monotonic() - began
                offsets = {partition: batch[-1].offset + 1 for partition, batch in batches.items()}
                await self._write(producer, consumer, found, offsets)
                for partition, batch in batches.items():
                    self._lag.handled(consumer, partition, batch[-1].offset, batch[-1].timestamp)
                self._show(found)
                await asyncio.sleep(_PAUSE_SECONDS if len(messages) < _BATCH_RECORDS else _REST * took)
        finally:
            await stop(consumer)
            await stop(producer)

    def _take_bundle(self, published: BundlePublished) -> None:
        self._bundle = bundle_of(published)

    def _take(self, messages: Sequence[ConsumerRecord]) -> list[Drift]:
        interactions = [each for message in messages for each in self._decode(message.key or b"", message.value)]
        found = [drift for each in interactions for drift in self._observe(each)]
        # Objectives of what nobody asks go on too: with the record's time, as behind it there may be more of the past.
        now = self._clock.now()
        if not messages:
            found += self._budgets.pass_time(now)
        elif interactions and len(messages) < _BATCH_RECORDS:
            found += self._budgets.pass_time(min(now, max(each.finished_at for each in interactions)))
        return found

    def _decode(self, key: bytes, value: bytes | None) -> Sequence[Interaction]:
        if crc32(key) >= self._share * 2**32:
            return ()
        try:
            return (codec(Topic.INTERACTIONS).decode(value or b""),)
        except UndecodableError:
            return ()  # the other loop sends it to the dead letters

    def _observe(self, interaction: Interaction) -> Sequence[Drift]:
        try:
            return [*self._watch.observe(interaction, self._bundle), *self._budgets.observe(interaction, self._bundle)]
        except Exception:  # whatever is wrong here, the record itself must go on being kept by this process
            telemetry.log().exception("not watched", request_id=interaction.request_id)
            return ()

    async def _write(
        self,
        producer: AIOKafkaProducer,
        consumer: AIOKafkaConsumer,
        found: Sequence[Drift],
        offsets: dict[TopicPartition, int],
    ) -> None:
        if not found:
            if offsets:
                await consumer.commit(offsets)
            return
        async with transaction(producer):
            for drift in found:
                outgoing = Outgoing(Topic.DRIFT, drift)
                await producer.send(str(Topic.DRIFT), codec(Topic.DRIFT).encode(drift), key=outgoing.key)
            if offsets:
                await producer.send_offsets_to_transaction(offsets, GROUP)

    def _show(self, found: Sequence[Drift]) -> None:
        for drift in found:
            telemetry.DRIFTS.labels(drift.tenant, drift.task, drift.model, drift.measure, drift.state).inc()
            telemetry.log().warning(
                "drift",
                task=drift.task_key,
                application=drift.application,
                model=drift.model,
                measure=drift.measure,
                state=drift.state,
                before=drift.before,
                after=drift.after,
                subject=drift.subject,
            )
        minute = int(self._clock.monotonic() // 60)
        if minute == self._minute and not found:
            return
        self._minute = minute
        for gauge in (telemetry.BURN_RATES, telemetry.ALERTS):
            gauge.clear()
        for key, rule, rate, fires in self._budgets.rates():
            telemetry.BURN_RATES.labels(*key, rule.name).set(rate)
            telemetry.ALERTS.labels(*key, rule.name).set(fires)
