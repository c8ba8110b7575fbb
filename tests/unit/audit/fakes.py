"""A ledger in memory that behaves as ClickHouse does (`tests/integration/audit/test_ledger.py` holds it to that)."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

from msgspec.structs import replace

from schemas.codecs import UndecodableError, codec
from schemas.events import Checkpoint, DeadLetter, Erasure, Place
from schemas.ledger.chain import NO_SALT, payload_digest
from schemas.topics import Topic
from services.audit.domain import EMPTY, ERASED, OF_REQUESTS, PROVEN_BY, Head, Link, Row, Step, StoredRow
from services.audit.ports import Personal, StoredCheckpoint
from services.runtime.errors import InvalidArgument, Retryable


class FakeLedger:
    """Rows by partition; one block for each row that is followed.

    Attributes:
        rows: What is stored, by topic and partition, in the order of the offsets.
        appended: How many rows each call brought.
        recounted: Partitions whose rollups were mended.
        away: How many calls from now on fail as if the server were away.
        lose_acknowledgements: Whether rows are stored and the call fails all the same.
        drop: How many tokens are used up before rows are stored.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[Topic, int], list[Row]] = defaultdict(list)
        self.appended: list[int] = []
        self.recounted: list[tuple[Topic, int]] = []
        self.away = 0
        self.lose_acknowledgements = False
        self.drop = 0
        self._followed: set[tuple[Topic, int, bytes, int]] = set()

    async def prepare(self) -> None:
        self._answer()

    async def head(self, topic: Topic, partition: int) -> Head:
        self._answer()
        rows = self.rows[topic, partition]
        return rows[-1].head if rows else EMPTY

    async def append(self, rows: Sequence[Row], attempt: int = 0) -> None:
        self._answer()
        self.appended.append(len(rows))
        first = rows[0]
        topic, partition = first.record.topic, first.record.partition
        for row in rows:
            if row.schema_id:
                try:
                    codec(topic).decode(row.record.value)
                except UndecodableError as error:
                    raise InvalidArgument(str(error)) from error
        token = (topic, partition, first.prev_hash, attempt)
        if token not in self._followed and attempt >= self.drop:
            self._followed.add(token)
            self.rows[topic, partition] += rows
        if self.lose_acknowledgements:
            raise Retryable("the acknowledgement was lost")

    async def recount(self, topic: Topic, partition: int) -> None:
        self._answer()
        self.recounted.append((topic, partition))

    async def links(self, topic: Topic, partition: int, start: int = 0) -> AsyncIterator[Link]:
        self._answer()
        for row in self.rows[topic, partition][start:]:
            record = row.record
            is_blank = (record.key, row.salt, record.value) == (b"", NO_SALT, b"")
            yield Link(
                offset=record.offset,
                timestamp_ms=record.timestamp_ms,
                digest=row.digest,
                prev_hash=row.prev_hash,
                hash=row.hash,
                payload_digest=None if is_blank else payload_digest(row.salt, record.key, record.value),
            )

    async def newest_checkpoint(self, topic: Topic, partition: int) -> StoredCheckpoint | None:
        self._answer()
        found = self._checkpoints(topic, partition)
        if not found:
            return None
        blocks = {each.first_block + place: block for each in found for place, block in enumerate(each.blocks)}
        return StoredCheckpoint(found[-1].note, [blocks[number] for number in range(len(blocks))])

    async def oldest_checkpoint(self, topic: Topic, partition: int, offset: int) -> str | None:
        self._answer()
        return next((each.note for each in self._checkpoints(topic, partition) if each.last_offset >= offset), None)

    async def erased(self, topic: Topic, partition: int) -> set[int]:
        self._answer()
        return {
            place.offset
            for event in self._events(Topic.ERASURES)
            for place in event.rows
            if (place.topic, place.partition) == (topic, partition)
        }

    async def personal(self, tenant: str, subject: str) -> list[Personal]:
        self._answer()
        events = {
            Place(topic=topic, partition=partition, offset=row.record.offset): codec(topic).decode(row.record.value)
            for (topic, partition), rows in self.rows.items()
            if topic in OF_REQUESTS
            for row in rows
            if row.schema_id
        }
        mine = {
            event.request_id
            for place, event in events.items()
            if place.topic == Topic.INTERACTIONS and (event.tenant, event.user) == (tenant, subject)
        } | {event.request_id for event in self._events(Topic.ERASURES) if event.tenant == tenant and event.is_whole}
        found: dict[str, Personal] = {}
        for place, event in events.items():
            said = place.topic == Topic.FEEDBACK and (event.tenant, event.user) == (tenant, subject)
            if event.request_id in mine or said:
                found.setdefault(event.request_id, Personal(event.request_id, event.request_id in mine)).rows.append(
                    place
                )
        for candidate in self._events(Topic.CANDIDATES):
            for request_id in {*candidate.training_request_ids, *candidate.holdout_request_ids} & mine & found.keys():
                found[request_id].candidate_ids.append(candidate.candidate_id)
                found[request_id].dataset_ids.append(candidate.dataset_id)
        return list(found.values())

    async def announced(self, erasure_id: str) -> int:
        self._answer()
        return sum(event.erasure_id == erasure_id for event in self._events(Topic.ERASURES))

    async def unerased(self, topic: Topic, *, signed: bool, erasure_id: str = "") -> list[tuple[int, int]]:
        self._answer()
        named = set()
        for (its, partition), rows in self.rows.items():
            covered = max((each.last_offset for each in self._checkpoints(its, partition)), default=-1)
            for row in rows if its is Topic.ERASURES else ():
                if row.record.offset <= covered or not signed:
                    event: Erasure = codec(its).decode(row.record.value)
                    if erasure_id not in ("", event.erasure_id):
                        continue
                    named |= {(place.partition, place.offset) for place in event.rows if place.topic == topic}
        return sorted(
            (partition, row.record.offset)
            for (its, partition), rows in self.rows.items()
            if its is topic
            for row in rows
            if (partition, row.record.offset) in named and row.error != ERASED
        )

    async def erase(self, topic: Topic, places: Sequence[tuple[int, int]]) -> None:
        self._answer()
        for partition, offset in places:
            rows = self.rows[topic, partition]
            (index,) = (index for index, row in enumerate(rows) if row.record.offset == offset)
            emptied = replace(rows[index].record, key=b"", value=b"")
            rows[index] = replace(rows[index], record=emptied, salt=NO_SALT, schema_id=0, error=ERASED)

    async def rows_of(self, asked_id: str) -> list[StoredRow]:
        self._answer()
        return [
            StoredRow(
                topic=topic,
                partition=partition,
                offset=row.record.offset,
                timestamp_ms=row.record.timestamp_ms,
                key=row.record.key,
                salt=row.salt,
                payload=row.record.value,
                digest=row.digest,
                prev_hash=row.prev_hash,
                hash=row.hash,
                index=index,
            )
            for (topic, partition), rows in self.rows.items()
            if topic in PROVEN_BY
            for index, row in enumerate(rows)
            if row.schema_id and getattr(codec(topic).decode(row.record.value), PROVEN_BY[topic]) == asked_id
        ]

    async def leaves(self, topic: Topic, partition: int, start: int, end: int) -> list[bytes]:
        self._answer()
        return [row.hash for row in self.rows[topic, partition][start:end]]

    def _checkpoints(self, topic: Topic, partition: int) -> list[Checkpoint]:
        found = [each for each in self._events(Topic.CHECKPOINTS) if each.chain == f"{topic}/{partition}"]
        return sorted(found, key=lambda each: each.tree_size)

    def _events(self, topic: Topic) -> list[Any]:
        return [
            codec(topic).decode(row.record.value)
            for (its, _), rows in self.rows.items()
            if its is topic
            for row in rows
            if row.schema_id
        ]

    async def lineage(self, request_id: str) -> list[Step]:
        self._answer()
        return []

    async def labelled(self, label_id: str) -> str | None:
        self._answer()
        return None

    async def taught(self, label_id: str) -> list[Step]:
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
