"""The items that experts are wanted for, most valuable first, and which of them somebody holds."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from typing import NamedTuple

from schemas.events import Sensitivity
from schemas.labels import Kind

QueueName = tuple[str, str]  # tenant, task


class Shelf(NamedTuple):
    """Where items lie that are for the same people."""

    tenant: str
    task: str
    sensitivity: Sensitivity
    kind: Kind  # as what a judgement is wanted


@dataclass
class _Entry:
    shelf: Shelf
    value: float
    experts: frozenset[str]  # who have judged it
    held_until: datetime | None = None


@dataclass
class _Pile:
    """What lies on a shelf.

    Attributes:
        heap: Of (-value, request_id), with some that are no longer open.
        open: How many are.
        held: How many somebody holds.
    """

    heap: list[tuple[float, str]] = field(default_factory=list)
    open: int = 0
    held: int = 0


# Says whether what lies on a shelf is for somebody.
May = Callable[[Shelf], bool]


class Queue:
    """The items that a judgement is wanted of, in memory.

    Shelves are few, so what is for somebody is told by looking at each, however many items lie there.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._piles: dict[Shelf, _Pile] = defaultdict(_Pile)
        self._held: list[tuple[datetime, str]] = []  # heap; of a hold that was extended it has the earlier ends too

    def put(self, request_id: str, shelf: Shelf, value: float, experts: frozenset[str] = frozenset()) -> None:
        """Put an item in, or onto another shelf; who holds it goes on to.

        Args:
            request_id: The item.
            shelf: Where it lies.
            value: Its place there.
            experts: Who have judged it, and are not asked again.
        """
        known = self._entries.get(request_id)
        if known is not None and (known.shelf, known.value, known.experts) == (shelf, value, experts):
            return
        until = known.held_until if known is not None else None
        self.remove(request_id)
        self._entries[request_id] = entry = _Entry(shelf, value, experts, until)
        self._count(entry, 1)
        if until is None:
            self._put_back(request_id)

    def remove(self, request_id: str) -> None:
        """Take an item out."""
        entry = self._entries.pop(request_id, None)
        if entry is not None:
            self._count(entry, -1)

    def lease(
        self, now: datetime, until: datetime, may: May, expert: str, *, tenant: str = "", task: str = ""
    ) -> str | None:
        """Hold the most valuable item that nobody holds, for an expert; nothing when there is none.

        Args:
            now: Leases that end before are over.
            until: When this one ends.
            may: Which shelves are for the expert.
            expert: Who asks; what they have judged is not for them.
            tenant: Only of this tenant; empty: any.
            task: Only of this task; empty: any.
        """
        self._expire(now)
        tops = [
            top
            for shelf in self._piles
            if tenant in ("", shelf.tenant) and task in ("", shelf.task) and may(shelf)
            if (top := self._top(shelf, expert)) is not None
        ]
        if not tops:
            return None
        _, request_id = min(tops)
        self.hold(request_id, until)
        return request_id

    def lease_one(self, request_id: str, now: datetime, until: datetime) -> bool:
        """Hold one certain item, if it is there and nobody does; return whether that is so."""
        self._expire(now)
        entry = self._entries.get(request_id)
        if entry is None or entry.held_until is not None:
            return False
        self.hold(request_id, until)
        return True

    def hold(self, request_id: str, until: datetime | None) -> None:
        """Say until when somebody holds an item; None: nobody does any more."""
        entry = self._entries.get(request_id)
        if entry is None or entry.held_until == until:
            return
        self._count(entry, -1)
        entry.held_until = until
        self._count(entry, 1)
        if until is None:
            self._put_back(request_id)
        else:
            heappush(self._held, (until, request_id))

    def counts(self, now: datetime, may: May) -> dict[QueueName, tuple[int, int]]:
        """Return the open and the held items of each queue, of those that are for somebody."""
        self._expire(now)
        counts: dict[QueueName, tuple[int, int]] = {}
        for shelf, pile in self._piles.items():
            if may(shelf):
                name = shelf.tenant, shelf.task
                open_, held = counts.get(name, (0, 0))
                counts[name] = open_ + pile.open, held + pile.held
        return counts

    def _count(self, entry: _Entry, by: int) -> None:
        pile = self._piles[entry.shelf]
        if entry.held_until is None:
            pile.open += by
        else:
            pile.held += by

    def _top(self, shelf: Shelf, expert: str) -> tuple[float, str] | None:
        """Return the first of a shelf that is open and that an expert has not judged."""
        heap = self._piles[shelf].heap
        judged = []
        found = None
        while heap:
            entry = self._entries.get(heap[0][1])
            if entry is None or entry.held_until is not None or (entry.shelf, -entry.value) != (shelf, heap[0][0]):
                heappop(heap)  # of another time
            elif expert in entry.experts:
                judged.append(heappop(heap))
            else:
                found = heap[0]
                break
        for each in judged:
            heappush(heap, each)
        return found

    def _expire(self, now: datetime) -> None:
        while self._held and self._held[0][0] <= now:
            until, request_id = heappop(self._held)
            entry = self._entries.get(request_id)
            if entry is not None and entry.held_until == until:
                self.hold(request_id, None)

    def _put_back(self, request_id: str) -> None:
        entry = self._entries[request_id]
        heappush(self._piles[entry.shelf].heap, (-entry.value, request_id))
