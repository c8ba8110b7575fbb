"""The use cases of training: start a run, follow it, have it judged, tell the candidate."""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from schemas.bundle import Learning, Task
from schemas.events import Candidate
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, NotFound, Rejected, Retryable, ServiceError
from services.trainer.contest import Contest, patiently
from services.trainer.dataset import DatasetPolicy, build_dataset, read_manifest, read_rows
from services.trainer.domain import replayed
from services.trainer.ports import Announcer, Learner
from services.trainer.runs import Run, Runs, State
from services.trainer.state import Knowledge
from services.trainer.training.configuration import RunSpecification, TrainingConfiguration, write_specification

SEED = 0


@dataclass(frozen=True)
class Recipe:
    """What every new run is made with.

    Attributes:
        configuration: How to train.
        base: Hugging Face folder of the base model.
        ray_address: A Ray cluster to join; none: Ray is started for each run.
    """

    configuration: TrainingConfiguration
    base: Path
    ray_address: str | None


class Training:
    """Runs, one at a time on this machine; further ones wait for their turn."""

    def __init__(
        self,
        knowledge: Knowledge,
        runs: Runs,
        learner: Learner,
        contest: Contest,
        announcer: Announcer,
        clock: Clock,
        recipe: Recipe,
    ) -> None:
        self._knowledge = knowledge
        self._runs = runs
        self._learner = learner
        self._contest = contest
        self._announcer = announcer
        self._clock = clock
        self._recipe = recipe
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._resumed = asyncio.Event()
        self._starting = asyncio.Lock()
        self._machine = asyncio.Lock()
        # By task: how many labels, under which bundle, did not make a run. Until one of them changes, none will.
        self._not_due: dict[tuple[str, str], tuple[int, str]] = {}
        self._erased: frozenset[str] = frozenset()

    async def ready(self) -> None:
        """Wait until `resume` has been called."""
        await self._resumed.wait()

    def resume(self) -> None:
        """Go on with every run that a restart broke off. Called once, when all that the topics hold is known."""
        self._runs.load()
        for run in self._runs:
            if not run.ended:
                telemetry.log().info("run resumed", run=run.run_id, state=run.state)
                self._begin(run)
        self._resumed.set()

    async def start(self, tenant: str, task: str) -> Run:
        """Make a dataset of the labels that there are and begin a run.

        Raises:
            NotFound: The bundle has no such task.
            FailedPrecondition: It has a run already, or too few labels; the message says how many more.
            Retryable: What there is to learn is not known yet.
        """
        self._check_resumed()
        return await self._start(tenant, task, only_if_new=False)

    async def erase_what_is_asked(self) -> None:
        """Take out of all datasets what has been erased since the last time."""
        erased = frozenset(self._knowledge.erased)
        if erased != self._erased:
            rows = await asyncio.to_thread(self._runs.erase, erased)
            telemetry.log().info("erased", requests=len(erased), rows=rows)
            self._erased = erased

    async def start_what_is_due(self) -> None:
        """Begin a run for each task that has gained as many labels as its bundle asks for."""
        for tenant, task, labels, needed in self.label_counts():
            tried = (labels, self._knowledge.bundle_version)
            if labels < needed or self._under_way(tenant, task) or self._not_due.get((tenant, task)) == tried:
                continue
            try:
                run = await self._start(tenant, task, only_if_new=True)
                telemetry.log().info("run started", run=run.run_id, task=f"{tenant}/{task}", labels=labels)
            except Rejected as error:
                self._not_due[tenant, task] = tried
                telemetry.log().warning("run not started", task=f"{tenant}/{task}", reason=str(error))

    def label_counts(self) -> list[tuple[str, str, int, int]]:
        """Return tenant, task, labels since the last run, and how many start one, for each task that learns."""
        if self._knowledge.bundle is None:
            return []
        counts = []
        for name, task in self._knowledge.bundle.tasks.items():
            if task.learning is None:
                continue
            given = self._runs.labels_given(task.tenant, name)
            labels = self._knowledge.learnable(task.tenant, name, task.learning.accepts)
            fresh = sum(label.label_id not in given for label in labels)
            counts.append((task.tenant, name, fresh, task.learning.labels_needed))
        return counts

    def runs(self, run_id: str = "") -> list[Run]:
        """Return one run, or all, oldest first.

        Raises:
            NotFound: There is no such run.
            Retryable: The runs of before have not been read yet.
        """
        self._check_resumed()
        if not run_id:
            return list(self._runs)
        run = self._runs.get(run_id)
        if run is None:
            raise NotFound(f"run_id: there is no run {run_id!r}")
        return [run]

    async def cancel(self, run_id: str) -> None:
        """Cancel a run and wait until nothing of it is left running.

        Raises:
            NotFound: There is no such run.
            FailedPrecondition: It has ended, or its candidate has been judged and is being told.
        """
        (run,) = self.runs(run_id)
        if run.ended:
            raise FailedPrecondition(f"run {run_id} has ended: {run.state}")
        if run.candidate_id:
            raise FailedPrecondition(f"run {run_id} has been judged, and its candidate is being told")
        # First of all, so that it stays cancelled if the caller or this process goes away meanwhile.
        self._end(run, "cancelled", "cancelled on request")
        task = self._tasks[run_id]
        task.cancel()
        await asyncio.wait([task])

    async def stop(self) -> None:
        """Break off what is running; the next start of the service goes on with it."""
        running = [task for task in self._tasks.values() if not task.done()]
        for task in running:
            if not task.cancelling():  # a second time would break off the ending of its process
                task.cancel()
        if running:
            await asyncio.wait(running)

    async def _start(self, tenant: str, task: str, *, only_if_new: bool) -> Run:
        async with self._starting:
            settings, learning = self._knowledge.task(tenant, task)
            if self._under_way(tenant, task):
                raise FailedPrecondition(f"a run of {tenant}/{task} is under way")
            try:
                dataset = await self._dataset(tenant, task, settings, learning)
            except ValueError as error:
                raise FailedPrecondition(f"{tenant}/{task}: {error}") from error
            named, before = self._runs.relative(dataset), self._runs.of(tenant, task)
            if only_if_new and before and before[-1].dataset == named:
                raise FailedPrecondition(f"{tenant}/{task}: run {before[-1].run_id} has learned the same already")
            splits = read_manifest(dataset).splits
            run = Run(
                run_id=self._clock.new_id(),
                tenant=tenant,
                task=task,
                started_at=self._clock.now(),
                dataset=named,
                training_rows=splits["train"],
                holdout_rows=splits["holdout"],
            )
            specification = RunSpecification(
                dataset=str(dataset.resolve()),
                base=str(self._recipe.base.resolve()),
                configuration=self._recipe.configuration,
                seed=SEED,
                ray_address=self._recipe.ray_address,
            )
            write_specification(self._runs.folder(run), specification)
            self._begin(run)
            return run

    async def _dataset(self, tenant: str, task: str, settings: Task, learning: Learning) -> Path:
        previous = self._runs.newest_dataset(tenant, task)
        before = [] if previous is None else await asyncio.to_thread(read_rows, previous)
        return await asyncio.to_thread(
            build_dataset,
            self._knowledge.rows(tenant, task, settings.specialist_prompt, learning.accepts),
            DatasetPolicy(
                holdout_share=learning.holdout_share,
                minimum_train_rows=1,
                minimum_holdout_rows=learning.holdout_minimum,
                function_call=settings.answers == "function-call",
                personal_data=learning.personal_data,
                accepts=learning.accepts,
            ),
            self._runs.datasets(tenant, task),
            created_at_ms=int(self._clock.now().timestamp() * 1000),
            previous=previous,
            older=[replayed(row, settings.specialist_prompt) for row in before if self._knowledge.has_expired(row)],
            not_learned=self._knowledge.left_out(tenant, task, learning.accepts),
        )

    def _begin(self, run: Run) -> None:
        self._runs.save(run)
        self._tasks[run.run_id] = asyncio.create_task(self._carry_out(run))

    async def _carry_out(self, run: Run) -> None:
        try:
            if self._machine.locked():
                run.detail = "waits for the run before it"
            async with self._machine:
                run.detail = ""
                candidate = self._runs.candidate(run) or await self._make(run)
                run.candidate_id = candidate.candidate_id
                await patiently(lambda: self._announcer.candidate(candidate), self._clock)
                state: State = "promoted" if candidate.verdict == "promote" else "refused"
                self._end(run, state, "; ".join(candidate.reasons))
        except ServiceError as error:
            self._end(run, "failed", str(error))
        except Exception as error:
            telemetry.log().error("run failed unexpectedly", run=run.run_id, exc_info=error)
            self._end(run, "failed", f"{type(error).__name__}: {error}")

    async def _make(self, run: Run) -> Candidate:
        run.state = "training"
        if not run.shown:  # else it was broken off, and some of it may have been erased since
            rows = await asyncio.to_thread(read_rows, self._runs.dataset(run), "train")
            run.shown = tuple(row.request_id for row in rows)
            self._runs.save(run)
        async with aclosing(self._learner.learn(self._runs.folder(run))) as progress:
            async for run.progress in progress:
                pass
        run.state = "gating"
        self._runs.save(run)
        candidate = await self._contest.hold(run)
        self._runs.save_candidate(run, candidate)
        return candidate

    def _end(self, run: Run, state: State, detail: str) -> None:
        if run.ended:  # cancelled, and what it was doing then failed
            return
        run.state, run.detail = state, detail
        self._runs.save(run)
        telemetry.log().info("run ended", run=run.run_id, state=state, detail=detail)

    def _under_way(self, tenant: str, task: str) -> bool:
        return any(not run.ended for run in self._runs.of(tenant, task))

    def _check_resumed(self) -> None:
        if not self._resumed.is_set():
            raise Retryable("the trainer is starting: it still reads its topics")
