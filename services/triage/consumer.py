"""Kafka edge: a Faust app with an agent that decides about traffic.

Interactions, feedback, edge cases and labels are keyed by request and have the same number of partitions, so everything
about one request is in one partition of each. Faust keeps one transaction for each partition number, over what is
written and the offsets of what was read, but only for topics that the app itself reads: that is why edge cases are read
here, and nothing is done with them.

What came of answers is written outside of transactions, for its topic is not read here: after a crash perhaps twice.

A transaction may commit between two writes of one record, so a crash may repeat the record. That is why an edge case is
written before the row that says so, and why repeats are dropped where they arrive.
"""

import asyncio
import logging
import shutil
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode.threads import WorkerThread

from schemas.codecs import UndecodableError, codec
from schemas.events import EdgeCase, Erasure, Event, Feedback, Interaction, Label, Outcome
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Fatal, Rejected
from services.runtime.kafka import Producer, Record, until_answered
from services.runtime.settings import KafkaSettings
from services.triage import tables
from services.triage.backlog import Backlog
from services.triage.domain.outcomes import of_feedback, of_label
from services.triage.domain.queue import QueueName
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.experience import Experience
from services.triage.handlers import Considered, Picker
from services.triage.settings import Settings
from services.triage.state import FollowedBundles, FollowedDrift

GROUP = "gyre-triage"
STOP_SECONDS = 8.0
SCRUB_SECONDS = 1.0

Handler = Callable[[Any, Record], Awaitable[None]]


class _LeftThread(WorkerThread):
    """A consumer's thread that does not keep the process alive when Faust is left before it has ended it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.daemon = True


AIOKafkaConsumerThread.Worker = _LeftThread


class Triage:
    """The Faust app, and the tables as the rest of the service reads them."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaSettings,
        bundles: FollowedBundles,
        drift: FollowedDrift,
        backlog: Backlog,
        experience: Experience,
        producer: Producer,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._bundles = bundles
        self._drift = drift
        self._backlog = backlog
        self._experience = experience
        self._picker = Picker(experience, clock, kafka.partitions)
        self._producer = producer
        self._clock = clock
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        logging.getLogger("faust").setLevel(logging.WARNING)
        logging.getLogger("mode").setLevel(logging.WARNING)
        self._app = tables.app(GROUP, kafka, str(settings.data_dir / "tables"))
        self._remembered = tables.Table(self._app, "remembered", Remembered, kafka)
        self._selectors = tables.Table(self._app, "selectors", Selector, kafka)
        # What may be forgotten, oldest first, by partition.
        self._oldest: dict[int, deque[str]] = {}
        self._unscrubbed: set[int] = set()  # partitions in whose files something erased may still be
        self._last: dict[tuple[Topic, int], int] = {}  # offset of the record handled last
        self._app.on_partitions_revoked.connect(self._forget_places)
        self._remembered.on_recovered(self._recall_remembered)
        self._edge_cases = self._topic(Topic.EDGE_CASES)
        self._agent(
            "decide",
            {
                Topic.INTERACTIONS: self._interaction,
                Topic.FEEDBACK: self._feedback,
                Topic.LABELS: self._label,
                Topic.ERASURES: self._erasure,
                Topic.EDGE_CASES: _nothing,
            },
        )

    async def run(self) -> None:
        """Handle records until cancelled.

        Raises:
            Fatal: Faust has crashed, or a record could not be handled for a reason that is not the record's.
        """
        # With transactions Faust reads the whole changelog at every start, and rows of a transaction that was never
        # committed would survive underneath. So the local copy is made anew.
        shutil.rmtree(self._settings.data_dir / "tables", ignore_errors=True)
        self._settings.data_dir.mkdir(parents=True, exist_ok=True)
        await tables.ensure_changelogs(self._app, self._kafka)
        await self._bundles.published.wait()  # without one there is no budget to hold
        stopped: asyncio.Task[None] | None = None
        try:
            await self._app.start()
            stopped = asyncio.create_task(self._app.wait_until_stopped())
            await asyncio.wait([stopped, self._failure], return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            raise Fatal(f"Faust stopped: {self._app.crash_reason!r}") from self._app.crash_reason
        finally:
            if stopped is not None:
                stopped.cancel()
            # Faust would wait for records that it has cut short to count as handled. They are read again instead.
            self._app.conf.stream_wait_empty = False
            # While it reads its tables anew Faust does not hear that it is to stop: then it is left.
            await asyncio.wait([asyncio.create_task(self._app.stop())], timeout=STOP_SECONDS)

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        """Yield what was decided, for each partition, tenant and task."""
        return ((_name(key), selector) for key, selector in self._selectors.items())

    # Agents

    def _topic(self, *topics: Topic) -> Any:
        return self._app.topic(
            *map(str, topics), key_serializer="raw", value_serializer="raw", partitions=self._kafka.partitions
        )

    def _agent(self, name: str, handlers: dict[Topic, Handler]) -> None:
        async def agent(stream: Any) -> None:
            # Left to itself Faust counts a record as handled also when it was cut short.
            events: AsyncIterator[Any] = stream.noack().events()
            try:
                async for event in events:
                    record = _record(event.message)
                    self._check_follows(record)
                    await self._handle(record, handlers[record.topic])
                    event.ack()
            except Exception as error:
                # Raised, Faust would start the agent again behind what it had fetched, and commit past that.
                telemetry.log().exception("agent failed", agent=name)
                if not self._failure.done():
                    self._failure.set_exception(Fatal(f"agent {name}: {error!r}"))
                await asyncio.Event().wait()  # until the process ends

        self._app.agent(self._topic(*handlers), name=name)(agent)

    def _check_follows(self, record: Record) -> None:
        """Stop the process when Faust has left a record out, before a later one is committed."""
        place = record.topic, record.partition
        last, self._last[place] = self._last.get(place), record.offset
        # Our own edge cases are written in transactions, whose markers take offsets too; erasures are compacted.
        gapless = record.topic not in (Topic.EDGE_CASES, Topic.ERASURES)
        if gapless and last is not None and record.offset > last + 1:
            raise Fatal(f"{record.topic}/{record.partition}: {last} is followed by {record.offset}")

    async def _handle(self, record: Record, handler: Handler) -> None:
        try:
            event: Event = codec(record.topic).decode(record.value)
            await handler(event, record)
            telemetry.RECORDS.labels(record.topic, "handled").inc()
        except (UndecodableError, Rejected) as error:
            telemetry.RECORDS.labels(record.topic, "dead-lettered").inc()
            telemetry.log().error("dead letter", topic=str(record.topic), offset=record.offset, reason=str(error))
            letter = record.dead("triage", str(error), self._clock)
            await until_answered("Kafka", lambda: self._producer.send_dead_letter(record.topic, letter))

    async def _interaction(self, interaction: Interaction, record: Record) -> None:
        known = self._remembered.get(interaction.request_id) or Remembered(partition=record.partition)
        key, selector = self._selector(interaction.tenant, interaction.task, record.partition)
        bundle = self._bundles.current()
        drift = self._drift.exploration(interaction.tenant, interaction.task, self._clock.now())
        considered = self._picker.consider(interaction, record.value, known, selector, bundle, drift)
        for each in considered.remembered.feedback if considered else ():  # it came before its interaction
            await self._tell(of_feedback(each, interaction, bundle))
        await self._keep(interaction.request_id, key, considered, record)

    async def _feedback(self, feedback: Feedback, record: Record) -> None:
        known = self._remembered.get(feedback.request_id) or Remembered(partition=record.partition)
        asked = self._asked(feedback.request_id, known)
        key, selector = self._selector(feedback.tenant, asked.task if asked else "", record.partition)
        bundle = self._bundles.current()
        considered = self._picker.reconsider(feedback, known, selector, bundle)
        if considered is not None and asked is not None:
            await self._tell(of_feedback(feedback, asked, bundle))
        await self._keep(feedback.request_id, key, considered, record)

    async def _label(self, label: Label, _: Record) -> None:
        await self._tell(of_label(label, self._bundles.current()))

    async def _erasure(self, erasure: Erasure, record: Record) -> None:
        """Drop what is remembered of a request; what may still come of it finds it erased."""
        known = self._remembered.get(erasure.request_id)
        if erasure.is_whole:  # also where nothing is known: the interaction may be read after its erasure
            await self._remember(erasure.request_id, Remembered(partition=record.partition, erased=True))
        elif known is not None:
            await self._remember(erasure.request_id, msgspec.structs.replace(known, feedback=()))
        # Erasures come many at once, and one pass over the files does for all of them.
        if not self._unscrubbed:
            asyncio.get_running_loop().call_later(SCRUB_SECONDS, self._scrub)
        self._unscrubbed.add(record.partition)

    async def _keep(self, request_id: str, selector_key: str, considered: Considered | None, record: Record) -> None:
        if considered is None:
            return
        if considered.edge_case is not None:
            if not considered.edge_case.same_as:  # the next one may be it again; the topic tells it too late
                self._experience.take_edge_case(considered.edge_case)
            await self._edge_cases.send(
                key=request_id.encode(),
                value=codec(Topic.EDGE_CASES).encode(considered.edge_case),
                partition=record.partition,
            )
        if considered.selector is not None:
            await self._selectors.put(selector_key, considered.selector, record.partition)
        await self._remember(request_id, considered.remembered)

    async def _remember(self, request_id: str, row: Remembered) -> None:
        new = self._remembered.get(request_id) is None
        await self._remembered.put(request_id, row, row.partition)
        if new:
            await self._forget(request_id, row.partition)

    def _asked(self, request_id: str, known: Remembered) -> Interaction | EdgeCase | None:
        """Return what feedback is about, while it is remembered and no expert has judged it."""
        if known.interaction:
            interaction: Interaction = codec(Topic.INTERACTIONS).decode(known.interaction)
            return interaction
        item = self._backlog.item(request_id)
        return item.edge_case if item is not None and not item.labels else None

    async def _tell(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            await until_answered("Kafka", lambda: self._producer.send(Topic.OUTCOMES, outcome))

    def _scrub(self) -> None:
        partitions, self._unscrubbed = self._unscrubbed, set()
        for partition in partitions:
            self._remembered.scrub(partition)

    def _selector(self, tenant: str, task: str, partition: int) -> tuple[str, Selector]:
        key = _key(partition, tenant, task)
        return key, self._selectors.get(key) or Selector()

    async def _forget(self, request_id: str, partition: int) -> None:
        keys = self._oldest.setdefault(partition, deque())
        keys.append(request_id)
        if len(keys) > self._settings.remembered:
            await self._remembered.delete(keys.popleft(), partition)

    # Recovery

    async def _forget_places(self, *_: Any, **__: Any) -> None:
        self._last.clear()

    async def _recall_remembered(self) -> None:
        # Request ids are UUIDv7, so their order is that of time.
        self._oldest.clear()
        for request_id, row in sorted(self._remembered.items(), key=lambda item: item[0]):
            self._oldest.setdefault(row.partition, deque()).append(request_id)


async def _nothing(_: Event, __: Record) -> None:
    pass


def _record(message: Any) -> Record:
    return Record(
        topic=Topic(message.topic),
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=int(message.timestamp * 1000),  # Faust's are seconds
        key=message.key or b"",
        value=message.value or b"",
    )


def _key(partition: int, tenant: str, task: str) -> str:
    return f"{partition}/{tenant}/{task}"


def _name(key: str) -> QueueName:
    _, tenant, task = key.split("/", 2)
    return tenant, task
