"""Every item that experts are or were asked about, as the topics tell it, in each replica.

Any replica can so show any item and take its label, and one that is killed takes nothing along. What gives an item out
is the order of claims on record (`domain.holds`), not who owns it. Rows are on disk, made anew at each start; in memory
is the order of what is open.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable
from datetime import datetime, timedelta

from msgspec import structs

from schemas.events import EdgeCase, Erasure, Label, ReviewAction
from schemas.labels import JUDGEMENTS, Kind, Outcome
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Retryable
from services.triage.domain.holds import JUDGED, Hold, Holds
from services.triage.domain.queue import May, Queue, QueueName, Shelf
from services.triage.domain.rows import Item
from services.triage.ports import Items

# How long the topics hold what this is made from: older items go.
KEPT = timedelta(days=30)
# How long something that is on record may take to be read back.
PATIENCE_SECONDS = 5.0
LOOK_SECONDS, PRUNE_SECONDS = 5.0, 3600.0


class Backlog:
    """The items, and who holds them."""

    def __init__(self, items: Items, clock: Clock) -> None:
        self._items = items
        self._clock = clock
        self._queue = Queue()
        self._holds = Holds()
        self._labelled: Counter[QueueName] = Counter()
        self._skipped: Counter[QueueName] = Counter()
        self._flagged: Counter[QueueName] = Counter()
        self._latest: dict[str, Label] = {}  # of each expert
        self._awaited: dict[str, asyncio.Future[None]] = {}  # by action or label
        self._kept: set[str] = set()  # items that this replica is about to give out
        self._complete = False

    async def run(self, caught_up: Awaitable[None]) -> None:
        """Count what is open and drop what is old, until cancelled.

        Args:
            caught_up: Done when all that was on the topics at the start has been taken in.
        """
        await caught_up
        self._complete = True
        pruned_at = -math.inf
        while True:
            for (tenant, task), (open_, held) in self.counts(lambda _: True).items():
                telemetry.OPEN_ITEMS.labels(tenant, task).set(open_ + held)
            if self._clock.monotonic() > pruned_at + PRUNE_SECONDS:
                self._prune()
                pruned_at = self._clock.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    def check_ready(self) -> None:
        """Do nothing once every item and label is known.

        Raises:
            Retryable: Not yet, so an item that looks open may be done.
        """
        if not self._complete:
            raise Retryable("triage is starting; the queue is not complete yet")

    # What the topics tell

    def take_edge_case(self, edge_case: EdgeCase) -> None:
        """Take in an item, or that one was asked again."""
        if edge_case.same_as:
            known = self._items.get(edge_case.same_as) or Item()
            if not known.erased:
                self._put(edge_case.same_as, known, repeats=known.repeats + 1)
            return
        known = self._items.get(edge_case.request_id) or Item()
        if known.edge_case is None and not known.erased:
            self._flagged[edge_case.tenant, edge_case.task] += not edge_case.imported
            self._put(edge_case.request_id, known, edge_case=edge_case)

    def take_label(self, label: Label) -> None:
        """Take in what an expert said of an item, or that it is taken back."""
        known = self._items.get(label.request_id) or Item()
        if not known.erased and label not in known.labels:
            self._count(label)
            self._put(label.request_id, known, labels=(*known.labels, label))
            if label.kind != Kind.IMPORTED:
                self._latest[label.expert] = label
        self._arrived(label.label_id)

    def take_erasure(self, erasure: Erasure) -> None:
        """Forget an item, and what may still come of it."""
        if erasure.is_whole:
            self._put(erasure.request_id, Item(), erased=True)
            self._latest = {name: each for name, each in self._latest.items() if each.request_id != erasure.request_id}
            self._items.scrub()

    def take_action(self, action: ReviewAction) -> None:
        """Take in what somebody did; by the order of claims it is known who holds what."""
        self._holds.take(action)
        # A label may be read after the action that tells of it: until then its item is not open again.
        if action.action not in JUDGED or self._has(action.request_id, action.lease_id):
            self._hold(action.request_id)
        self._arrived(action.action_id)

    # What is asked of it

    def item(self, request_id: str) -> Item | None:
        """Return an item."""
        return self._items.get(request_id)

    def held(self, request_id: str) -> Hold | None:
        """Return who holds an item now."""
        return self._holds.of(request_id, self._clock.now())

    def latest(self, expert: str) -> Label | None:
        """Return the newest label that an expert wrote, or took back."""
        return self._latest.get(expert)

    def lease(self, until: datetime, may: May, expert: str, *, tenant: str = "", task: str = "") -> str | None:
        """Keep the most valuable open item for an expert, in this replica alone, until it is on record whose it is."""
        return self._lease(until, _wanted(may), expert, tenant, task)

    def lease_gold(self, until: datetime, may: May, expert: str, *, tenant: str, task: str) -> str | None:
        """Keep, in the same way, an item of which it is known what is right, and they have not said."""
        return self._lease(until, _gold(may), expert, tenant, task)

    def lease_one(self, request_id: str, until: datetime) -> bool:
        """Keep one certain item; return whether it was free."""
        free = self._queue.lease_one(request_id, self._clock.now(), until)
        if free:
            self._kept.add(request_id)
        return free

    def settle(self, request_id: str) -> None:
        """Say that it is on record whose an item is that `lease` kept, or that this will not be."""
        self._kept.discard(request_id)
        self._hold(request_id)

    def counts(self, may: May) -> dict[QueueName, tuple[int, int]]:
        """Return the open and the held items of each queue, of those that are for somebody.

        While somebody holds gold, it counts as the item in whose place they were asked: they are to see no difference.
        """
        now = self._clock.now()
        counts = self._queue.counts(now, _wanted(may))
        for name, (_, gold) in self._queue.counts(now, _gold(may)).items():
            open_, held = counts.get(name, (0, 0))
            counts[name] = max(0, open_ - gold), held + gold
        return counts

    def totals(self) -> dict[QueueName, tuple[int, int, int]]:
        """Return the items, the labels and the skips of each queue, of the time that the topics hold."""
        names = {*self._flagged, *self._labelled, *self._skipped}
        return {name: (self._flagged[name], self._labelled[name], self._skipped[name]) for name in names}

    def look_out(self, record_id: str) -> None:
        """Look out for an action or a label; to be said before it is written."""
        self._awaited.setdefault(record_id, asyncio.get_running_loop().create_future())

    async def arrived(self, record_id: str) -> None:
        """Wait until what was looked out for has been read back.

        Raises:
            Retryable: It takes too long: Kafka is away, or this process is behind.
        """
        awaited = self._awaited.get(record_id)
        if awaited is None:  # whoever looked out for the same has seen it
            return
        try:
            await asyncio.wait_for(asyncio.shield(awaited), PATIENCE_SECONDS)
        except TimeoutError as error:
            raise Retryable("it takes too long to be put on record; try again in a moment") from error
        finally:
            self._awaited.pop(record_id, None)

    def _arrived(self, record_id: str) -> None:
        awaited = self._awaited.get(record_id)
        if awaited is not None and not awaited.done():
            awaited.set_result(None)

    def _put(self, request_id: str, item: Item, **changes: object) -> None:
        item = structs.replace(item, **changes)
        self._items.put(request_id, item)
        case, kind = item.edge_case, item.askable
        if case is None or kind is None:
            self._queue.remove(request_id)
        else:
            shelf = Shelf(case.tenant, case.task, case.sensitivity, kind)
            experts = frozenset() if kind is Kind.ADJUDICATION else item.asked
            # A label answers for all that asked the same. Of gold those come first that fewest were asked.
            value = -float(len(item.asked)) if kind is Kind.GOLD else case.value * (1 + item.repeats)
            self._queue.put(request_id, shelf, value, experts)
            self._hold(request_id)

    def _lease(self, until: datetime, may: May, expert: str, tenant: str, task: str) -> str | None:
        request_id = self._queue.lease(self._clock.now(), until, may, expert, tenant=tenant, task=task)
        if request_id is not None:
            self._kept.add(request_id)
        return request_id

    def _hold(self, request_id: str) -> None:
        hold = self.held(request_id)
        if hold is not None or request_id not in self._kept:
            self._queue.hold(request_id, hold.until if hold is not None else None)

    def _has(self, request_id: str, label_id: str) -> bool:
        item = self._items.get(request_id)
        return item is not None and any(label.label_id == label_id for label in item.labels)

    def _prune(self) -> None:
        """Drop what is older than the topics hold: a replica that starts now would not know it."""
        for request_id in self._items.before(self._clock.now() - KEPT):
            self._queue.remove(request_id)
            self._items.delete(request_id)

    def _count(self, label: Label) -> None:
        name = label.tenant, label.task
        if label.outcome in JUDGEMENTS:
            self._labelled[name] += 1
        elif label.outcome == Outcome.SKIPPED:
            self._skipped[name] += 1


def _wanted(may: May) -> May:
    """Return what leaves out what nobody waits for."""
    return lambda shelf: shelf.kind is not Kind.GOLD and may(shelf)


def _gold(may: May) -> May:
    """Return what leaves out everything but gold."""
    return lambda shelf: shelf.kind is Kind.GOLD and may(shelf)
