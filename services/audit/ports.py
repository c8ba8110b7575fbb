from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.events import DeadLetter
from schemas.topics import Topic
from services.audit.domain import Head, Link, Row, Step, StoredRow


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint of a chain.

    Attributes:
        note: As it was signed.
        blocks: The roots of the chain's complete blocks of rows, from the first on, as far as they are known.
    """

    note: str
    blocks: Sequence[bytes]


class Ledger(Protocol):
    """Where rows are stored for good. Every method raises `Retryable` while that is away."""

    async def prepare(self) -> None:
        """Make what is missing of the tables and views."""
        ...

    async def head(self, topic: Topic, partition: int) -> Head:
        """Return the last row stored of a partition."""
        ...

    async def append(self, rows: Sequence[Row]) -> None:
        """Store consecutive rows of one run, all or none.

        Rows that follow a row which other rows follow already are passed over without an error: ask for the head.

        Raises:
            Rejected: They are not what the tables hold.
        """
        ...

    def links(self, topic: Topic, partition: int, start: int = 0) -> AsyncIterator[Link]:
        """Yield the rows of a partition in the order of their offsets; memory does not grow with their number.

        Args:
            topic: Of the chain.
            partition: Of the chain.
            start: How many rows at the beginning are left out.
        """
        ...

    async def newest_checkpoint(self, topic: Topic, partition: int) -> StoredCheckpoint | None:
        """Return the checkpoint that covers most of a chain; None where there is none."""
        ...

    async def oldest_checkpoint(self, topic: Topic, partition: int, offset: int) -> str | None:
        """Return the note of the first checkpoint of a chain that covers an offset; None where none does."""
        ...

    async def erased(self, topic: Topic, partition: int) -> set[int]:
        """Return the offsets of a chain whose content erasures on record say is gone."""
        ...

    async def rows_of(self, request_id: str) -> list[StoredRow]:
        """Return the rows of the topics keyed by request that hold a request, oldest first."""
        ...

    async def leaves(self, topic: Topic, partition: int, start: int, end: int) -> list[bytes]:
        """Return the hashes of a chain's rows from the one at a place, counted from 0, to before another."""
        ...

    async def lineage(self, request_id: str) -> list[Step]:
        """Return what a request led to and came from, oldest first; nothing when it is not on record."""
        ...


class DeadLetters(Protocol):
    """Where records go that cannot be decoded."""

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        """Send one; on return it is acknowledged. Raises `Retryable` when it was not."""
        ...
