"""The open items, most valuable first, and who holds them."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from typing import NamedTuple

from schemas.events import Sensitivity

QueueName = tuple[str, str]  # tenant, task


class Shelf(NamedTuple):
    """Where items lie that the same people may see."""

    tenant: str
    task: str
    sensitivity: Sensitivity


@dataclass
class _Entry:
    shelf: Shelf
    value: float
    leased_until: datetime | None = None
    settled: bool = False  # its label is written; the table's row will say so soon


@dataclass
class _Pile:
    """What lies on a shelf.

    Attributes:
        heap: Of (-value, request_id), with some that are no longer open.
        open: How many are.
        leased: How many somebody holds.
    """

    heap: list[tuple[float, str]] = field(default_factory=list)
    open: int = 0
    leased: int = 0


# Says of a tenant and a sensitivity whether somebody may see such items.
May = Callable[[str, Sensitivity], bool]


class Queue:
    """The open items of this process' partitions, in memory; the table of items is what it is rebuilt from.

    Shelves are few, so what somebody may see is told by looking at each, however many items lie there.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._piles: dict[Shelf, _Pile] = defaultdict(_Pile)
        self._leased: list[tuple[datetime, str]] = []  # heap

    def add(self, request_id: str, shelf: Shelf, value: float) -> None:
        """Put an item in; one that is there already stays as it is."""
        if request_id not in self._entries:
            self._entries[request_id] = entry = _Entry(shelf, value)
            self._count(entry, 1)
            self._put_back(request_id)

    def remove(self, request_id: str) -> None:
        """Take an item out for good."""
        entry = self._entries.pop(request_id, None)
        if entry is not None:
            self._count(entry, -1)

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        self._entries.clear()
        self._piles.clear()
        self._leased.clear()

    def lease(self, now: datetime, until: datetime, may: May, *, tenant: str = "", task: str = "") -> str | None:
        """Take the item with the highest value that nobody holds; nothing when there is none.

        Args:
            now: Leases that end before are over.
            until: When this one ends.
            may: Which items are for whom asks.
            tenant: Only of this tenant; empty: any.
            task: Only of this task; empty: any.
        """
        self._expire(now)
        heaps = [
            pile.heap
            for shelf, pile in self._piles.items()
            if tenant in ("", shelf.tenant)
            and task in ("", shelf.task)
            and may(shelf.tenant, shelf.sensitivity)
            and self._top_is_open(pile.heap)
        ]
        if not heaps:
            return None
        _, request_id = heappop(min(heaps, key=lambda heap: heap[0]))
        self._hold(self._entries[request_id], until)
        heappush(self._leased, (until, request_id))
        return request_id

    def settle(self, request_id: str) -> None:
        """Say that the label of an item is being written, so that nobody else gets it."""
        if request_id in self._entries:
            self._settle(self._entries[request_id], True)

    def unsettle(self, request_id: str) -> None:
        """Take `settle` back: the label could not be written."""
        if request_id in self._entries:
            entry = self._entries[request_id]
            self._settle(entry, False)
            if entry.leased_until is None:  # its lease has ended meanwhile
                self._put_back(request_id)

    def settled(self, request_id: str) -> bool:
        """Say whether the label of an item is written."""
        return request_id in self._entries and self._entries[request_id].settled

    def counts(self, now: datetime, may: May) -> dict[QueueName, tuple[int, int]]:
        """Return the open and the leased items of each queue, of those that somebody may see."""
        self._expire(now)
        counts: dict[QueueName, tuple[int, int]] = {}
        for shelf, pile in self._piles.items():
            if may(shelf.tenant, shelf.sensitivity):
                name = shelf.tenant, shelf.task
                open_, leased = counts.get(name, (0, 0))
                counts[name] = open_ + pile.open, leased + pile.leased
        return counts

    def _hold(self, entry: _Entry, until: datetime | None) -> None:
        self._count(entry, -1)
        entry.leased_until = until
        self._count(entry, 1)

    def _settle(self, entry: _Entry, settled: bool) -> None:
        self._count(entry, -1)
        entry.settled = settled
        self._count(entry, 1)

    def _count(self, entry: _Entry, by: int) -> None:
        pile = self._piles[entry.shelf]
        if entry.settled:
            return
        if entry.leased_until is None:
            pile.open += by
        else:
            pile.leased += by

    def _top_is_open(self, heap: list[tuple[float, str]]) -> bool:
        while heap:
            entry = self._entries.get(heap[0][1])
            if entry is not None and not entry.settled and entry.leased_until is None:
                return True
            heappop(heap)
        return False

    def _expire(self, now: datetime) -> None:
        while self._leased and self._leased[0][0] <= now:
            until, request_id = heappop(self._leased)
            entry = self._entries.get(request_id)
            if entry is not None and entry.leased_until == until:
                self._hold(entry, None)
                self._put_back(request_id)

    def _put_back(self, request_id: str) -> None:
        entry = self._entries[request_id]
        heappush(self._piles[entry.shelf].heap, (-entry.value, request_id))
