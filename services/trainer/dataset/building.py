"""Labels → a dataset version."""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from schemas.bundle import Accepted, Rescanned
from services.trainer.answers import arrange_completion
from services.trainer.dataset.manifest import Manifest
from services.trainer.dataset.near_duplicates import clusters, near
from services.trainer.dataset.refinement import allowed_by_tools, settle
from services.trainer.dataset.rows import SENSITIVITIES, LabelledRow, LeftOut, Reason, asked, left_out, stable_key
from services.trainer.dataset.splits import split
from services.trainer.dataset.store import (
    content_hash,
    count_reasons,
    read_assignments,
    read_left_out,
    read_manifest,
    record_of,
    write,
)


@dataclass(frozen=True, kw_only=True)
class DatasetPolicy:
    """How much is put aside, how much there must be, and what may not be in it.

    Attributes:
        holdout_share: Share of new requests that go to the hold-out, in (0, 1).
        minimum_train_rows: Fewer are not worth a run.
        minimum_holdout_rows: Fewer cannot be gated.
        function_call: Whether every answer is to be a function call.
        personal_data: Kinds of personal data and secrets that no row may hold in the clear.
        accepts: States of requests whose labels are learned from.
    """

    holdout_share: float = 0.2
    minimum_train_rows: int = 32
    minimum_holdout_rows: int = 50
    function_call: bool = False
    personal_data: tuple[Rescanned, ...] = ()
    accepts: tuple[Accepted, ...] = ("provisional", "agreed", "adjudicated")

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

    def __init__(self, *, train_rows: int, holdout_rows: int, policy: DatasetPolicy, refused: int) -> None:
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
            f"{policy.minimum_holdout_rows})" + (f"; refinement left out {refused}" if refused else "")
        )


class DetectorsFailedError(ValueError):
    """Personal data could not be looked for."""


def build_dataset(
    rows: Iterable[LabelledRow],
    policy: DatasetPolicy,
    root: Path,
    *,
    created_at_ms: int,
    previous: Path | None = None,
    older: Sequence[LabelledRow] = (),
    not_learned: Collection[LeftOut] = (),
) -> Path:
    """Writes a dataset version and returns its folder; equal content gives the same folder, written once.

    Args:
        rows: Labels of one tenant's task, in any order.
        policy: The share put aside, the least there must be, and what rows must hold to.
        root: Folder that versions are written under.
        created_at_ms: Now, in milliseconds since 1970 UTC.
        previous: Folder of the version before, so that what it held out stays out.
        older: Rows of the version before that are carried on, for nobody knows their labels any more.
        not_learned: Labels of which no row was made, and why.

    Raises:
        DatasetTooSmallError: Says how many more labels are needed.
        DatasetCorruptError: `previous` is damaged.
        DetectorsFailedError: It is not known whether rows hold personal data.
        ValueError: A row has no turn to answer, or rows are of different tenants or tasks.
    """
    given = [*older, *rows]
    _check(given)
    parent = None if previous is None else read_manifest(previous).dataset_id
    assignments = {} if previous is None else read_assignments(previous)
    erased = [] if previous is None else [each for each in read_left_out(previous) if each.reason == Reason.ERASED]

    fit, refused = _fit(given, policy)
    settled, unsettled = settle(fit)
    by_key = {stable_key(row.messages): row for row in settled}
    neighbours = near({key: "\n".join(turn.content for turn in asked(row.messages)) for key, row in by_key.items()})
    splits = split(neighbours, assignments, policy.holdout_share)
    refused += unsettled
    refused += [left_out(row, Reason.NEAR_HOLDOUT) for key, row in by_key.items() if key not in splits]
    assignments = splits | assignments

    counts = Counter(splits.values())
    if counts["train"] < policy.minimum_train_rows or counts["holdout"] < policy.minimum_holdout_rows:
        raise DatasetTooSmallError(
            train_rows=counts["train"], holdout_rows=counts["holdout"], policy=policy, refused=len(refused)
        )

    learned = {key: by_key[key] for key in sorted(splits)}
    records = [record_of(key, row, splits[key]) for key, row in learned.items()]
    replayed = {row.label_id for row in older}
    out = [*refused, *erased, *(each for each in not_learned if each.label_id not in replayed)]
    manifest = Manifest(
        dataset_id=content_hash(records, assignments),
        parent=parent,
        created_at_ms=created_at_ms,
        tenant=given[0].tenant,
        task=given[0].task,
        sensitivity=max((row.sensitivity for row in learned.values()), key=SENSITIVITIES.index),
        holdout_share=policy.holdout_share,
        rows=len(records),
        splits={"train": counts["train"], "holdout": counts["holdout"]},
        label_ids=tuple(sorted(row.label_id for row in learned.values())),
        refused_label_ids=tuple(sorted(each.label_id for each in refused)),
        sources=dict(sorted(Counter(row.source for row in learned.values()).items())),
        left_out=count_reasons(out),
        clusters=len(clusters({key: neighbours[key] for key in learned})),
        replayed=sum(row.label_id in replayed for row in learned.values()),
        personal_data=policy.personal_data,
    )
    return write(root, manifest, records, assignments, out)


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


def _fit(rows: Sequence[LabelledRow], policy: DatasetPolicy) -> tuple[list[LabelledRow], list[LeftOut]]:
    """Return the rows that may be learned from by themselves, as they are learned, and what is left out."""
    fit, out = list[LabelledRow](), list[LeftOut]()
    shown = ["\n".join([*(turn.content for turn in asked(row.messages)), row.completion]) for row in rows]
    held = _hold_personal_data([*shown, *(row.rejected for row in rows)], policy.personal_data)
    for row, personal, personal_before in zip(rows, held[: len(rows)], held[len(rows) :], strict=True):
        if row.state not in policy.accepts:
            out.append(left_out(row, Reason.NOT_ACCEPTED))
        elif personal:
            out.append(left_out(row, Reason.PERSONAL_DATA))
        elif not allowed_by_tools(row, function_call=policy.function_call):
            out.append(left_out(row, Reason.TOOL_SCHEMA))
        else:
            completion, before = (arrange_completion(text, row.tools) for text in (row.completion, row.rejected))
            fit.append(msgspec.structs.replace(row, completion=completion, rejected="" if personal_before else before))
    return fit, out


def _hold_personal_data(texts: Sequence[str], kinds: Sequence[Rescanned]) -> list[bool]:
    """Return of each text whether it holds something of these kinds (see `personal_data`)."""
    if not texts or not kinds:
        return [False] * len(texts)
    looked = subprocess.run(
        [sys.executable, "-m", "services.trainer.dataset.personal_data"],
        input=msgspec.json.encode({"kinds": kinds, "texts": texts}),
        stdout=subprocess.PIPE,
        check=False,
    )
    if looked.returncode:
        raise DetectorsFailedError(f"the search for personal data ended with status {looked.returncode}")
    return msgspec.json.decode(looked.stdout, type=list[bool])
