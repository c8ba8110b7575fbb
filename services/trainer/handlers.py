"""The use cases of training: start a run, follow it, gate what it made, tell the candidate."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from schemas.bundle import Learning
from schemas.events import Candidate
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, NotFound, Rejected, Retryable, ServiceError
from services.trainer.answers import answer_schema, is_correct
from services.trainer.dataset import (
    DatasetPolicy,
    DatasetTooSmallError,
    LabelledRow,
    build_dataset,
    read_manifest,
    read_rows,
)
from services.trainer.domain import Contestant, Knowledge, highest, incumbent
from services.trainer.gate import GateRule, Verdict, judge
from services.trainer.ports import Announcer, Learner, Models, Progress, Trial
from services.trainer.training.configuration import RunSpecification, TrainingConfiguration, write_specification

T = TypeVar("T")
State = Literal["training", "gating", "promoted", "refused", "failed", "cancelled"]
ENDED: tuple[State, ...] = ("promoted", "refused", "failed", "cancelled")
SEED = 0
ANSWER_SECONDS = 120.0
RETRY_SECONDS = 2.0
TRIES = 30


class Run(msgspec.Struct, kw_only=True):
    """One run and how far it is; `run-state.json` in its folder holds the same, so that a restart goes on with it."""

    run_id: str
    tenant: str
    task: str
    started_at: datetime
    dataset: str
    training_rows: int
    holdout_rows: int
    state: State = "training"
    detail: str = ""
    candidate_id: str = ""
    gated: int = 0
    gate_items: int = 0
    progress: Progress = Progress()


class Training:
    """Runs, one at a time on this machine; further ones wait for their turn."""

    def __init__(
        self,
        knowledge: Knowledge,
        learner: Learner,
        trial: Trial,
        models: Models,
        announcer: Announcer,
        clock: Clock,
        configuration: TrainingConfiguration,
        base: Path,
        artifacts: Path,
        ray_address: str | None,
        gate_in_flight: int,
    ) -> None:
        self._knowledge = knowledge
        self._learner = learner
        self._trial = trial
        self._models = models
        self._announcer = announcer
        self._clock = clock
        self._configuration = configuration
        self._base = base
        self._artifacts = artifacts
        self._ray_address = ray_address
        self._gate_in_flight = gate_in_flight
        self._runs: dict[str, Run] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._machine = asyncio.Lock()

    def start(self, tenant: str, task: str) -> Run:
        """Make a dataset of what there is and begin a run.

        Raises:
            NotFound: The bundle has no such task.
            FailedPrecondition: It has a run already, or too few labels; the message says how many more.
        """
        settings, learning = self._knowledge.task(tenant, task)
        if any(run.state not in ENDED for run in self._runs_of(tenant, task)):
            raise FailedPrecondition(f"a run of {tenant}/{task} is under way")
        rows = self._knowledge.rows(tenant, task, settings.specialist_prompt)
        if not rows:
            raise FailedPrecondition(f"{tenant}/{task} has no labels to learn from")
        policy = _policy(learning)
        datasets = self._folder(tenant, task) / "datasets"
        try:
            dataset = build_dataset(
                rows,
                policy,
                datasets,
                created_at_ms=int(self._clock.now().timestamp() * 1000),
                previous=self._newest_dataset(tenant, task),
            )
        except DatasetTooSmallError as error:
            raise FailedPrecondition(str(error)) from error
        except ValueError as error:
            raise Rejected(f"the labels of {tenant}/{task} make no dataset: {error}") from error
        splits = read_manifest(dataset).splits
        run = Run(
            run_id=self._clock.new_id(),
            tenant=tenant,
            task=task,
            started_at=self._clock.now(),
            dataset=str(dataset.relative_to(self._artifacts)),
            training_rows=splits["train"],
            holdout_rows=splits["holdout"],
        )
        write_specification(
            self._run_dir(run),
            RunSpecification(
                dataset=str(dataset.resolve()),
                base=str(self._base.resolve()),
                configuration=self._configuration,
                seed=SEED,
                ray_address=self._ray_address,
            ),
        )
        self._begin(run)
        return run

    def resume(self) -> None:
        """Go on with every run that a restart broke off."""
        for path in sorted(self._artifacts.glob("*/*/runs/*/run-state.json")):
            run = msgspec.json.decode(path.read_bytes(), type=Run)
            if run.state in ENDED:
                self._runs[run.run_id] = run
            else:
                telemetry.log().info("run resumed", run=run.run_id)
                self._begin(run)

    def start_what_is_due(self) -> None:
        """Begin a run for each task that has gained as many labels as its bundle asks for."""
        for tenant, task, labels, needed in self.label_counts():
            if labels < needed or any(run.state not in ENDED for run in self._runs_of(tenant, task)):
                continue
            try:
                run = self.start(tenant, task)
                telemetry.log().info("run started", run=run.run_id, task=f"{tenant}/{task}", labels=labels)
            except FailedPrecondition as error:
                telemetry.log().info("run not started", task=f"{tenant}/{task}", reason=str(error))

    def label_counts(self) -> list[tuple[str, str, int, int]]:
        """Return tenant, task, labels since the last run, and how many a run takes, for each task that learns."""
        if self._knowledge.bundle is None:
            return []
        counts = []
        for name, task in self._knowledge.bundle.tasks.items():
            if task.learning is None:
                continue
            newest = self._newest_dataset(task.tenant, name)
            manifest = read_manifest(newest) if newest else None
            used = {*manifest.label_ids, *manifest.superseded_label_ids} if manifest else set()
            fresh = sum(label.label_id not in used for label in self._knowledge.learnable(task.tenant, name))
            counts.append((task.tenant, name, fresh, task.learning.labels_needed))
        return counts

    def runs(self, run_id: str = "") -> list[Run]:
        """Return one run, or all, oldest first.

        Raises:
            NotFound: There is no such run.
        """
        if not run_id:
            return sorted(self._runs.values(), key=lambda run: run.run_id)
        if run_id not in self._runs:
            raise NotFound(f"run_id: there is no run {run_id!r}")
        return [self._runs[run_id]]

    async def cancel(self, run_id: str) -> None:
        """Cancel a run and wait until nothing of it is left running.

        Raises:
            NotFound: There is no such run.
            FailedPrecondition: It has ended.
        """
        (run,) = self.runs(run_id)
        if run.state in ENDED:
            raise FailedPrecondition(f"run {run_id} has ended: {run.state}")
        task = self._tasks[run_id]
        task.cancel()
        await asyncio.wait([task])
        self._end(run, "cancelled", "cancelled on request")

    async def stop(self) -> None:
        """Break off what is running; the next start of the service goes on with it."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def _begin(self, run: Run) -> None:
        self._runs[run.run_id] = run
        self._save(run)
        self._tasks[run.run_id] = asyncio.create_task(self._carry_out(run))

    async def _carry_out(self, run: Run) -> None:
        try:
            async with self._machine:
                run.state = "training"
                async with aclosing(self._learner.learn(self._run_dir(run))) as progress:  # type: ignore[type-var] # a generator
                    async for run.progress in progress:
                        pass
                run.state = "gating"
                self._save(run)
                candidate = await self._gate(run)
                await self._patiently(lambda: self._announcer.candidate(candidate))
                run.candidate_id = candidate.candidate_id
                self._end(
                    run, "promoted" if candidate.verdict == "promote" else "refused", "; ".join(candidate.reasons)
                )
        except asyncio.CancelledError:
            raise
        except ServiceError as error:
            self._end(run, "failed", str(error))
        except Exception as error:
            telemetry.log().error("run failed unexpectedly", run=run.run_id, exc_info=error)
            self._end(run, "failed", f"{type(error).__name__}: {error}")

    async def _gate(self, run: Run) -> Candidate:
        settings, learning = self._knowledge.task(run.tenant, run.task)
        dataset = self._artifacts / run.dataset
        training, holdout = read_rows(dataset, "train"), read_rows(dataset, "holdout")
        schema = answer_schema((row.completion, row.tools) for row in training)
        response_schema = msgspec.json.encode(schema).decode() if schema else ""
        assert self._knowledge.bundle is not None
        before = incumbent(self._knowledge.bundle, settings, self._knowledge.deployments.get((run.tenant, run.task)))
        adapter_path = str((self._run_dir(run) / "adapter").relative_to(self._artifacts))
        model, version = await self._patiently(
            lambda: self._trial.deploy(run.tenant, run.task, run.run_id, adapter_path)
        )
        candidate = Contestant(
            name=run.run_id,
            model=model,
            version=version,
            prompt=settings.specialist_prompt,
            schema=response_schema,
            specialist=True,
            function_call=settings.answers == "function-call",
            max_tokens=settings.max_tokens,
        )
        run.gated, run.gate_items = 0, 2 * len(holdout)
        verdict = judge(
            await self._right(run, candidate, holdout), await self._right(run, before, holdout), _rule(learning)
        )
        return self._candidate(run, verdict, before, candidate, adapter_path, training, holdout)

    async def _right(self, run: Run, contestant: Contestant, rows: Sequence[LabelledRow]) -> list[bool]:
        gate = asyncio.Semaphore(self._gate_in_flight)

        async def one(row: LabelledRow) -> bool:
            async with gate:
                text, _ = await self._patiently(lambda: self._models.answer(contestant.question(row), ANSWER_SECONDS))
            run.gated += 1
            return is_correct(text, row.completion)

        return list(await asyncio.gather(*(one(row) for row in rows)))

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        for _ in range(TRIES - 1):
            with contextlib.suppress(Retryable):
                return await attempt()
            await asyncio.sleep(RETRY_SECONDS)
        return await attempt()

    def _candidate(
        self,
        run: Run,
        verdict: Verdict,
        before: Contestant,
        candidate: Contestant,
        adapter_path: str,
        training: Sequence[LabelledRow],
        holdout: Sequence[LabelledRow],
    ) -> Candidate:
        metrics = msgspec.json.decode((self._run_dir(run) / "metrics.json").read_bytes())
        return Candidate(
            candidate_id=run.run_id,
            run_id=run.run_id,
            tenant=run.tenant,
            task=run.task,
            created_at=self._clock.now(),
            verdict="promote" if verdict.promote else "refuse",
            reasons=verdict.reasons,
            base_model=self._base.name,
            adapter_path=adapter_path,
            system_prompt=candidate.prompt,
            response_schema=candidate.schema,
            dataset_id=Path(run.dataset).name,
            training_request_ids=tuple(row.request_id for row in training),
            holdout_request_ids=tuple(row.request_id for row in holdout),
            incumbent=before.name,
            candidate_accuracy=verdict.candidate_accuracy,
            incumbent_accuracy=verdict.incumbent_accuracy,
            gain=verdict.difference,
            gain_low=verdict.interval[0],
            gain_high=verdict.interval[1],
            confidence=GateRule().confidence,
            training_tokens=metrics["tokens"],
            training_seconds=metrics["wall_seconds"],
            sensitivity=highest(row.sensitivity for row in (*training, *holdout)),
            bundle_version=self._knowledge.bundle_version,
        )

    def _end(self, run: Run, state: State, detail: str) -> None:
        run.state, run.detail = state, detail
        self._save(run)
        telemetry.log().info("run ended", run=run.run_id, state=state, detail=detail)

    def _save(self, run: Run) -> None:
        folder = self._run_dir(run)
        partial = folder / ".run-state.json"
        partial.write_bytes(msgspec.json.encode(run))
        partial.rename(folder / "run-state.json")

    def _runs_of(self, tenant: str, task: str) -> list[Run]:
        return [run for run in self._runs.values() if (run.tenant, run.task) == (tenant, task)]

    def _folder(self, tenant: str, task: str) -> Path:
        return self._artifacts / tenant / task

    def _run_dir(self, run: Run) -> Path:
        return self._folder(run.tenant, run.task) / "runs" / run.run_id

    def _newest_dataset(self, tenant: str, task: str) -> Path | None:
        manifests = (self._folder(tenant, task) / "datasets").glob("*/manifest.json")
        return max((path.parent for path in manifests), key=lambda p: read_manifest(p).created_at_ms, default=None)


def _policy(learning: Learning) -> DatasetPolicy:
    return DatasetPolicy(
        holdout_share=learning.holdout_share,
        minimum_train_rows=1,
        minimum_holdout_rows=learning.holdout_minimum,
    )


def _rule(learning: Learning) -> GateRule:
    return GateRule(minimum_items=learning.holdout_minimum, minimum_gain=learning.minimum_gain)
