"""A ledger in memory that behaves as ClickHouse does (`tests/integration/audit/test_ledger.py` holds it to that)."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from schemas.codecs import UndecodableError, codec
from schemas.events import DeadLetter
from schemas.ledger.chain import payload_digest
from schemas.topics import Topic
from services.audit.domain import EMPTY, Head, Link, Row, Step
from services.runtime.errors import Rejected, Retryable


class FakeLedger:
    """Rows by partition; one block for each row that is followed.

    Attributes:
        rows: What is stored, by topic and partition, in the order of the offsets.
        appended: How many rows each call brought.
        away: How many calls from now on fail as if the server were away.
        lose_acknowledgements: Whether rows are stored and the call fails all the same.
        drop: Whether rows are acknowledged and not stored.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[Topic, int], list[Row]] = defaultdict(list)
        self.appended: list[int] = []
        self.away = 0
        self.lose_acknowledgements = False
        self.drop = False
        self._followed: set[tuple[Topic, int, bytes]] = set()

    async def prepare(self) -> None:
        self._answer()

    async def head(self, topic: Topic, partition: int) -> Head:
        self._answer()
        rows = self.rows[topic, partition]
        return rows[-1].head if rows else EMPTY

    async def append(self, rows: Sequence[Row]) -> None:
        self._answer()
        self.appended.append(len(rows))
        first = rows[0]
        topic, partition = first.record.topic, first.record.partition
        for row in rows:
            if row.schema_id:
                try:
                    codec(topic).decode(row.record.value)
                except UndecodableError as error:
                    raise Rejected(str(error)) from error
        token = (topic, partition, first.prev_hash)
        if token not in self._followed and not self.drop:
            self._followed.add(token)
            self.rows[topic, partition] += rows
        if self.lose_acknowledgements:
            raise Retryable("the acknowledgement was lost")

    async def links(self, topic: Topic, partition: int) -> AsyncIterator[Link]:
        self._answer()
        for row in self.rows[topic, partition]:
            yield Link(
                offset=row.record.offset,
                timestamp_ms=row.record.timestamp_ms,
                digest=row.digest,
                prev_hash=row.prev_hash,
                hash=row.hash,
                payload_digest=payload_digest(row.salt, row.record.key, row.record.value),
            )

    async def lineage(self, request_id: str) -> list[Step]:
        self._answer()
        return []

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise Retryable("away")


class FakeDeadLetters:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        assert letter.topic == topic
        self.letters.append(letter)
