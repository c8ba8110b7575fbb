"""An export, checked with public keys alone, in memory that does not grow with it."""

import heapq
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc

from schemas.codecs import UndecodableError, codec
from schemas.ledger.chain import NO_SALT, payload_digest
from schemas.ledger.notes import Checkpoint, InvalidNoteError, VerifyingKey, chain_of, notes
from schemas.ledger.verification import BrokenChainError, ChainVerifier
from schemas.topics import Topic

_CHAIN = re.compile(r"(?P<topic>[\w.-]+)/(?P<partition>\d+)")
_COLUMNS = {
    "_offset": pa.uint64(),
    "_timestamp_ms": pa.int64(),
    "_key": pa.binary(),
    "_salt": pa.binary(),
    "_payload": pa.binary(),
    "_digest": pa.binary(),
    "_prev_hash": pa.binary(),
    "_hash": pa.binary(),
}
_SLICE_ROWS = 1024  # as Python's objects, which take several times what a batch does

# The offsets whose content may be gone, by topic and partition. The one thing here that grows, with the erasures.
Erased = dict[tuple[str, int], set[int]]


@dataclass(frozen=True)
class Bad:
    """The first place of a chain that is not what was recorded; no offset where a whole file is missing."""

    offset: int | None
    reason: str


@dataclass(frozen=True)
class Finding:
    """What was found of one chain.

    Attributes:
        chain: `topic/partition`.
        rows: How many were as recorded, up to the first that was not.
        erased: How many of these hold no content any more.
        signed: The newest checkpoint that they are as signed in.
        bad: None where the chain is whole.
    """

    chain: str
    rows: int
    erased: int
    signed: Checkpoint | None
    bad: Bad | None


def verify(
    folder: Path,
    keys: Sequence[VerifyingKey],
    kept: Sequence[Path] = (),
    progress: Callable[[int], None] = lambda _bytes: None,
) -> Iterator[Finding]:
    """Check every chain of an export, and of those that checkpoints kept elsewhere name; yield what was found of each.

    Args:
        folder: The export.
        keys: Whose signatures are believed.
        kept: Files of checkpoints that were kept where nobody who can write to ClickHouse can.
        progress: Told how many more bytes have been read.

    Raises:
        OSError: A file cannot be read.
    """
    files = [path for pattern in ("*/*.arrows", "*/*.checkpoints") for path in folder.glob(pattern)]
    chains = {f"{path.parent.name}/{path.stem}" for path in files}
    chains |= {chain_of(note) for file in kept for note in _notes(file)}
    erased: Erased = defaultdict(set)
    # What erasures say is needed for the others.
    for chain in sorted(chains, key=lambda chain: (not chain.startswith(f"{Topic.ERASURES}/"), chain)):
        yield _verify(folder, chain, keys, kept, erased, progress)


def bytes_of(folder: Path) -> int:
    """Return how many bytes of rows an export has."""
    return sum(path.stat().st_size for path in folder.glob("*/*.arrows"))


def _verify(
    folder: Path,
    chain: str,
    keys: Sequence[VerifyingKey],
    kept: Sequence[Path],
    erased: Erased,
    progress: Callable[[int], None],
) -> Finding:
    match = _CHAIN.fullmatch(chain)
    if match is None:
        return Finding(chain, 0, 0, None, Bad(None, "is no topic and partition"))
    topic, partition = match["topic"], int(match["partition"])
    own = _opened(folder / topic / f"{partition}.checkpoints", chain, keys)
    others = (_opened(file, chain, keys, is_kept=True) for file in kept)
    checkpoints = heapq.merge(own, *others, key=lambda checkpoint: checkpoint.size)
    rows = _rows(folder / topic / f"{partition}.arrows", progress)
    verifier, is_erasures = None, topic == Topic.ERASURES
    try:
        verifier = ChainVerifier(topic, partition, checkpoints, erased[topic, partition])
        for offset, timestamp_ms, key, salt, payload, digest, prev_hash, row_hash in rows:
            is_blank = not key and not payload and salt == NO_SALT
            recomputed = None if is_blank else payload_digest(salt, key, payload)
            verifier.add(offset, timestamp_ms, digest, prev_hash, row_hash, recomputed)
            if is_erasures:
                _note_erased(payload, erased)
        verifier.finish()
        covered = verifier.signed.size if verifier.signed else 0
        if verifier.rows > covered:
            raise BrokenChainError(
                verifier.signed.last_offset + 1 if verifier.signed else 0,
                f"no checkpoint covers the last {verifier.rows - covered:,} rows: they may have been put in or changed",
            )
        bad = None
    except BrokenChainError as error:
        bad = Bad(error.offset, str(error))
    except FileNotFoundError as error:
        bad = Bad(None, f"{Path(error.filename).name} is missing")
    except InvalidNoteError as error:
        after = verifier.signed.last_offset + 1 if verifier and verifier.signed else 0
        bad = Bad(after, f"a checkpoint of the rows from here on {error}")
    except _UnreadableError as error:
        bad = Bad(verifier.head_offset + 1 if verifier else 0, f"the rows from here on cannot be read: {error}")
    if verifier is None:
        return Finding(chain, 0, 0, None, bad)
    return Finding(chain, verifier.rows, verifier.erased, verifier.signed, bad)


class _UnreadableError(Exception):
    """A file of rows that is none, or is damaged."""


def _rows(path: Path, progress: Callable[[int], None]) -> Iterator[tuple[Any, ...]]:
    """Yield the values of each row, in the order of `_COLUMNS`."""
    with path.open("rb") as file:
        try:
            reported = 0
            batches = pyarrow.ipc.open_stream(file)
            _check_schema(batches.schema)
            for batch in batches:
                batch.validate(full=True)
                for start in range(0, batch.num_rows, _SLICE_ROWS):
                    rows = batch.slice(start, _SLICE_ROWS)
                    yield from zip(*(_values(rows.column(name)) for name in _COLUMNS), strict=True)
                progress(file.tell() - reported)
                reported = file.tell()
        except Exception as error:  # pyarrow raises whatever its reader stumbled on
            raise _UnreadableError(f"{type(error).__name__}: {error}") from error


def _check_schema(schema: Any) -> None:
    there = dict(zip(schema.names, schema.types, strict=True))
    for name, wanted in _COLUMNS.items():
        if there.get(name) != wanted:
            raise ValueError(f"the column {name} is {there.get(name, 'missing')}: wanted {wanted}")


def _values(column: Any) -> Any:
    if column.null_count:
        raise ValueError("a value is missing")
    return column.to_pylist()


def _opened(file: Path, chain: str, keys: Sequence[VerifyingKey], *, is_kept: bool = False) -> Iterator[Checkpoint]:
    """Yield the checkpoints of a chain that are in a file: all of its own, or those among others that were kept."""
    for note in _notes(file):
        if is_kept and chain_of(note) != chain:
            continue
        checkpoint = Checkpoint.opened(note, keys)
        if checkpoint.chain != chain:
            raise InvalidNoteError(f"is of {checkpoint.chain}")
        yield checkpoint


def _notes(file: Path) -> Iterator[str]:
    with file.open(errors="replace") as lines:
        yield from notes(lines)


def _note_erased(payload: bytes, erased: Erased) -> None:
    with suppress(UndecodableError):  # kept undecoded, and so without effect
        for place in codec(Topic.ERASURES).decode(payload).rows:
            erased[place.topic, place.partition].add(place.offset)
