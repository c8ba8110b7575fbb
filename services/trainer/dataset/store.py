"""Labels → a dataset version: Parquet with a manifest, and a hold-out that never moves.

A version is a folder named by its content hash:

    manifest.json         what it is and where it comes from (`Manifest`)
    rows.parquet          one row per distinct request (`LabelledRow` and its split)
    assignments.parquet   (stable_key, split) of every request this dataset or a version before it has ever seen

A request's split is decided by the hash of its text the first time it is seen, and stays: neither more labels, nor
another share, nor a request that goes and comes back can bring a held-out request into training.

    ValueError
    ├── DatasetTooSmallError   more labels are needed; says how many
    └── DatasetCorruptError    a version on disk is not what its manifest says
"""

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.answers import normalise_text
from services.trainer.answers import arrange_completion

Split = Literal["train", "holdout"]
Sensitivity = Literal["public", "internal", "confidential", "restricted"]
SENSITIVITIES: tuple[Sensitivity, ...] = ("public", "internal", "confidential", "restricted")
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class LabelledRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with the answer an expert gave.

    Attributes:
        request_id: The interaction that was labelled.
        label_id: The label.
        labelled_at_ms: When, in milliseconds since 1970 UTC; of two labels of one request the later wins.
        tenant: Whose it is.
        task: What it is for.
        sensitivity: Highest level of anything in the row.
        source: Who labelled, such as an expert's id.
        messages: What the specialist will see (`schemas.prompts.specialist_messages`); the last turn is the one to
            answer.
        completion: The right answer: plain text, or a function call as JSON text.
        tools: The functions that were on offer.
        system: The application's own system messages, which a generic model sees and a specialist does not.
    """

    request_id: NonEmpty
    label_id: NonEmpty
    labelled_at_ms: Annotated[int, msgspec.Meta(ge=0)]
    tenant: NonEmpty
    task: NonEmpty
    sensitivity: Sensitivity
    source: NonEmpty
    messages: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1)]
    completion: NonEmpty
    tools: tuple[dict[str, Any], ...] = ()
    system: str = ""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a dataset version is.

    Attributes:
        dataset_id: SHA-256 of the content, 64 hex digits; also the folder's name.
        parent: The version before, whose assignments were carried on.
        created_at_ms: Milliseconds since 1970 UTC.
        tenant: Whose it is.
        task: What it is for.
        sensitivity: Highest level of any row.
        holdout_share: Share of new requests that were put aside.
        rows: Rows in all.
        splits: Rows per split.
        label_ids: Labels that are in it, sorted.
        superseded_label_ids: Labels that a later label of the same request replaced, sorted.
        sources: Rows per source.
        erased: Rows of these that hold no content any more.
        remaining_id: What `dataset_id` would be of the rows that are left; empty while none is erased.
    """

    dataset_id: str
    parent: str | None
    created_at_ms: int
    tenant: str
    task: str
    sensitivity: Sensitivity
    holdout_share: float
    rows: int
    splits: dict[Split, int]
    label_ids: tuple[str, ...]
    superseded_label_ids: tuple[str, ...]
    sources: dict[str, int]
    erased: int = 0
    remaining_id: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetPolicy:
    """How much is put aside, and how much there must be.

    Attributes:
        holdout_share: Share of new requests that go to the hold-out, in (0, 1).
        minimum_train_rows: Fewer are not worth a run.
        minimum_holdout_rows: Fewer cannot be gated.
    """

    holdout_share: float = 0.2
    minimum_train_rows: int = 32
    minimum_holdout_rows: int = 50

    def __post_init__(self) -> None:
        """Refuses shares that leave one side empty, and minimums that are none."""
        if not 0 < self.holdout_share < 1:
            raise ValueError(f"holdout_share must lie in (0, 1), got {self.holdout_share}")
        if self.minimum_train_rows < 1 or self.minimum_holdout_rows < 1:
            raise ValueError("minimum_train_rows and minimum_holdout_rows must be at least 1")


class DatasetTooSmallError(ValueError):
    """There are too few labels to train and gate.

    Attributes:
        train_rows: Rows there are to train on.
        holdout_rows: Rows there are to gate with.
        more_labels: About how many labels of new requests are still needed.
    """

    def __init__(self, *, train_rows: int, holdout_rows: int, policy: DatasetPolicy) -> None:
        """Works out how many labels are missing, at the share of them that each split gets."""
        self.train_rows = train_rows
        self.holdout_rows = holdout_rows
        self.more_labels = math.ceil(
            max(
                (policy.minimum_holdout_rows - holdout_rows) / policy.holdout_share,
                (policy.minimum_train_rows - train_rows) / (1 - policy.holdout_share),
            )
        )
        super().__init__(
            f"about {self.more_labels} more labels of new requests are needed: there are {train_rows} to train on "
            f"(at least {policy.minimum_train_rows}) and {holdout_rows} held out (at least "
            f"{policy.minimum_holdout_rows})"
        )


class DatasetCorruptError(ValueError):
    """A dataset version on disk is incomplete or was altered."""


def stable_key(messages: Sequence[Message]) -> str:
    """What makes two requests the same one: SHA-256 over the normalised turns, system prompt aside, 64 hex digits."""
    turns = [(turn.role, normalise_text(turn.content)) for turn in messages if turn.role != "system"]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


def build_dataset(
    rows: Iterable[LabelledRow],
    policy: DatasetPolicy,
    root: Path,
    *,
    created_at_ms: int,
    previous: Path | None = None,
) -> Path:
    """Writes a dataset version and returns its folder; equal content gives the same folder, written once.

    Args:
        rows: Labels of one tenant's task, in any order.
        policy: The share put aside and the least there must be.
        root: Folder that versions are written under.
        created_at_ms: Now, in milliseconds since 1970 UTC.
        previous: Folder of the version before, so that what it held out stays out.

    Raises:
        DatasetTooSmallError: Says how many more labels are needed.
        DatasetCorruptError: `previous` is damaged.
        ValueError: A row has no turn to answer, or rows are of different tenants or tasks.
    """
    given = list(rows)
    _check(given)
    parent, assignments = None, dict[str, Split]()
    if previous is not None:
        parent, assignments = read_manifest(previous).dataset_id, _read_assignments(previous)

    latest: dict[str, LabelledRow] = {}
    for row in sorted(given, key=lambda row: (row.labelled_at_ms, row.label_id)):
        latest[stable_key(row.messages)] = row
    superseded = {row.label_id for row in given} - {row.label_id for row in latest.values()}
    for key in latest:
        assignments.setdefault(key, "holdout" if _fraction(key) < policy.holdout_share else "train")

    counts = Counter(assignments[key] for key in latest)
    if counts["train"] < policy.minimum_train_rows or counts["holdout"] < policy.minimum_holdout_rows:
        raise DatasetTooSmallError(train_rows=counts["train"], holdout_rows=counts["holdout"], policy=policy)

    records = [_record(key, latest[key], assignments[key]) for key in sorted(latest)]
    dataset_id = _content_hash(records, assignments)
    manifest = Manifest(
        dataset_id=dataset_id,
        parent=parent,
        created_at_ms=created_at_ms,
        tenant=given[0].tenant,
        task=given[0].task,
        sensitivity=max((row.sensitivity for row in latest.values()), key=SENSITIVITIES.index),
        holdout_share=policy.holdout_share,
        rows=len(records),
        splits={"train": counts["train"], "holdout": counts["holdout"]},
        label_ids=tuple(sorted(row.label_id for row in latest.values())),
        superseded_label_ids=tuple(sorted(superseded)),
        sources=dict(sorted(Counter(row.source for row in latest.values()).items())),
    )
    return _write(root / dataset_id, manifest, records, assignments)


def read_manifest(dataset: Path) -> Manifest:
    """Reads a version's manifest.

    Raises:
        DatasetCorruptError: It is missing or not one.
    """
    try:
        return msgspec.json.decode((dataset / "manifest.json").read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError) as exc:
        raise DatasetCorruptError(f"{dataset / 'manifest.json'}: {exc}") from exc


def read_rows(dataset: Path, split: Split) -> list[LabelledRow]:
    """Reads a version's rows of one split, in the order of their stable keys.

    Raises:
        DatasetCorruptError: The content is not what the manifest says it is.
    """
    manifest = read_manifest(dataset)
    try:
        records = pq.read_table(dataset / "rows.parquet").to_pylist()
    except (OSError, pa.ArrowException) as exc:
        raise DatasetCorruptError(f"{dataset / 'rows.parquet'}: {exc}") from exc
    if _content_hash(records, _read_assignments(dataset)) != (manifest.remaining_id or manifest.dataset_id):
        raise DatasetCorruptError(f"{dataset}: the rows are not those that the manifest's dataset_id was made from")
    return [_row(record) for record in records if record["split"] == split]


def erase_rows(dataset: Path, request_ids: AbstractSet[str]) -> int:
    """Takes the rows of requests out of a version, whose id stays, and returns how many there were.

    Where it is killed the version may not be readable; called again for the same requests, it makes it whole.

    Raises:
        DatasetCorruptError: It is damaged.
    """
    manifest = read_manifest(dataset)
    try:
        if request_ids.isdisjoint(
            pq.read_table(dataset / "rows.parquet", columns=["request_id"])["request_id"].to_pylist()
        ):
            return 0
        records = pq.read_table(dataset / "rows.parquet").to_pylist()
    except (OSError, pa.ArrowException) as exc:
        raise DatasetCorruptError(f"{dataset / 'rows.parquet'}: {exc}") from exc
    gone = {record["stable_key"] for record in records if record["request_id"] in request_ids}
    left = [record for record in records if record["stable_key"] not in gone]
    assignments = {key: split for key, split in _read_assignments(dataset).items() if key not in gone}
    manifest = msgspec.structs.replace(
        manifest,
        erased=manifest.rows - len(left),  # not a sum: who was killed over the same rows may have counted them already
        remaining_id=_content_hash(left, assignments),
    )
    _write_files(dataset, manifest, left, assignments)
    return len(gone)


_ROWS_SCHEMA = pa.schema(
    [
        pa.field("stable_key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("label_id", pa.string(), nullable=False),
        pa.field("labelled_at_ms", pa.int64(), nullable=False),
        pa.field("tenant", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("sensitivity", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("messages", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())])), nullable=False),
        pa.field("completion", pa.string(), nullable=False),
        pa.field("tools_json", pa.string(), nullable=False),
        pa.field("system", pa.string(), nullable=False),
    ]
)
_ASSIGNMENTS_SCHEMA = pa.schema(
    [pa.field("stable_key", pa.string(), nullable=False), pa.field("split", pa.string(), nullable=False)]
)


def _check(rows: Sequence[LabelledRow]) -> None:
    owners = {(row.tenant, row.task) for row in rows}
    if len(owners) > 1:
        raise ValueError(f"a dataset is of one tenant's task; got rows of {sorted(owners)}")
    for row in rows:
        if row.messages[-1].role not in ("user", "tool"):
            raise ValueError(
                f"label {row.label_id}: messages must end with the turn to answer (user or tool), "
                f"got {row.messages[-1].role}"
            )


def _fraction(key: str) -> float:
    return int(key[:16], 16) / 2**64


def _record(key: str, row: LabelledRow, split: Split) -> dict[str, Any]:
    record: dict[str, Any] = {"stable_key": key, "split": split, **msgspec.to_builtins(row)}
    record["completion"] = arrange_completion(row.completion, row.tools)
    record["tools_json"] = json.dumps(record.pop("tools"), ensure_ascii=False)
    return record


def _row(record: Mapping[str, Any]) -> LabelledRow:
    fields = {name: value for name, value in record.items() if name not in ("stable_key", "split", "tools_json")}
    return msgspec.convert({**fields, "tools": json.loads(record["tools_json"])}, type=LabelledRow)


def _content_hash(records: Sequence[Mapping[str, Any]], assignments: Mapping[str, Split]) -> str:
    # Over the values, not the files: Parquet's bytes differ from one writer version to the next.
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    digest.update(json.dumps(sorted(assignments.items())).encode())
    return digest.hexdigest()


def _read_assignments(dataset: Path) -> dict[str, Split]:
    try:
        table = pq.read_table(dataset / "assignments.parquet")
    except (OSError, pa.ArrowException) as exc:
        raise DatasetCorruptError(f"{dataset / 'assignments.parquet'}: {exc}") from exc
    return dict(zip(table["stable_key"].to_pylist(), table["split"].to_pylist(), strict=True))


def _write(
    folder: Path, manifest: Manifest, records: Sequence[dict[str, Any]], assignments: Mapping[str, Split]
) -> Path:
    if folder.exists():
        return folder
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_files(partial, manifest, records, assignments)
    partial.rename(folder)
    return folder


def _write_files(
    folder: Path, manifest: Manifest, records: Sequence[dict[str, Any]], assignments: Mapping[str, Split]
) -> None:
    pairs = [{"stable_key": key, "split": split} for key, split in sorted(assignments.items())]
    # Each beside its place first, and then whole into it, for a version that is there already.
    pq.write_table(pa.Table.from_pylist(list(records), _ROWS_SCHEMA), folder / ".rows", compression="zstd")
    pq.write_table(pa.Table.from_pylist(pairs, _ASSIGNMENTS_SCHEMA), folder / ".assignments")
    (folder / ".manifest").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
    # The rows last: while those to be erased are there, the next try finds them and does all of it again.
    for name in ("manifest.json", "assignments.parquet", "rows.parquet"):
        (folder / f".{Path(name).stem}").replace(folder / name)
