"""A dataset version on disk: written whole, read back checked, and erased from."""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from services.trainer.dataset.card import describe
from services.trainer.dataset.manifest import Manifest
from services.trainer.dataset.rows import LabelledRow, LeftOut, Reason, Split

# What a row says beside what is learned: it may change without anything new to learn, so it is no part of the id.
# Versions of before it was kept are read as if they said this.
_BESIDE = {"state": "provisional", "outcome": "corrected", "origin": "flagged"}
# The same of what is learned from: nothing of it is said where there is none.
_LATER = {"rejected": ""}


class DatasetCorruptError(ValueError):
    """A dataset version on disk is incomplete or was altered."""


def read_manifest(dataset: Path) -> Manifest:
    """Reads a version's manifest.

    Raises:
        DatasetCorruptError: It is missing or not one.
    """
    try:
        fields = msgspec.json.decode((dataset / "manifest.json").read_bytes(), type=dict[str, Any])
        if "superseded_label_ids" in fields:  # a version of before rows were refined
            fields["refused_label_ids"] = fields.pop("superseded_label_ids")
        return msgspec.convert(fields, Manifest)
    except (OSError, msgspec.MsgspecError) as exc:
        raise DatasetCorruptError(f"{dataset / 'manifest.json'}: {exc}") from exc


def read_rows(dataset: Path, split: Split | None = None) -> list[LabelledRow]:
    """Reads a version's rows of one split, or all, in the order of their stable keys.

    Raises:
        DatasetCorruptError: The content is not what the manifest says it is.
    """
    manifest, records = read_manifest(dataset), _read_records(dataset)
    if content_hash(records, read_assignments(dataset)) != (manifest.remaining_id or manifest.dataset_id):
        raise DatasetCorruptError(f"{dataset}: the rows are not those that the manifest's dataset_id was made from")
    return [_row(record) for record in records if split in (None, record["split"])]


def read_left_out(dataset: Path) -> list[LeftOut]:
    """Reads the labels that a version was not made of, by request and label; none of versions before they were kept.

    Raises:
        DatasetCorruptError: It is damaged.
    """
    if not (dataset / "left_out.parquet").exists():
        return []
    return msgspec.convert(_read(dataset, "left_out"), list[LeftOut])


def read_assignments(dataset: Path) -> dict[str, Split]:
    """Reads the split of every request that a version or one before it has ever seen, by its stable key.

    Raises:
        DatasetCorruptError: It is damaged.
    """
    return {record["stable_key"]: record["split"] for record in _read(dataset, "assignments")}


def erase_rows(dataset: Path, request_ids: AbstractSet[str]) -> int:
    """Takes the rows of requests out of a version, whose id stays, and returns how many there were.

    Of a request that was left out, no more is said than that it is erased. Where this is killed the version may not be
    readable; called again for the same requests, it makes it whole.

    Raises:
        DatasetCorruptError: It is damaged.
    """
    manifest = read_manifest(dataset)
    not_learned = read_left_out(dataset)
    asked = {each["request_id"] for each in _read(dataset, "rows", ["request_id"])}
    asked.update(each.request_id for each in not_learned if each.reason != Reason.ERASED)
    if request_ids.isdisjoint(asked):
        return 0
    records = _read_records(dataset)
    gone = {record["stable_key"]: record for record in records if record["request_id"] in request_ids}
    left = [record for record in records if record["stable_key"] not in gone]
    assignments = {key: split for key, split in read_assignments(dataset).items() if key not in gone}
    erased = {(each["request_id"], each["label_id"]) for each in gone.values()}
    erased |= {(each.request_id, each.label_id) for each in not_learned if each.request_id in request_ids}
    not_learned = [each for each in not_learned if each.request_id not in request_ids]
    not_learned += [LeftOut(request_id, label_id, Reason.ERASED) for request_id, label_id in erased]
    manifest = msgspec.structs.replace(
        manifest,
        left_out=count_reasons(not_learned),
        erased=manifest.rows - len(left),  # not a sum: who was killed over the same rows may have counted them already
        remaining_id=content_hash(left, assignments),
    )
    _write_files(dataset, manifest, left, assignments, not_learned)
    return len(gone)


def write(
    root: Path,
    manifest: Manifest,
    records: Sequence[Mapping[str, Any]],
    assignments: Mapping[str, Split],
    not_learned: Iterable[LeftOut],
) -> Path:
    """Writes a version below a folder, unless it is there already, and returns its own."""
    folder = root / manifest.dataset_id
    if folder.exists():
        return folder
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_files(partial, manifest, records, assignments, not_learned)
    partial.rename(folder)
    return folder


def record_of(key: str, row: LabelledRow, split: Split) -> dict[str, Any]:
    """Return a row as it is written."""
    record: dict[str, Any] = {"stable_key": key, "split": split, **msgspec.to_builtins(row)}
    record["tools_json"] = json.dumps(record.pop("tools"), ensure_ascii=False)
    return record


def content_hash(records: Sequence[Mapping[str, Any]], assignments: Mapping[str, Split]) -> str:
    """Return the id of a version with these rows and assignments, 64 hex digits."""
    # Over the values, not the files: Parquet's bytes differ from one writer version to the next.
    digest = hashlib.sha256()
    for record in records:
        learned = {name: value for name, value in record.items() if name not in _BESIDE and value != _LATER.get(name)}
        digest.update(json.dumps(learned, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    digest.update(json.dumps(sorted(assignments.items())).encode())
    return digest.hexdigest()


def count_reasons(not_learned: Iterable[LeftOut]) -> dict[Reason, int]:
    """Return how many labels each reason left out, in the order of the reasons."""
    counts = Counter(each.reason for each in not_learned)
    return {reason: counts[reason] for reason in Reason if reason in counts}


def _text(*names: str) -> list[pa.Field]:
    return [pa.field(name, pa.string(), nullable=False) for name in names]


_SCHEMAS = {
    "rows": pa.schema(
        [
            *_text("stable_key", "split", "request_id", "label_id"),
            pa.field("labelled_at_ms", pa.int64(), nullable=False),
            *_text("tenant", "task", "sensitivity", "source"),
            pa.field(
                "messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False
            ),
            *_text("completion", "tools_json", "system", "state", "outcome", "origin", "rejected"),
        ]
    ),
    "assignments": pa.schema(_text("stable_key", "split")),
    "left_out": pa.schema(_text("request_id", "label_id", "reason")),
}


def _row(record: Mapping[str, Any]) -> LabelledRow:
    fields = {name: value for name, value in record.items() if name not in ("stable_key", "split", "tools_json")}
    return msgspec.convert({**fields, "tools": json.loads(record["tools_json"])}, type=LabelledRow)


def _read_records(dataset: Path) -> list[dict[str, Any]]:
    return [_BESIDE | _LATER | record for record in _read(dataset, "rows")]


def _read(dataset: Path, name: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    path = dataset / f"{name}.parquet"
    try:
        records: list[dict[str, Any]] = pq.read_table(path, columns=columns).to_pylist()
    except (OSError, pa.ArrowException) as exc:
        raise DatasetCorruptError(f"{path}: {exc}") from exc
    return records


def _write_files(
    folder: Path,
    manifest: Manifest,
    records: Sequence[Mapping[str, Any]],
    assignments: Mapping[str, Split],
    not_learned: Iterable[LeftOut],
) -> None:
    tables: dict[str, list[Any]] = {
        "assignments": [{"stable_key": key, "split": split} for key, split in sorted(assignments.items())],
        "left_out": msgspec.to_builtins(sorted(not_learned, key=lambda each: (each.request_id, each.label_id))),
        # The rows last: while those to be erased are there, the next try finds them and does all of it again.
        "rows": list(records),
    }
    said = {"manifest.json": msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"}
    said |= describe(manifest, tables["rows"])
    # Each beside its place first, and then whole into it, for a version that is there already.
    for name, content in said.items():
        (folder / f".{name}").write_bytes(content)
    for name, table in tables.items():
        pq.write_table(pa.Table.from_pylist(table, _SCHEMAS[name]), folder / f".{name}.parquet", compression="zstd")
    for name in (*said, *(f"{name}.parquet" for name in tables)):
        (folder / f".{name}").replace(folder / name)
