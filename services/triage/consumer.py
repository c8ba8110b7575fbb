"""Kafka edge: a Faust app with an agent that decides about traffic.

Interactions, feedback, edge cases and labels are keyed by request and have the same number of partitions, so everything
about one request is in one partition of each. Faust keeps one transaction for each partition number, over what is
written and the offsets of what was read, but only for topics that the app itself reads: that is why edge cases are read
here, and nothing is done with them.

Records are handled by the batch, each in its turn, and what came of a batch is written at its end, edge cases before
the rows that say so. Nothing is committed until all of it is acknowledged, so a transaction holds all that came of a
batch and where to read on, or nothing of it (`batches.py`). When a process is killed, stopped or fails in between, its
transaction is aborted and the batch read again.

What came of answers and dead letters are written outside of transactions, for their topics are not read here: of a
batch that is read again they are written twice. Repeats are dropped where they arrive.
"""

import asyncio
import logging
import shutil
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import msgspec
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from mode.threads import WorkerThread

from schemas.codecs import UndecodableError, codec
from schemas.events import DeadLetter, EdgeCase, Erasure, Feedback, Interaction, Label, Outcome
from schemas.topics import Topic
from services.runtime import telemetry, tracing
from services.runtime.clock import Clock
from services.runtime.errors import Fatal, Rejected
from services.runtime.kafka import Lag, Producer, Record, until_answered
from services.runtime.settings import KafkaSettings
from services.triage import tables
from services.triage.backlog import Backlog
from services.triage.batches import WAITING
from services.triage.domain.neighbours import Known
from services.triage.domain.outcomes import of_feedback, of_label
from services.triage.domain.queue import QueueName
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.experience import Experience
from services.triage.handlers import Considered, Picker
from services.triage.settings import Settings
from services.triage.state import FollowedBundles, FollowedDrift

T = TypeVar("T")

GROUP = "gyre-triage"
# Records after which others have their turn: experts wait for answers of the same process.
AT_A_TIME = 16
STOP_SECONDS = 8.0
SCRUB_SECONDS = 1.0


@dataclass
class _Came:
    """What came of a batch.

    Attributes:
        partition: Of its records.
        edge_cases: By request, as their topic holds them.
        outcomes: What came of answers.
        letters: Records that could not be handled, each with the topic that it is of.
        known: Of interactions, by offset: what gives what is known of answers like it.
        is_erased: Something is to be gone from the files, too.
    """

    partition: int
    edge_cases: list[tables.Row] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    letters: list[tuple[Topic, DeadLetter]] = field(default_factory=list)
    known: dict[int, Callable[[], Known]] = field(default_factory=dict)
    is_erased: bool = False

    def tell(self, *outcomes: Outcome | None) -> None:
        self.outcomes += [each for each in outcomes if each is not None]


Handler = Callable[[Any, Record, _Came], None]


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
        self._lag = Lag(GROUP)
        self._last: dict[tuple[Topic, int], int] = {}  # offset of the record handled last
        self._app.on_partitions_revoked.connect(self._forget_places)
        self._app.on_partitions_revoked.connect(partial(tables.end_transactions, self._app))
        self._remembered.on_recovered(self._recall_remembered)
        self._agent(
            "decide",
            {
                Topic.INTERACTIONS: self._interaction,
                Topic.FEEDBACK: self._feedback,
                Topic.LABELS: self._label,
                Topic.ERASURES: self._erasure,
                Topic.EDGE_CASES: None,  # read that they may be written
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

    def _agent(self, name: str, handlers: dict[Topic, Handler | None]) -> None:
        async def agent(stream: Any) -> None:
            # Left to itself Faust counts a record as handled also when it was cut short.
            events: AsyncIterator[Any] = stream.noack().events()
            try:
                async for event in events:
                    records = [Record.of(each) for each in event.message.records]
                    self._check_follow(records)
                    handler = handlers[records[0].topic]
                    if handler is None:
                        event.ack()
                    else:
                        place, began_ns = (str(records[0].topic), records[0].partition), time.time_ns()
                        self._lag.taken(place, records[0].timestamp_ms)
                        await self._write(await self._handle(records, handler), event)
                        self._lag.handled(self._app.consumer, place, records[-1].offset, records[-1].timestamp_ms)
                        tracing.handled(GROUP, records, began_ns)
            except Exception as error:
                # Raised, Faust would start the agent again behind what it had fetched, and commit past that.
                telemetry.log().exception("agent failed", agent=name)
                if not self._failure.done():
                    self._failure.set_exception(Fatal(f"agent {name}: {error!r}"))
                await asyncio.Event().wait()  # until the process ends

        topic = self._app.topic(
            *map(str, handlers),
            key_serializer="raw",
            value_serializer="raw",
            partitions=self._kafka.partitions,
        )
        topic.maxsize = WAITING  # given to `app.topic` it is forgotten, and the whole backlog would wait in memory
        self._app.agent(topic, name=name)(agent)

    def _check_follow(self, records: Sequence[Record]) -> None:
        """Stop the process when Faust has left a record out, before a later one is committed."""
        topic, partition, first, end = records[0].topic, records[0].partition, records[0].offset, records[-1].offset
        last = self._last.get((topic, partition), first - 1)
        self._last[topic, partition] = end
        # Our own edge cases are written in transactions, whose markers take offsets too; erasures are compacted.
        gapless = topic not in (Topic.EDGE_CASES, Topic.ERASURES)
        if gapless and (first > last + 1 or end - first >= len(records)):
            raise Fatal(f"{topic}/{partition}: {last} is followed by {[each.offset for each in records]}")

    async def _handle(self, records: Sequence[Record], handler: Handler) -> _Came:
        """Handle a batch; a record that cannot be is a dead letter, and leaves the others alone."""
        came, events = _Came(records[0].partition), []
        async for record in _giving_way(records):
            try:
                events.append((record, codec(record.topic).decode(record.value)))
            except UndecodableError as error:
                self._bury(record, error, came)
        asked = [(record.offset, event) for record, event in events if isinstance(event, Interaction)]
        known = self._experience.compared([event for _, event in asked])
        came.known = {offset: each for (offset, _), each in zip(asked, known, strict=True)}
        async for record, event in _giving_way(events):
            try:
                handler(event, record, came)
            except Rejected as error:
                self._bury(record, error, came)
        telemetry.RECORDS.labels(records[0].topic, "handled").inc(len(records) - len(came.letters))
        return came

    def _bury(self, record: Record, error: Exception, came: _Came) -> None:
        telemetry.RECORDS.labels(record.topic, "dead-lettered").inc()
        telemetry.log().error("dead letter", topic=str(record.topic), offset=record.offset, reason=str(error))
        came.letters.append((record.topic, record.dead("triage", str(error), self._clock)))

    async def _write(self, came: _Came, event: Any) -> None:
        """Write what came of a batch, and count it as handled."""
        sends = [
            *(partial(self._producer.send_dead_letter, *each) for each in came.letters),
            *(partial(self._producer.send, Topic.OUTCOMES, each) for each in came.outcomes),
        ]
        await asyncio.gather(*(until_answered("Kafka", send) for send in sends))
        async with self._app.consumer.writing():
            edge_cases = {str(Topic.EDGE_CASES): came.edge_cases}
            await tables.write(self._app, came.partition, edge_cases, (self._selectors, self._remembered))
            event.ack()
        if came.is_erased:
            # Erasures come many at once, and one pass over the files does for all of them.
            if not self._unscrubbed:
                asyncio.get_running_loop().call_later(SCRUB_SECONDS, self._scrub)
            self._unscrubbed.add(came.partition)

    def _interaction(self, interaction: Interaction, record: Record, came: _Came) -> None:
        row = self._remembered.get(interaction.request_id, record.partition)
        known = row or Remembered(partition=record.partition)
        key, selector = self._selector(interaction.tenant, interaction.task, record.partition)
        bundle = self._bundles.current()
        drift = self._drift.exploration(interaction.tenant, interaction.task, self._clock.now())
        considered = self._picker.consider(
            interaction, record.value, known, selector, bundle, drift, came.known[record.offset]
        )
        if considered is None:
            return
        # Feedback that came before its interaction.
        came.tell(*(of_feedback(each, interaction, bundle) for each in considered.remembered.feedback))
        self._keep(interaction.request_id, key, considered, row is None, came)

    def _feedback(self, feedback: Feedback, record: Record, came: _Came) -> None:
        row = self._remembered.get(feedback.request_id, record.partition)
        known = row or Remembered(partition=record.partition)
        asked = self._asked(feedback.request_id, known)
        key, selector = self._selector(feedback.tenant, asked.task if asked else "", record.partition)
        bundle = self._bundles.current()
        considered = self._picker.reconsider(feedback, known, selector, bundle)
        if considered is None:
            return
        if asked is not None:
            came.tell(of_feedback(feedback, asked, bundle))
        self._keep(feedback.request_id, key, considered, row is None, came)

    def _label(self, label: Label, _: Record, came: _Came) -> None:
        came.tell(of_label(label, self._bundles.current()))

    def _erasure(self, erasure: Erasure, record: Record, came: _Came) -> None:
        """Drop what is remembered of a request; what may still come of it finds it erased."""
        known = self._remembered.get(erasure.request_id, record.partition)
        if erasure.is_whole:  # also where nothing is known: the interaction may be read after its erasure
            erased = Remembered(partition=record.partition, erased=True)
            self._remember(erasure.request_id, erased, known is None)
        elif known is not None:
            self._remember(erasure.request_id, msgspec.structs.replace(known, feedback=()), False)
        came.is_erased = True

    def _keep(self, request_id: str, selector_key: str, considered: Considered, is_new: bool, came: _Came) -> None:
        if considered.edge_case is not None:
            if not considered.edge_case.same_as:  # the next one may be it again; the topic tells it too late
                self._experience.take_edge_case(considered.edge_case)
            came.edge_cases.append((request_id.encode(), codec(Topic.EDGE_CASES).encode(considered.edge_case)))
        if considered.selector is not None:
            self._selectors.put(selector_key, considered.selector)
        self._remember(request_id, considered.remembered, is_new)

    def _remember(self, request_id: str, row: Remembered, is_new: bool) -> None:
        self._remembered.put(request_id, row)
        if is_new:
            keys = self._oldest.setdefault(row.partition, deque())
            keys.append(request_id)
            if len(keys) > self._settings.remembered:
                self._remembered.delete(keys.popleft())

    def _asked(self, request_id: str, known: Remembered) -> Interaction | EdgeCase | None:
        """Return what feedback is about, while it is remembered and no expert has judged it."""
        if known.interaction:
            interaction: Interaction = codec(Topic.INTERACTIONS).decode(known.interaction)
            return interaction
        item = self._backlog.item(request_id)
        return item.edge_case if item is not None and not item.labels else None

    def _scrub(self) -> None:
        partitions, self._unscrubbed = self._unscrubbed, set()
        for partition in partitions:
            self._remembered.scrub(partition)

    def _selector(self, tenant: str, task: str, partition: int) -> tuple[str, Selector]:
        key = _key(partition, tenant, task)
        return key, self._selectors.get(key, partition) or Selector()

    # Recovery

    async def _forget_places(self, _: Any, revoked: Iterable[TP], **__: Any) -> None:
        self._last.clear()
        self._lag.forget(revoked)

    async def _recall_remembered(self) -> None:
        # Request ids are UUIDv7, so their order is that of time.
        self._oldest.clear()
        for request_id, row in sorted(self._remembered.items(), key=lambda item: item[0]):
            self._oldest.setdefault(row.partition, deque()).append(request_id)


async def _giving_way(many: Sequence[T]) -> AsyncIterator[T]:
    """Yield all, and let the rest of the process have its turn from time to time."""
    for place, each in enumerate(many, 1):
        yield each
        if place % AT_A_TIME == 0:
            await asyncio.sleep(0)


def _key(partition: int, tenant: str, task: str) -> str:
    return f"{partition}/{tenant}/{task}"


def _name(key: str) -> QueueName:
    _, tenant, task = key.split("/", 2)
    return tenant, task
