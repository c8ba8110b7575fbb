from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from schemas.events import DeadLetter, Event, Place
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


@dataclass(frozen=True)
class Personal:
    """What is on record of a person in one request.

    Attributes:
        request_id: Of the request.
        is_whole: Whether the request was that person's, or only feedback on it.
        rows: Where it stands.
        dataset_ids: What was made from it.
        candidate_ids: What had learned from it, or was measured by it.
    """

    request_id: str
    is_whole: bool
    rows: list[Place] = field(default_factory=list)
    dataset_ids: list[str] = field(default_factory=list)
    candidate_ids: list[str] = field(default_factory=list)


class Ledger(Protocol):
    """Where rows are stored for good. Every method raises `Retryable` while that is away."""

    async def prepare(self) -> None:
        """Make what is missing of the tables and views."""
        ...

    async def head(self, topic: Topic, partition: int) -> Head:
        """Return the last row stored of a partition."""
        ...

    async def append(self, rows: Sequence[Row], attempt: int = 0) -> None:
        """Store consecutive rows of one run, all or none.

        Rows that follow a row which other rows follow already are passed over without an error: ask for the head.

        Args:
            rows: Follow the head that was last asked for.
            attempt: One more than before where rows were passed over and nothing follows the row that they follow.

        Raises:
            InvalidArgument: They are not what the tables hold.
        """
        ...

    async def recount(self, topic: Topic, partition: int) -> None:
        """Have the rollups count anew what they have not counted once; nothing is appended to the partition meanwhile.

        Raises:
            Rejected: They cannot be counted.
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

    async def personal(self, tenant: str, subject: str) -> list[Personal]:
        """Return what is on record of a person that a tenant's applications named as the user of requests."""
        ...

    async def announced(self, erasure_id: str) -> int:
        """Return how many requests an erasure names, as far as it is on record."""
        ...

    async def unerased(self, topic: Topic, *, signed: bool, erasure_id: str = "") -> list[tuple[int, int]]:
        """Return some places of a topic, by partition and offset, that are to be erased and still hold content.

        Args:
            topic: Of the rows.
            signed: Only those whose erasure a checkpoint covers.
            erasure_id: Only those of one erasure; empty: of all.
        """
        ...

    async def erase(self, topic: Topic, places: Sequence[tuple[int, int]]) -> None:
        """Take all content out of rows, and leave their headers; on return it is gone."""
        ...

    async def rows_of(self, asked_id: str) -> list[StoredRow]:
        """Return the rows that hold a request, or a candidate and its deployments, oldest first."""
        ...

    async def leaves(self, topic: Topic, partition: int, start: int, end: int) -> list[bytes]:
        """Return the hashes of a chain's rows from the one at a place, counted from 0, to before another."""
        ...

    async def lineage(self, request_id: str) -> list[Step]:
        """Return what a request led to and came from, oldest first; nothing when it is not on record."""
        ...

    async def labelled(self, label_id: str) -> str | None:
        """Return the request that a label is of; None where it is not on record."""
        ...

    async def taught(self, label_id: str) -> list[Step]:
        """Return the newest answers by specialists that learned from a label, oldest first."""
        ...


class DeadLetters(Protocol):
    """Where records go that cannot be decoded."""

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        """Send one; on return it is acknowledged. Raises `Retryable` when it was not."""
        ...


class Events(Protocol):
    """Where events are told."""

    async def send(self, topic: Topic, event: Event) -> None:
        """Send one; on return it is acknowledged. Raises `Retryable` when it was not."""
        ...
