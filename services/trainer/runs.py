"""Runs and how far they are, in memory and on disk.

Below the artifacts folder, for each tenant and task:

<tenant>/<task>/datasets/<dataset_id>/        see `dataset`
<tenant>/<task>/runs/<run_id>/run-state.json  the run: what a restart goes on from
<tenant>/<task>/runs/<run_id>/candidate.json  what the gate said, there before anybody is told
<tenant>/<task>/runs/<run_id>/report.html     what people read of the gate
<tenant>/<task>/runs/<run_id>/                the rest is the training process's, see `run`
"""

import hashlib
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from schemas.events import Candidate
from services.runtime import telemetry
from services.trainer.dataset import DatasetCorruptError, erase_rows, read_manifest
from services.trainer.ports import Progress

State = Literal["training", "gating", "promoted", "refused", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("promoted", "refused", "failed", "cancelled")


class Run(msgspec.Struct, kw_only=True):
    """One run and how far it is.

    Attributes:
        run_id: A UUIDv7.
        tenant: Whose.
        task: What it learns.
        started_at: When it was asked for.
        dataset: Folder of its dataset, relative to the artifacts.
        training_rows: Rows to learn from.
        holdout_rows: Rows to be judged on.
        shown: Requests it was given to learn from when it began, those included that were erased since.
        state: What it is doing, or how it ended.
        detail: Why it ended as it did, or what it waits for.
        candidate_id: What it made; empty until that has been judged.
        gated: Answers that the gate has.
        gate_items: Answers that the gate wants; 0 until it begins.
        progress: Of the training.
    """

    run_id: str
    tenant: str
    task: str
    started_at: datetime
    dataset: str
    training_rows: int
    holdout_rows: int
    shown: tuple[str, ...] = ()
    state: State = "training"
    detail: str = ""
    candidate_id: str = ""
    gated: int = 0
    gate_items: int = 0
    progress: Progress = Progress()

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.state in ENDED


class Runs:
    """Every run there is."""

    def __init__(self, artifacts: Path) -> None:
        self._artifacts = artifacts
        self._runs: dict[str, Run] = {}
        self._labels: dict[str, frozenset[str]] = {}  # by run

    def load(self) -> None:
        """Read the runs of processes before this one. One that cannot be read is logged and passed over."""
        for path in sorted(self._artifacts.glob("*/*/runs/*/run-state.json")):
            try:
                self._remember(msgspec.json.decode(path.read_bytes(), type=Run))
            except msgspec.MsgspecError as error:
                telemetry.log().error("run passed over", path=str(path), error=str(error))

    def __iter__(self) -> Iterator[Run]:
        """Oldest first."""
        return iter(sorted(self._runs.values(), key=lambda run: run.run_id))

    def get(self, run_id: str) -> Run | None:
        """Return a run, if there is one of this id."""
        return self._runs.get(run_id)

    def of(self, tenant: str, task: str) -> list[Run]:
        """Return a task's runs, oldest first."""
        return [run for run in self if (run.tenant, run.task) == (tenant, task)]

    def refused_against(self, tenant: str, task: str, incumbent: str) -> int:
        """Return how many candidates of a task were refused beside an incumbent."""
        refused = (self.candidate(run) for run in self.of(tenant, task) if run.state == "refused")
        return sum(each is not None and each.incumbent == incumbent for each in refused)

    def labels_given(self, tenant: str, task: str) -> frozenset[str]:
        """Return the labels that the task's newest run was given, those included that refinement left out."""
        runs = self.of(tenant, task)
        return self._labels[runs[-1].run_id] if runs else frozenset()

    def save(self, run: Run) -> None:
        """Keep a run as it is now."""
        if run.run_id not in self._runs:
            self._remember(run)
        self._write(run, "run-state.json", run)

    def save_candidate(self, run: Run, candidate: Candidate) -> None:
        """Keep what became of a run, before it is told: a restart must tell the same."""
        self._write(run, "candidate.json", candidate)

    def save_report(self, run: Run, report: str) -> str:
        """Keep what people read of a gate, and return its SHA-256 in hexadecimal digits."""
        content = report.encode()
        self._write_bytes(run, "report.html", content)
        return hashlib.sha256(content).hexdigest()

    def candidate(self, run: Run) -> Candidate | None:
        """Return what became of a run, if that has been judged."""
        try:
            return msgspec.json.decode((self.folder(run) / "candidate.json").read_bytes(), type=Candidate)
        except FileNotFoundError:
            return None

    def folder(self, run: Run) -> Path:
        """Return a run's folder."""
        return self._artifacts / run.tenant / run.task / "runs" / run.run_id

    def adapter(self, run: Run) -> str:
        """Return the folder of the adapter that a run makes, relative to the artifacts."""
        return str((self.folder(run) / "adapter").relative_to(self._artifacts))

    def dataset(self, run: Run) -> Path:
        """Return the folder of a run's dataset."""
        return self._artifacts / run.dataset

    def datasets(self, tenant: str, task: str) -> Path:
        """Return the folder of a task's datasets."""
        return self._artifacts / tenant / task / "datasets"

    def newest_dataset(self, tenant: str, task: str) -> Path | None:
        """Return the dataset that was written last, whose hold-out goes on.

        Raises:
            DatasetCorruptError: One of them is damaged.
        """
        manifests = self.datasets(tenant, task).glob("*/manifest.json")
        return max((path.parent for path in manifests), key=lambda p: read_manifest(p).created_at_ms, default=None)

    def erase(self, request_ids: AbstractSet[str]) -> int:
        """Take requests out of every dataset, and return how many rows there were. One that is damaged is logged."""
        rows = 0
        for path in self._artifacts.glob("*/*/datasets/*/manifest.json"):
            try:
                rows += erase_rows(path.parent, request_ids)
            except DatasetCorruptError as error:
                telemetry.log().error("nothing erased from a dataset", path=str(path.parent), error=str(error))
        return rows

    def relative(self, path: Path) -> str:
        """Return a path below the artifacts folder as events and runs name it."""
        return str(path.relative_to(self._artifacts))

    def _remember(self, run: Run) -> None:
        self._runs[run.run_id] = run
        try:
            manifest = read_manifest(self.dataset(run))
            self._labels[run.run_id] = frozenset((*manifest.label_ids, *manifest.refused_label_ids))
        except DatasetCorruptError as error:
            telemetry.log().error("dataset lost", run=run.run_id, error=str(error))
            self._labels[run.run_id] = frozenset()

    def _write(self, run: Run, name: str, value: Any) -> None:
        self._write_bytes(run, name, msgspec.json.encode(value))

    def _write_bytes(self, run: Run, name: str, content: bytes) -> None:
        folder = self.folder(run)
        partial = folder / f".{name}"
        partial.write_bytes(content)
        partial.rename(folder / name)
