"""The open items, most valuable first, and who holds them."""

from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush

QueueName = tuple[str, str]  # tenant, task


@dataclass
class _Entry:
    queue: QueueName
    value: float
    leased_until: datetime | None = None
    settled: bool = False  # its label is written; the table's row will say so soon


class Queue:
    """The open items of this process' partitions, in memory; the table of items is what it is rebuilt from."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._open: dict[QueueName, list[tuple[float, str]]] = {}  # heaps of (-value, request_id)
        self._leased: list[tuple[datetime, str]] = []  # heap

    def add(self, request_id: str, queue: QueueName, value: float) -> None:
        """Put an item in; one that is there already stays as it is."""
        if request_id not in self._entries:
            self._entries[request_id] = _Entry(queue, value)
            self._put_back(request_id)

    def remove(self, request_id: str) -> None:
        """Take an item out for good."""
        self._entries.pop(request_id, None)

    def clear(self) -> None:
        """Forget everything, before a rebuild."""
        self._entries.clear()
        self._open.clear()
        self._leased.clear()

    def lease(self, now: datetime, until: datetime, *, tenant: str = "", task: str = "") -> str | None:
        """Take the item with the highest value that nobody holds; nothing when there is none.

        Args:
            now: Leases that end before are over.
            until: When this one ends.
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
        self._entries[request_id].leased_until = until
        heappush(self._leased, (until, request_id))
        return request_id

    def settle(self, request_id: str) -> None:
        """Keep an item from being leased again: its label is written."""
        if request_id in self._entries:
            self._entries[request_id].settled = True

    def unsettle(self, request_id: str) -> None:
        """Take `settle` back: the label could not be written."""
        if request_id in self._entries:
            self._entries[request_id].settled = False

    def settled(self, request_id: str) -> bool:
        """Say whether the label of an item is written."""
        return request_id in self._entries and self._entries[request_id].settled

    def counts(self, now: datetime) -> dict[QueueName, tuple[int, int]]:
        """Return the open and the leased items of each queue."""
        counts = dict.fromkeys(self._open, (0, 0))
        for entry in self._entries.values():
            if not entry.settled:
                open_, leased = counts[entry.queue]
                held = entry.leased_until is not None and entry.leased_until > now
                counts[entry.queue] = (open_ + (not held), leased + held)
        return counts

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
                entry.leased_until = None
                self._put_back(request_id)

    def _put_back(self, request_id: str) -> None:
        entry = self._entries[request_id]
        heappush(self._open.setdefault(entry.queue, []), (-entry.value, request_id))
