"""The open items, most valuable first, and who holds them."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush

QueueName = tuple[str, str]  # tenant, task


@dataclass(frozen=True)
class Hold:
    """An item in an expert's hands.

    Attributes:
        expert: Whose.
        since: When it was claimed.
        until: When the lease ends.
    """

    expert: str
    since: datetime
    until: datetime


@dataclass
class _Entry:
    queue: QueueName
    score: float
    leased_until: datetime | None = None
    expert: str = ""  # who leased it last
    since: datetime | None = None
    settled: bool = False  # its label is written; the table's row will say so soon


@dataclass
class _Pile:
    """The items of one tenant and task.

    Attributes:
        heap: Of (-score, request_id), with some that are no longer open.
        open: How many are.
        leased: How many somebody holds.
    """

    heap: list[tuple[float, str]] = field(default_factory=list)
    open: int = 0
    leased: int = 0


class Queue:
    """The open items of this process' partitions, in memory; the table of items is what it is rebuilt from."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._piles: dict[QueueName, _Pile] = defaultdict(_Pile)
        self._leased: list[tuple[datetime, str]] = []  # heap; of a lease that was extended it has the earlier ends too

    def add(self, request_id: str, queue: QueueName, score: float) -> None:
        """Put an item in; one that is there already stays as it is."""
        if request_id not in self._entries:
            self._entries[request_id] = entry = _Entry(queue, score)
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

    def lease(self, now: datetime, until: datetime, expert: str, *, tenant: str = "", task: str = "") -> str | None:
        """Take the item with the highest score that nobody holds; nothing when there is none.

        Args:
            now: Leases that end before are over.
            until: When this one ends.
            expert: Who holds it until then.
            tenant: Only of this tenant; empty: any.
            task: Only of this task; empty: any.
        """
        self._expire(now)
        heaps = [
            pile.heap
            for queue, pile in self._piles.items()
            if tenant in ("", queue[0]) and task in ("", queue[1]) and self._top_is_open(pile.heap)
        ]
        if not heaps:
            return None
        _, request_id = heappop(min(heaps, key=lambda heap: heap[0]))
        self._hold(self._entries[request_id], until)
        self._entries[request_id].expert, self._entries[request_id].since = expert, now
        heappush(self._leased, (until, request_id))
        return request_id

    def held(self, request_id: str, now: datetime) -> Hold | None:
        """Say who holds an item, and until when."""
        entry = self._entries.get(request_id)
        if entry is None or entry.leased_until is None or entry.leased_until <= now or entry.since is None:
            return None
        return Hold(entry.expert, entry.since, entry.leased_until)

    def extend(self, request_id: str, expert: str, now: datetime, until: datetime) -> None:
        """Let an expert hold an item longer; also one who held it before a restart, while nobody else does."""
        entry, held = self._entries.get(request_id), self.held(request_id, now)
        if entry is not None:
            self._hold(entry, until)
            entry.expert, entry.since = expert, held.since if held is not None else now
            heappush(self._leased, (until, request_id))

    def release(self, request_id: str) -> None:
        """Take an item out of an expert's hands; it is open again."""
        entry = self._entries.get(request_id)
        if entry is not None and entry.leased_until is not None:
            self._hold(entry, None)
            self._put_back(request_id)

    def settle(self, request_id: str) -> None:
        """Keep an item from being leased again: its label is written."""
        if request_id in self._entries:
            self._settle(self._entries[request_id], True)

    def unsettle(self, request_id: str) -> None:
        """Take `settle` back: the label could not be written."""
        if request_id in self._entries:
            self._settle(self._entries[request_id], False)

    def settled(self, request_id: str) -> bool:
        """Say whether the label of an item is written."""
        return request_id in self._entries and self._entries[request_id].settled

    def counts(self, now: datetime) -> dict[QueueName, tuple[int, int]]:
        """Return the open and the leased items of each queue."""
        self._expire(now)
        return {queue: (pile.open, pile.leased) for queue, pile in self._piles.items()}

    def _hold(self, entry: _Entry, until: datetime | None) -> None:
        self._count(entry, -1)
        entry.leased_until = until
        self._count(entry, 1)

    def _settle(self, entry: _Entry, settled: bool) -> None:
        self._count(entry, -1)
        entry.settled = settled
        self._count(entry, 1)

    def _count(self, entry: _Entry, by: int) -> None:
        pile = self._piles[entry.queue]
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
        heappush(self._piles[entry.queue].heap, (-entry.score, request_id))
