"""The same answer for the same idempotency key, so that a caller can try again and no model is asked a second time.

Answers are kept in the memory of this process and nowhere else: what reaches another replica, or comes after a restart,
is answered anew. They hold the caller's own values unmasked, so they are never logged, and go when their time is over.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.router.domain.errors import KeyReused

# Whose key it is, of which operation, and the key.
Scope = tuple[str, str, str]


@dataclass(frozen=True)
class Kept:
    """An answer as its edge sends it, and the request that it was the answer to."""

    request_id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True)
class Bounds:
    """How long answers are kept, how many, and how many bytes of them; the oldest make room."""

    seconds: float
    entries: int
    bytes: int


class _Entry:
    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.ended = asyncio.Event()
        self.kept: Kept | None = None
        self.timer: asyncio.TimerHandle | None = None


class Idempotency:
    """Answers by idempotency key."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._under_way: dict[Scope, _Entry] = {}
        self._answered: dict[Scope, _Entry] = {}  # oldest first
        self._bytes = 0

    async def once(self, scope: Scope, asked: bytes, answer: Callable[[], Awaitable[Kept]]) -> Kept:
        """Return the answer that is kept, or that somebody else waits for already, or else what `answer` does.

        Only an answer is kept. Of an error the next one with the key knows nothing, and those who waited try anew.

        Args:
            scope: What the key stands for.
            asked: The whole of what is asked, of which only a digest is kept.
            answer: Gives the answer.

        Raises:
            KeyReused: The key stands for something else that was asked.
        """
        digest = hashlib.sha256(asked).digest()
        while entry := self._answered.get(scope) or self._under_way.get(scope):
            if entry.digest != digest:
                raise KeyReused("idempotency-key: it came with another request before; wanted a key of its own")
            await entry.ended.wait()
            if entry.kept is not None:
                return entry.kept
        entry = self._under_way[scope] = _Entry(digest)
        try:
            entry.kept = await answer()
        finally:
            del self._under_way[scope]
            entry.ended.set()
        self._keep(scope, entry, entry.kept)
        return entry.kept

    def _keep(self, scope: Scope, entry: _Entry, kept: Kept) -> None:
        self._answered[scope] = entry
        self._bytes += len(kept.body)
        entry.timer = asyncio.get_running_loop().call_later(self._bounds.seconds, self._drop, scope)
        while len(self._answered) > self._bounds.entries or self._bytes > self._bounds.bytes:
            self._drop(next(iter(self._answered)))

    def _drop(self, scope: Scope) -> None:
        entry = self._answered.pop(scope)
        assert entry.timer is not None
        assert entry.kept is not None
        entry.timer.cancel()
        self._bytes -= len(entry.kept.body)
