"""Kafka edge: a Faust app with two agents, one that decides about traffic and one that keeps the experts' queue.

Interactions, feedback, edge cases and labels are keyed by request and have the same number of partitions, so everything
about one request is in one partition of each. Faust keeps one transaction for each partition number, over what is
written and the offsets of what was read, but only for topics that the app itself reads. That is one reason why the
queue is filled from the edge-case topic, not directly; the other is that it then holds what everybody else sees.

What came of answers is written outside of transactions, for its topic is not read here: after a crash perhaps twice.

A transaction may commit between two writes of one record, so a crash may repeat the record. That is why an edge case is
written before the row that says so, and why repeats are dropped where they arrive.
"""

import asyncio
import contextlib
import logging
import shutil
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.codecs import UndecodableError, codec
from schemas.events import EdgeCase, Erasure, Event, Feedback, Interaction, Label, Outcome
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Fatal, Rejected, Retryable
from services.runtime.kafka import Producer, Record, stop, until_answered
from services.runtime.settings import KafkaSettings
from services.triage import tables
from services.triage.domain.labels import ERASED, SKIPPED
from services.triage.domain.outcomes import of_feedback, of_label
from services.triage.domain.queue import Queue, QueueName, Shelf
from services.triage.domain.rows import Item, Labelled, Remembered
from services.triage.domain.selection import Selector
from services.triage.experience import Experience
from services.triage.handlers import Considered, Picker
from services.triage.settings import Settings
from services.triage.state import FollowedBundles, FollowedDrift

GROUP = "gyre-triage"
POLL_SECONDS = 0.2
STOP_SECONDS = 8.0
SCRUB_SECONDS = 1.0

Handler = Callable[[Any, Record], Awaitable[None]]


class Triage:
    """The Faust app, and the tables as the rest of the service reads them."""

    def __init__(
        self,
        settings: Settings,
        kafka: KafkaSettings,
        bundles: FollowedBundles,
        drift: FollowedDrift,
        queue: Queue,
        experience: Experience,
        producer: Producer,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._kafka = kafka
        self._bundles = bundles
        self._drift = drift
        self._queue = queue
        self._experience = experience
        self._picker = Picker(experience, clock, kafka.partitions)
        self._producer = producer
        self._clock = clock
        self._ready = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        logging.getLogger("faust").setLevel(logging.WARNING)
        logging.getLogger("mode").setLevel(logging.WARNING)
        self._app = tables.app(GROUP, kafka, str(settings.data_dir / "tables"))
        self._remembered = tables.Table(self._app, "remembered", Remembered, kafka)
        self._selectors = tables.Table(self._app, "selectors", Selector, kafka)
        self._items = tables.Table(self._app, "items", Item, kafka)
        self._labelled = tables.Table(self._app, "labelled", Labelled, kafka)
        # What may be forgotten, oldest first, by partition.
        self._oldest_remembered: dict[int, deque[str]] = {}
        self._oldest_done: dict[int, deque[str]] = {}
        # An erasure comes between no decision and what is then remembered: the two agents take turns.
        self._deciding = asyncio.Lock()
        self._unscrubbed: set[int] = set()  # partitions in whose files something erased may still be
        self._last: dict[tuple[Topic, int], int] = {}  # offset of the record handled last
        self._app.on_partitions_revoked.connect(self._forget_places)
        self._remembered.on_recovered(self._recall_remembered)
        self._items.on_recovered(self._recall_items)
        self._edge_cases = self._topic(Topic.EDGE_CASES)
        self._agent("decide", {Topic.INTERACTIONS: self._interaction, Topic.FEEDBACK: self._feedback})
        self._agent(
            "queue",
            {Topic.EDGE_CASES: self._edge_case, Topic.LABELS: self._label, Topic.ERASURES: self._erasure},
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
        recovering: asyncio.Task[None] | None = None
        try:
            await self._app.start()
            recovering = asyncio.create_task(self._recover())
            stopped = asyncio.create_task(self._app.wait_until_stopped())
            await asyncio.wait([stopped, self._failure], return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
            raise Fatal(f"Faust stopped: {self._app.crash_reason!r}") from self._app.crash_reason
        finally:
            for task in (recovering, stopped):
                if task is not None:
                    task.cancel()
            # Faust would wait for records that it has cut short to count as handled. They are read again instead.
            self._app.conf.stream_wait_empty = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._app.stop(), STOP_SECONDS)

    async def ready(self) -> None:
        """Wait until the tables hold every label written before the start; until then nothing is given to experts."""
        await self._ready.wait()

    async def _recover(self) -> None:
        try:
            ends = await self._ends(Topic.LABELS)
            while not await self._handled(ends):  # noqa: ASYNC110 - Kafka is asked; it gives no notice
                await asyncio.sleep(POLL_SECONDS)
        except (KafkaError, OSError) as error:
            self._failure.set_exception(Fatal(f"what is labelled cannot be read: {error!r}"))
            return
        self._ready.set()

    def check_ready(self) -> None:
        """Do nothing once the queue is complete.

        Raises:
            Retryable: It has not, so an item that looks open may be done.
        """
        if not self._ready.is_set():
            raise Retryable("triage is starting; the queue is not complete yet")

    def item(self, request_id: str) -> Item | None:
        """Return an item of the queue, open or done."""
        return self._items.get(request_id)

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        """Yield what was decided, for each partition, tenant and task."""
        return ((_name(key), selector) for key, selector in self._selectors.items())

    def labelled(self) -> Iterable[tuple[QueueName, Labelled]]:
        """Yield what was labelled, for each partition, tenant and task."""
        return ((_name(key), labelled) for key, labelled in self._labelled.items())

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
        async with self._deciding:
            known = self._remembered.get(interaction.request_id) or Remembered(partition=record.partition)
            key, selector = self._selector(interaction.tenant, interaction.task, record.partition)
            bundle = self._bundles.current()
            drift = self._drift.exploration(interaction.tenant, interaction.task, self._clock.now())
            considered = self._picker.consider(interaction, record.value, known, selector, bundle, drift)
            for each in considered.remembered.feedback if considered else ():  # it came before its interaction
                await self._tell(of_feedback(each, interaction, bundle))
            await self._keep(interaction.request_id, key, considered, record)

    async def _feedback(self, feedback: Feedback, record: Record) -> None:
        async with self._deciding:
            known = self._remembered.get(feedback.request_id) or Remembered(partition=record.partition)
            asked = self._asked(feedback.request_id, known)
            key, selector = self._selector(feedback.tenant, asked.task if asked else "", record.partition)
            bundle = self._bundles.current()
            considered = self._picker.reconsider(feedback, known, selector, bundle)
            if considered is not None and asked is not None:
                await self._tell(of_feedback(feedback, asked, bundle))
            await self._keep(feedback.request_id, key, considered, record)

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
            await self._forget(self._remembered, self._oldest_remembered, request_id, row.partition)

    def _asked(self, request_id: str, known: Remembered) -> Interaction | EdgeCase | None:
        """Return what feedback is about, while it is remembered and no expert has judged it."""
        if known.interaction:
            interaction: Interaction = codec(Topic.INTERACTIONS).decode(known.interaction)
            return interaction
        item = self._items.get(request_id)
        if item is None or not item.edge_case:
            return None
        edge_case: EdgeCase = codec(Topic.EDGE_CASES).decode(item.edge_case)
        return edge_case

    async def _tell(self, outcome: Outcome | None) -> None:
        if outcome is not None:
            await until_answered("Kafka", lambda: self._producer.send(Topic.OUTCOMES, outcome))

    async def _edge_case(self, edge_case: EdgeCase, record: Record) -> None:
        if edge_case.same_as or self._items.get(edge_case.request_id) is not None:
            return
        item = Item(
            partition=record.partition,
            tenant=edge_case.tenant,
            task=edge_case.task,
            value=edge_case.value,
            sensitivity=edge_case.sensitivity,
            edge_case=record.value,
        )
        await self._items.put(edge_case.request_id, item, record.partition)
        self._queue.add(edge_case.request_id, Shelf(item.tenant, item.task, item.sensitivity), item.value)
        telemetry.OPEN_ITEMS.labels(edge_case.tenant, edge_case.task).inc()

    async def _label(self, label: Label, record: Record) -> None:
        item = self._items.get(label.request_id)
        if item is not None and item.outcome:
            return
        if item is not None:
            telemetry.OPEN_ITEMS.labels(item.tenant, item.task).dec()
            edge_case = codec(Topic.EDGE_CASES).decode(item.edge_case)
            await self._tell(of_label(label, edge_case, self._bundles.current()))
        await self._count(label.tenant, label.task, record.partition, skipped=label.outcome == SKIPPED)
        item = Item(partition=record.partition, tenant=label.tenant, task=label.task, outcome=label.outcome)
        await self._items.put(label.request_id, item, record.partition)
        self._queue.remove(label.request_id)
        await self._forget(self._items, self._oldest_done, label.request_id, record.partition)

    async def _count(self, tenant: str, task: str, partition: int, *, skipped: bool) -> None:
        key = _key(partition, tenant, task)
        done = self._labelled.get(key) or Labelled()
        done = Labelled(labelled=done.labelled + (not skipped), skipped=done.skipped + skipped)
        await self._labelled.put(key, done, partition)

    async def _erasure(self, erasure: Erasure, record: Record) -> None:
        await self._drop(erasure, record.partition)
        # Erasures come many at once, and one pass over the files does for all of them.
        if not self._unscrubbed:
            asyncio.get_running_loop().call_later(SCRUB_SECONDS, self._scrub)
        self._unscrubbed.add(record.partition)

    async def _drop(self, erasure: Erasure, partition: int) -> None:
        """Drop what is held of a request; what may still come of it finds it done."""
        request_id = erasure.request_id
        async with self._deciding:
            known = self._remembered.get(request_id)
            if erasure.is_whole:  # also where nothing is known: the interaction may be read after its erasure
                await self._remember(request_id, Remembered(partition=partition, erased=True))
            elif known is not None:
                await self._remember(request_id, msgspec.structs.replace(known, feedback=()))
        item = self._items.get(request_id)
        if not erasure.is_whole or (item is not None and item.outcome):
            return
        if item is not None:
            telemetry.OPEN_ITEMS.labels(item.tenant, item.task).dec()
            self._queue.remove(request_id)
            await self._count(item.tenant, item.task, partition, skipped=True)
        task = item.task if item is not None else ""
        done = Item(partition=partition, tenant=erasure.tenant, task=task, outcome=ERASED)
        await self._items.put(request_id, done, partition)
        await self._forget(self._items, self._oldest_done, request_id, partition)

    def _scrub(self) -> None:
        partitions, self._unscrubbed = self._unscrubbed, set()
        for table in (self._remembered, self._items):
            for partition in partitions:
                table.scrub(partition)

    def _selector(self, tenant: str, task: str, partition: int) -> tuple[str, Selector]:
        key = _key(partition, tenant, task)
        return key, self._selectors.get(key) or Selector()

    async def _forget(
        self, table: tables.Table[Any], oldest: dict[int, deque[str]], request_id: str, partition: int
    ) -> None:
        keys = oldest.setdefault(partition, deque())
        keys.append(request_id)
        if len(keys) > self._settings.remembered:
            await table.delete(keys.popleft(), partition)

    # Recovery

    async def _forget_places(self, *_: Any, **__: Any) -> None:
        self._last.clear()

    async def _recall_remembered(self) -> None:
        # Request ids are UUIDv7, so their order is that of time.
        self._oldest_remembered.clear()
        for request_id, row in sorted(self._remembered.items(), key=lambda item: item[0]):
            self._oldest_remembered.setdefault(row.partition, deque()).append(request_id)

    async def _recall_items(self) -> None:
        self._oldest_done.clear()
        self._queue.clear()
        telemetry.OPEN_ITEMS.clear()
        for request_id, item in sorted(self._items.items(), key=lambda each: each[0]):
            if item.outcome:
                self._oldest_done.setdefault(item.partition, deque()).append(request_id)
            else:
                self._queue.add(request_id, Shelf(item.tenant, item.task, item.sensitivity), item.value)
                telemetry.OPEN_ITEMS.labels(item.tenant, item.task).inc()

    async def _ends(self, topic: Topic) -> dict[TopicPartition, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap_servers, group_id=None)
        await consumer.start()
        try:
            wanted = [TopicPartition(str(topic), number) for number in range(self._kafka.partitions)]
            ends: dict[TopicPartition, int] = await consumer.end_offsets(wanted)
            return ends
        finally:
            await stop(consumer)

    async def _handled(self, ends: dict[TopicPartition, int]) -> bool:
        if not self._app.tables.actives_ready:
            return False
        admin = AIOKafkaAdminClient(bootstrap_servers=self._kafka.bootstrap_servers)
        await admin.start()
        try:
            committed = await admin.list_consumer_group_offsets(GROUP)
        finally:
            await admin.close()
        return all(end == 0 or (each in committed and committed[each].offset >= end) for each, end in ends.items())


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
