"""The open items, most valuable first, and who holds them."""

from collections import Counter
from dataclasses import dataclass
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
    hold: Hold | None = None
    settled: bool = False  # its label is written; the table's row will say so soon


class Queue:
    """The open items of this process' partitions, in memory; the table of items is what it is rebuilt from."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._open: dict[QueueName, list[tuple[float, str]]] = {}  # heaps of (-score, request_id)
        self._leased: list[tuple[datetime, str]] = []  # heap; of an item that was extended it has the earlier ends too
        self._unsettled: Counter[QueueName] = Counter()

    def add(self, request_id: str, queue: QueueName, score: float) -> None:
        """Put an item in; one that is there already stays as it is."""
        if request_id not in self._entries:
            self._entries[request_id] = _Entry(queue, score)
            self._unsettled[queue] += 1
            self._put_back(request_id)

    def remove(self, request_id: str) -> None:
        """Take an item out for good."""
        entry = self._entries.pop(request_id, None)
        if entry is not None and not entry.settled:
            self._unsettled[entry.queue] -= 1

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        self._entries.clear()
        self._open.clear()
        self._leased.clear()
        self._unsettled.clear()

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
            heap
            for queue, heap in self._open.items()
            if tenant in ("", queue[0]) and task in ("", queue[1]) and self._top_is_open(heap)
        ]
        if not heaps:
            return None
        _, request_id = heappop(min(heaps, key=lambda heap: heap[0]))
        self._hold(request_id, Hold(expert, now, until))
        return request_id

    def held(self, request_id: str, now: datetime) -> Hold | None:
        """Say who holds an item, and until when."""
        entry = self._entries.get(request_id)
        return entry.hold if entry is not None and entry.hold is not None and entry.hold.until > now else None

    def extend(self, request_id: str, expert: str, now: datetime, until: datetime) -> None:
        """Let an expert hold an item longer; also one who held it before a restart, while nobody else does."""
        if request_id in self._entries:
            held = self.held(request_id, now)
            self._hold(request_id, Hold(expert, held.since if held is not None else now, until))

    def release(self, request_id: str) -> None:
        """Take an item out of an expert's hands; it is open again."""
        entry = self._entries.get(request_id)
        if entry is not None and entry.hold is not None:
            entry.hold = None
            self._put_back(request_id)

    def settle(self, request_id: str) -> None:
        """Keep an item from being leased again: its label is written."""
        entry = self._entries.get(request_id)
        if entry is not None and not entry.settled:
            entry.settled = True
            self._unsettled[entry.queue] -= 1

    def unsettle(self, request_id: str) -> None:
        """Take `settle` back: the label could not be written."""
        entry = self._entries.get(request_id)
        if entry is not None and entry.settled:
            entry.settled = False
            self._unsettled[entry.queue] += 1

    def settled(self, request_id: str) -> bool:
        """Say whether the label of an item is written."""
        return request_id in self._entries and self._entries[request_id].settled

    def counts(self, now: datetime) -> dict[QueueName, tuple[int, int]]:
        """Return the open and the leased items of each queue."""
        in_hand = {request_id for _, request_id in self._leased if self.held(request_id, now) is not None}
        leased = Counter(self._entries[each].queue for each in in_hand if not self._entries[each].settled)
        return {queue: (self._unsettled[queue] - leased[queue], leased[queue]) for queue in self._open}

    def _top_is_open(self, heap: list[tuple[float, str]]) -> bool:
        while heap:
            entry = self._entries.get(heap[0][1])
            if entry is not None and not entry.settled and entry.hold is None:
                return True
            heappop(heap)
        return False

    def _expire(self, now: datetime) -> None:
        while self._leased and self._leased[0][0] <= now:
            until, request_id = heappop(self._leased)
            entry = self._entries.get(request_id)
            if entry is not None and entry.hold is not None and entry.hold.until == until:
                entry.hold = None
                self._put_back(request_id)

    def _hold(self, request_id: str, hold: Hold) -> None:
        self._entries[request_id].hold = hold
        heappush(self._leased, (hold.until, request_id))

    def _put_back(self, request_id: str) -> None:
        entry = self._entries[request_id]
        heappush(self._open.setdefault(entry.queue, []), (-entry.score, request_id))
