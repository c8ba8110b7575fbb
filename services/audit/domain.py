"""Rows and their place in the chain, whose form `schemas.ledger` describes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import lru_cache

import msgspec

from schemas.codecs import UndecodableError, codec
from schemas.ledger.chain import NO_HASH, SALT_BYTES, header_hash, payload_digest
from schemas.ledger.merkle import Tree
from schemas.topics import SPECS, Topic
from services.runtime.kafka import Record


@dataclass(frozen=True)
class Head:
    """Where a chain ends: the last row stored. The next record to read is the first with a greater offset."""

    offset: int
    hash: bytes


# Where content of a request is on record, and what `_error` says of a row there whose content was erased.
OF_REQUESTS = [topic for topic, spec in SPECS.items() if spec.key == "request_id" and topic is not Topic.ERASURES]
# What is proven of a request, and of a candidate: rows by the field that holds the id that is asked for.
PROVEN_BY = {
    **dict.fromkeys((*OF_REQUESTS, Topic.ERASURES), "request_id"),
    **dict.fromkeys((Topic.CANDIDATES, Topic.DEPLOYMENTS), "candidate_id"),
}
ERASED = "erased"
_EPOCH, _DAY_MS = date(1970, 1, 1).toordinal(), 24 * 3600 * 1000
# A partition of which nothing is stored yet.
EMPTY = Head(offset=-1, hash=NO_HASH)


class Row(msgspec.Struct, frozen=True, gc=False):
    """A record in its place in the chain.

    Attributes:
        record: As Kafka holds it.
        schema_id: Of the Avro schema that its value is written in; 0 where it names none that is known.
        error: Why its value cannot be decoded; empty when it can.
        salt: `SALT_BYTES` random bytes.
        digest, prev_hash, hash: 32 bytes each, as `schemas.ledger` says.
    """

    record: Record
    schema_id: int
    error: str
    salt: bytes
    digest: bytes
    prev_hash: bytes
    hash: bytes

    @property
    def head(self) -> Head:
        """The chain's head once this row is its last."""
        return Head(self.record.offset, self.hash)


@dataclass(frozen=True)
class Chain:
    """A chain as far as it is stored and signed.

    Attributes:
        head: Where it ends.
        tree: Over all its rows; None where it is not to be signed.
        signed: How many of the rows, and up to which offset, the newest checkpoint covers.
    """

    head: Head = EMPTY
    tree: Tree | None = None
    signed: tuple[int, int] = (0, -1)

    @property
    def unsigned(self) -> int:
        """How many rows no checkpoint covers; 0 where it is not to be signed."""
        return self.tree.size - self.signed[0] if self.tree else 0

    def extended(self, rows: Sequence[Row]) -> "Chain":
        """Return the chain with more rows."""
        tree = self.tree and self.tree.extended(row.hash for row in rows)
        return replace(self, head=rows[-1].head, tree=tree)


class Link(msgspec.Struct, frozen=True):
    """A stored row, as far as the chain goes.

    Attributes:
        payload_digest: Recomputed from what is stored beside `digest`; None where nothing is, as after an erasure.
    """

    offset: int
    timestamp_ms: int
    digest: bytes
    prev_hash: bytes
    hash: bytes
    payload_digest: bytes | None


class StoredRow(msgspec.Struct, frozen=True):
    """A stored row with its content; `index` is its place in the chain, from 0."""

    topic: Topic
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    salt: bytes
    payload: bytes
    digest: bytes
    prev_hash: bytes
    hash: bytes
    index: int


@dataclass(frozen=True)
class Verdict:
    """What recomputing a chain found.

    Attributes:
        rows: How many are as they were recorded.
        signed_rows: How many of these are as a checkpoint has them.
        first_bad_offset: The first place where the chain is not what was recorded; None when it is intact.
        reason: What is wrong there.
        head_hash: Of the last good row.
    """

    rows: int
    signed_rows: int
    first_bad_offset: int | None
    reason: str
    head_hash: bytes


@dataclass(frozen=True)
class Step:
    """One step of a request's lineage; the columns of the view `gyre.lineage`."""

    direction: str
    kind: str
    id: str
    at: datetime
    summary: str
    hash: str


@dataclass(frozen=True)
class Run:
    """Consecutive records of a partition that ClickHouse takes as one: same schema, same month.

    An insert is all or nothing only within one of the table's partitions, which are months.
    """

    schema_id: int
    error: str
    records: Sequence[Record]


def runs(records: Sequence[Record]) -> Iterator[Run]:
    """Split consecutive records of one partition where the schema or the month changes."""
    start, kind = 0, None
    for position, record in enumerate(records):
        schema_id, error = _schema_id(record)
        this = (schema_id, error, _month(record.timestamp_ms // _DAY_MS))
        if kind is not None and this != kind:
            yield Run(kind[0], kind[1], records[start:position])
            start = position
        kind = this
    if kind is not None:
        yield Run(kind[0], kind[1], records[start:])


def _schema_id(record: Record) -> tuple[int, str]:
    try:
        return codec(record.topic).schema_id(record.value), ""
    except UndecodableError as error:
        return 0, str(error)


@lru_cache
def _month(day: int) -> object:
    """Return the month of a day, counted from 1970."""
    try:
        at = date.fromordinal(_EPOCH + day)
    except (OverflowError, ValueError):
        return day  # beyond the calendar: in no other's run
    return at.year, at.month


def chained(head: Head, run: Run, salts: Callable[[int], bytes]) -> list[Row]:
    """Return the rows that extend a chain by a run of records.

    Args:
        head: Where the chain ends.
        run: Of the partition that the chain is of, beyond the head.
        salts: Returns so many random bytes.
    """
    random = salts(SALT_BYTES * len(run.records))
    rows, prev_hash = [], head.hash
    for position, record in enumerate(run.records):
        salt = random[position * SALT_BYTES : (position + 1) * SALT_BYTES]
        digest = payload_digest(salt, record.key, record.value)
        row_hash = header_hash(record.topic, record.partition, record.offset, record.timestamp_ms, digest, prev_hash)
        rows.append(Row(record, run.schema_id, run.error, salt, digest, prev_hash, row_hash))
        prev_hash = row_hash
    return rows
