from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from schemas.events import DeadLetter
from schemas.topics import Topic
from services.audit.domain import Head, Link, Row, Step


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

    def links(self, topic: Topic, partition: int) -> AsyncIterator[Link]:
        """Yield the rows of a partition in the order of their offsets; memory does not grow with their number."""
        ...

    async def lineage(self, request_id: str) -> list[Step]:
        """Return what a request led to and came from, oldest first; nothing when it is not on record."""
        ...


class DeadLetters(Protocol):
    """Where records go that cannot be decoded."""

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        """Send one; on return it is acknowledged. Raises `Retryable` when it was not."""
        ...
