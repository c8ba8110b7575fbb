"""The use cases of serving: trial, promotion, rollback, export, and keeping Triton at the desired state."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

from schemas.bundle import Rollout
from schemas.events import Candidate, Deployment
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Rejected, Retryable
from services.runtime.kafka import Outgoing
from services.serving.domain.deployments import (
    Placed,
    Trial,
    passed,
    promoted,
    rolled_back,
    specialist_model,
    task_key,
)
from services.serving.idleness import Idleness
from services.serving.placement import Placement, Wanted
from services.serving.ports import Announcer, Exporter, ModelServer, Repository
from services.serving.state import DesiredState

# In which a deployment that was told must come back from its topic.
READ_BACK_SECONDS = 10.0


class Serving:
    """Keeps one Triton at the desired state, and changes that state.

    Decisions about a task build on one another, so they are made one at a time, and each waits until the one before has
    come back from the topic: what the topic says last is what was decided last.
    """

    def __init__(
        self,
        state: DesiredState,
        state_is_known: Callable[[], Awaitable[None]],
        server: ModelServer,
        repository: Repository,
        announcer: Announcer,
        exporter: Exporter,
        idleness: Idleness,
        clock: Clock,
    ) -> None:
        self._state = state
        self._state_is_known = state_is_known
        self._placement = Placement(self._wanted, server, repository, clock)
        self._announcer = announcer
        self._exporter = exporter
        self._idleness = idleness
        self._clock = clock
        self._trials: dict[str, Trial] = {}  # by task: a new one takes the place of the one before
        self._told: dict[str, Deployment] = {}  # by task: decided here, and perhaps not read back yet
        self._drifted: dict[str, set[str]] = {}  # by deployment: measures of which the log says that they changed
        self._deciding = asyncio.Lock()
        self._exporting = asyncio.Lock()

    async def try_out(self, tenant: str, task: str, candidate_id: str, adapter_path: str) -> Placed:
        """Load a candidate beside what is live, and return where it answers.

        Raises:
            Rejected: There is no such adapter, or it cannot be loaded.
            Retryable: Triton does not answer.
        """
        await self._state_is_known()
        key, model = task_key(tenant, task), specialist_model(tenant, task)
        self._idleness.wake(key)  # it is compared with what is live
        async with self._placement.arranging:
            placed = await self._placement.write(candidate_id, model, adapter_path)
            self._trials[key] = Trial(tenant, task, candidate_id, placed)
            await self._placement.arrange()
            refusal = self._placement.refusal(placed)
            if refusal:
                del self._trials[key]
                raise Rejected(f"candidate {candidate_id} cannot be loaded: {refusal}")
        complaint = await self._placement.check(placed)
        if complaint:
            raise Retryable(f"candidate {candidate_id} does not answer: {complaint}")
        return placed

    async def decide(self, candidate: Candidate) -> Sequence[Outgoing]:
        """Make a promoted candidate live once it answers; let a refused one go.

        Raises:
            Rejected: The verdict is unknown, there is no such adapter, or it cannot be loaded.
            Retryable: It does not answer yet.
        """
        await self._state_is_known()
        key = task_key(candidate.tenant, candidate.task)
        async with self._deciding:
            if candidate.verdict == "refuse":
                await self._let_go(key, candidate.candidate_id)
                return []
            if candidate.verdict != "promote":
                raise InvalidArgument(f"verdict: {candidate.verdict!r}; wanted promote or refuse")
            if candidate.candidate_id in self._state.were_live:
                return []  # a repeat: a candidate goes live by its record once
            told = self._told.get(key)
            if told is not None and told.candidate_id == candidate.candidate_id:
                return [Outgoing(Topic.DEPLOYMENTS, told)]  # decided, and its transaction was aborted
            current = await self._current(key)
            placed = await self.try_out(
                candidate.tenant, candidate.task, candidate.candidate_id, candidate.adapter_path
            )
            self._state.take_candidate(candidate)  # the follower may read it later than the consumer
            rollout = self._rollout_of(candidate.task)
            live = promoted(candidate, placed, current, rollout, self._clock.new_id(), self._clock.now())
            self._told[key] = live
        telemetry.log().info(
            "promoted", task=key, candidate=candidate.candidate_id, version=placed.version, share=live.share
        )
        return [Outgoing(Topic.DEPLOYMENTS, live)]

    async def roll_back(
        self, tenant: str, task: str, reason: str, deployment_id: str = "", asked_by: str = ""
    ) -> Deployment:
        """Go back to the newest that was live before and can be loaded, and return what is live then.

        Args:
            tenant: Whose specialist.
            task: Of which task.
            reason: Why, for the record.
            deployment_id: Of what is to be live until then; empty: whichever is.
            asked_by: Who asked for it; empty: nobody did.

        Raises:
            FailedPrecondition: No specialist is live, or another one.
            Retryable: Triton or Kafka does not answer.
        """
        await self._state_is_known()
        key = task_key(tenant, task)
        async with self._deciding:
            current = await self._current(key, deployment_id)
            while True:
                placed = await self._placed_again(current)
                deployment = rolled_back(
                    current, self._state.candidates, placed, self._clock.new_id(), self._clock.now(), reason, asked_by
                )
                async with self._telling(deployment):
                    # The one that is left stays loaded until the topic has told everybody.
                    async with self._placement.arranging:
                        await self._placement.arrange(also=[] if current is None else [current])
                    if self._placement.refusal(placed.get(deployment.candidate_id)):
                        continue
                    await self._announcer.deployment(deployment)
                break
        telemetry.log().warning("rolled back", task=key, to=deployment.candidate_id, reason=reason)
        return deployment

    async def widen(self, current: Deployment, answers: int) -> None:
        """Have a specialist that has done well in so many answers answer more callers: from the shadow on, or all.

        Raises:
            FailedPrecondition: It is not live any more.
            Retryable: Kafka does not answer.
        """
        await self._state_is_known()
        async with self._deciding:
            await self._current(current.task_key, current.deployment_id)
            rollout = self._rollout_of(current.task)
            deployment = passed(current, answers, rollout, self._clock.new_id(), self._clock.now())
            async with self._telling(deployment):
                await self._announcer.deployment(deployment)
        telemetry.log().info(
            "widened",
            task=current.task_key,
            candidate=current.candidate_id,
            answers=answers,
            share=deployment.share,
        )

    async def export(self, tenant: str, task: str) -> tuple[str, list[str]]:
        """Write what is live for a task as a folder; return its name and those of its files.

        Raises:
            NotFound: No specialist is live.
            FailedPrecondition: Its record or its adapter is gone.
        """
        await self._state_is_known()
        key = task_key(tenant, task)
        deployment = self._deployments().get(key)
        if deployment is None or deployment.state != "live":
            raise NotFound(f"no specialist is live for {key}")
        candidate = self._state.candidates.get(deployment.candidate_id)
        if candidate is None:
            raise FailedPrecondition(f"the record of candidate {deployment.candidate_id} is not kept any more")
        async with self._exporting:
            try:
                folder, files = await asyncio.to_thread(self._exporter.export, candidate, deployment)
            except Rejected as error:
                raise FailedPrecondition(str(error)) from error
        return str(folder), files

    def status(self) -> list[tuple[Deployment | Trial, str]]:
        """Return what is deployed and on trial, each with what its last check complained of (empty: it answers)."""
        deployments = self._deployments().values()
        unloaded = [each for each in deployments if each.state != "live" or self.is_idle(each)]
        live = [each for each in deployments if each.state == "live" and not self.is_idle(each)]
        loaded: list[Deployment | Trial] = [*live, *self._open_trials()]
        complaints = self._placement.complaints(each.candidate_id for each in loaded)
        return [*((each, "") for each in unloaded), *zip(loaded, complaints, strict=True)]

    def is_idle(self, what: Deployment | Trial) -> bool:
        """Return whether a live specialist is not loaded because nobody asks it."""
        return isinstance(what, Deployment) and self._idleness.is_idle(what)

    async def reconcile(self) -> None:
        """Bring Triton to the desired state: write, load and unload what differs, then ask every version.

        What cannot be written or loaded is logged and tried again; it keeps nothing else from being served.

        Raises:
            Retryable: Triton does not answer.
        """
        await self._state_is_known()  # what is not known to be wanted would be unloaded
        await self._placement.reconcile()
        self._count_drift()

    def _count_drift(self) -> None:
        """Count against each live specialist what changed soon after it went live; nobody is rolled back for it."""
        telemetry.DEPLOYMENT_DRIFTS.clear()
        known, self._drifted = self._drifted, {}
        for deployment in self._deployments().values():
            changed = self._state.changed_since_live(deployment)
            self._drifted[deployment.deployment_id] = {drift.measure for drift in changed}
            if deployment.state == "live":
                gauge = telemetry.DEPLOYMENT_DRIFTS
                gauge.labels(deployment.tenant, deployment.task, deployment.candidate_id).set(len(changed))
            for drift in changed:
                if drift.measure not in known.get(deployment.deployment_id, ()):
                    telemetry.log().warning(
                        "changed since it went live",
                        task=deployment.task_key,
                        candidate=deployment.candidate_id,
                        measure=drift.measure,
                        before=drift.before,
                        after=drift.after,
                    )

    def _rollout_of(self, task: str) -> Rollout:
        return self._state.bundle.rollout_of(task) if self._state.bundle is not None else Rollout()

    def _wanted(self) -> Wanted:
        awake = {key: each for key, each in self._deployments().items() if not self.is_idle(each)}
        return Wanted(self._state.bundle, awake, self._open_trials())

    def _deployments(self) -> dict[str, Deployment]:
        """The newest deployment of each task, those included that have not come back from the topic yet."""
        ahead = {key: told for key, told in self._told.items() if told.deployment_id not in self._state.read}
        return {**self._state.deployments, **ahead}

    def _open_trials(self) -> list[Trial]:
        decided = self._state.were_live
        self._trials = {key: trial for key, trial in self._trials.items() if trial.candidate_id not in decided}
        return list(self._trials.values())

    @asynccontextmanager
    async def _telling(self, deployment: Deployment) -> AsyncIterator[None]:
        """Within it a deployment is told; it is not in force where that fails."""
        self._told[deployment.task_key] = deployment
        try:
            yield
        except Retryable:
            del self._told[deployment.task_key]
            raise

    async def _current(self, key: str, wanted_id: str = "") -> Deployment | None:
        """Return what the topic says of a task, once it says what was decided here last.

        Raises:
            FailedPrecondition: It is not the one that is wanted.
            Retryable: It does not in time.
        """
        told = self._told.get(key)
        if told is not None:
            try:
                async with asyncio.timeout(READ_BACK_SECONDS):
                    await self._state.until_read(told)
            except TimeoutError as error:
                raise Retryable(f"{key}: the deployment before has not come back from {Topic.DEPLOYMENTS}") from error
            finally:
                self._told.pop(key, None)  # when it did not come back, the topic without it is what counts
        current = self._state.deployments.get(key)
        if wanted_id and (current is None or current.deployment_id != wanted_id):
            raise FailedPrecondition(f"{key}: deployment {wanted_id} is not live any more")
        return current

    async def _let_go(self, key: str, candidate_id: str) -> None:
        trial = self._trials.get(key)
        if trial is not None and trial.candidate_id == candidate_id:
            del self._trials[key]
            async with self._placement.arranging:
                await self._placement.arrange()
            telemetry.log().info("refused", task=key, candidate=candidate_id)

    async def _placed_again(self, current: Deployment | None) -> dict[str, Placed]:
        """Return where those are that a rollback can go back to."""
        ids = () if current is None else current.previous
        known = [self._state.candidates[each] for each in ids if each in self._state.candidates]
        async with self._placement.arranging:
            return await self._placement.write_again(known)
