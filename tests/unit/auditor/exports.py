"""Exports as `gyre audit export` writes them, made without a server."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa

from schemas.codecs import codec
from schemas.events import Erasure, Place
from schemas.ledger.chain import NO_HASH, NO_SALT, header_hash, payload_digest
from schemas.ledger.merkle import Tree
from schemas.ledger.notes import Checkpoint, SigningKey
from schemas.topics import Topic

AT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
SCHEMA = pa.schema(
    {
        "_offset": pa.uint64(),
        "_timestamp_ms": pa.int64(),
        **dict.fromkeys(("_key", "_salt", "_payload", "_digest", "_prev_hash", "_hash"), pa.binary()),
    }
)
BATCH_ROWS = 16


@dataclass
class ExportedChain:
    """One chain of an export, to be tampered with before it is written."""

    topic: str
    partition: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.topic}/{self.partition}"

    def write(self, folder: Path) -> None:
        (folder / self.topic).mkdir(parents=True, exist_ok=True)
        rows = pa.Table.from_pylist(self.rows, schema=SCHEMA)
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.ipc.new_stream(folder / self.topic / f"{self.partition}.arrows", SCHEMA, options=options) as writer:
            writer.write_table(rows, max_chunksize=BATCH_ROWS)
        (folder / self.topic / f"{self.partition}.checkpoints").write_text("\n".join(self.notes))

    def row_hashes(self) -> list[bytes]:
        return [row["_hash"] for row in self.rows]


def chained(topic: str, partition: int, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the hashes that a chain of them has."""
    made, before = [], NO_HASH
    for row in rows:
        digest = payload_digest(row["_salt"], row["_key"], row["_payload"])
        own = header_hash(topic, partition, row["_offset"], row["_timestamp_ms"], digest, before)
        made.append({**row, "_digest": digest, "_prev_hash": before, "_hash": own})
        before = own
    return made


def signed(chain: ExportedChain, sizes: Sequence[int], keys: Sequence[SigningKey]) -> list[str]:
    """The checkpoints of a chain at some of its sizes."""
    return [
        Checkpoint(
            chain.topic,
            chain.partition,
            size,
            Tree().extended(chain.row_hashes()[:size]).root,
            chain.rows[size - 1]["_offset"],
            AT + timedelta(minutes=size),
        ).signed(keys)
        for size in sizes
    ]


def make(
    chance: Random,
    count: int,
    keys: Sequence[SigningKey],
    *,
    topic: str = Topic.INTERACTIONS,
    partition: int = 0,
    payloads: Sequence[bytes] | None = None,
) -> ExportedChain:
    """A chain of so many rows, with gaps between offsets, checkpoints here and there and one at its end."""
    offset, rows = -1, []
    for index in range(count):
        offset += chance.choice((1, 1, 1, 2))
        rows.append(
            {
                "_offset": offset,
                "_timestamp_ms": 1_780_000_000_000 + index,
                "_key": b"key-%d" % index,
                "_salt": chance.randbytes(16),
                "_payload": payloads[index] if payloads else chance.randbytes(chance.randrange(1, 60)),
            }
        )
    chain = ExportedChain(topic, partition, chained(topic, partition, rows))
    sizes = sorted({count, *(chance.randrange(1, count + 1) for _ in range(chance.randrange(4)))})
    chain.notes = signed(chain, sizes, keys)
    return chain


def erase(chance: Random, chain: ExportedChain, index: int, keys: Sequence[SigningKey]) -> ExportedChain:
    """Takes the content out of a row, and returns the chain of the erasure that says so."""
    row = chain.rows[index]
    chain.rows[index] = {**row, "_key": b"", "_payload": b"", "_salt": NO_SALT}
    event = Erasure(
        request_id="r",
        erasure_id="e",
        tenant="acme",
        asked_at=AT,
        rows=(Place(topic=chain.topic, partition=chain.partition, offset=row["_offset"]),),
    )
    payloads = [codec(Topic.ERASURES).encode(event)]
    return make(chance, 1, keys, topic=Topic.ERASURES, payloads=payloads)
