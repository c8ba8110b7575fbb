"""The use cases of serving: trial, promotion, rollback, export, and keeping Triton at the desired state."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

from schemas.bundle import TRITON
from schemas.events import Candidate, Deployment
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Rejected, Retryable
from services.runtime.kafka import Outgoing
from services.serving.domain import (
    Placed,
    Trial,
    promoted,
    rolled_back,
    specialist_model,
    task_key,
    wanted_versions,
)
from services.serving.ports import Announcer, Exporter, ModelServer, Repository
from services.serving.state import DesiredState

# A version that fails this often in a row is unloaded and loaded anew: Triton calls one ready whose process was killed.
FAILURES_BEFORE_RELOAD = 2
# A version that Triton refused to load is tried again after this time.
REFUSED_SECONDS = 60.0
# In which a deployment that was told must come back from its topic.
READ_BACK_SECONDS = 10.0


@dataclass(frozen=True)
class _Refusal:
    reason: str
    until: float  # by the monotonic clock


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
        clock: Clock,
    ) -> None:
        self._state = state
        self._state_is_known = state_is_known
        self._server = server
        self._repository = repository
        self._announcer = announcer
        self._exporter = exporter
        self._clock = clock
        self._trials: dict[str, Trial] = {}  # by task: a new one takes the place of the one before
        self._told: dict[str, Deployment] = {}  # by task: decided here, and perhaps not read back yet
        self._health: dict[Placed, str] = {}  # empty: it answered; else what it complained of
        self._failures: Counter[Placed] = Counter()  # in a row
        self._refused: dict[Placed, _Refusal] = {}  # by Triton
        self._drifted: dict[str, set[str]] = {}  # by deployment: measures of which the log says that they changed
        self._complaints: dict[str, str] = {}  # of what could not be written, by model or candidate
        self._deciding = asyncio.Lock()
        self._arranging = asyncio.Lock()  # the repository and what Triton has loaded
        self._exporting = asyncio.Lock()

    async def try_out(self, tenant: str, task: str, candidate_id: str, adapter_path: str) -> Placed:
        """Load a candidate beside what is live, and return where it answers.

        Raises:
            Rejected: There is no such adapter, or it cannot be loaded.
            Retryable: Triton does not answer.
        """
        await self._state_is_known()
        key, model = task_key(tenant, task), specialist_model(tenant, task)
        async with self._arranging:
            # First what is deployed, which has its version's number already.
            await asyncio.to_thread(self._place)
            placed = await asyncio.to_thread(self._repository.write_specialist, model, candidate_id, adapter_path)
            self._refused.pop(placed, None)
            self._trials[key] = Trial(tenant, task, candidate_id, placed)
            await self._arrange()
            refusal = self._refused.get(placed)
            if refusal is not None:
                del self._trials[key]
                raise Rejected(f"candidate {candidate_id} cannot be loaded: {refusal.reason}")
        await self._check(placed)
        if self._health[placed]:
            raise Retryable(f"candidate {candidate_id} does not answer: {self._health[placed]}")
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
            live = promoted(candidate, placed, current, self._clock.new_id(), self._clock.now())
            self._told[key] = live
        telemetry.log().info("promoted", task=key, candidate=candidate.candidate_id, version=placed.version)
        return [Outgoing(Topic.DEPLOYMENTS, live)]

    async def roll_back(self, tenant: str, task: str, reason: str) -> Deployment:
        """Go back to the newest that was live before and can be loaded, and return what is live then.

        Raises:
            FailedPrecondition: No specialist is live.
            Retryable: Triton or Kafka does not answer.
        """
        await self._state_is_known()
        key = task_key(tenant, task)
        async with self._deciding:
            current = await self._current(key)
            while True:
                placed = await self._placed_again(current)
                deployment = rolled_back(
                    current, self._state.candidates, placed, self._clock.new_id(), self._clock.now(), reason
                )
                self._told[key] = deployment
                try:
                    # The one that is left stays loaded until the topic has told everybody.
                    async with self._arranging:
                        await self._arrange(also=[] if current is None else [current])
                    if placed.get(deployment.candidate_id) in self._refused:
                        continue
                    await self._announcer.deployment(deployment)
                except Retryable:
                    del self._told[key]
                    raise
                break
        telemetry.log().warning("rolled back", task=key, to=deployment.candidate_id, reason=reason)
        return deployment

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
        placed = self._repository.placed()
        found: list[tuple[Deployment | Trial, str]] = []
        for deployment in self._deployments().values():
            id_ = deployment.candidate_id
            complaint = self._complaint(placed.get(id_), id_) if deployment.state == "live" else ""
            found.append((deployment, complaint))
        found += [(trial, self._complaint(trial.placed, trial.candidate_id)) for trial in self._open_trials()]
        return found

    async def reconcile(self) -> None:
        """Bring Triton to the desired state: write, load and unload what differs, then ask every version.

        What cannot be written or loaded is logged and tried again; it keeps nothing else from being served.

        Raises:
            Retryable: Triton does not answer.
        """
        await self._state_is_known()  # what is not known to be wanted would be unloaded
        async with self._arranging:
            wanted = await self._arrange()
        for gone in self._health.keys() - wanted:
            del self._health[gone]
            del self._failures[gone]
        await asyncio.gather(*(self._check(placed) for placed in wanted))
        self._count_drift()

    def _count_drift(self) -> None:
        """Count against each live specialist what changed soon after it went live; nobody is rolled back for it yet."""
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

    def _deployments(self) -> dict[str, Deployment]:
        """The newest deployment of each task, those included that have not come back from the topic yet."""
        ahead = {key: told for key, told in self._told.items() if told.deployment_id not in self._state.read}
        return {**self._state.deployments, **ahead}

    def _open_trials(self) -> list[Trial]:
        decided = self._state.were_live
        self._trials = {key: trial for key, trial in self._trials.items() if trial.candidate_id not in decided}
        return list(self._trials.values())

    async def _current(self, key: str) -> Deployment | None:
        """Return what the topic says of a task, once it says what was decided here last.

        Raises:
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
        return self._state.deployments.get(key)

    async def _let_go(self, key: str, candidate_id: str) -> None:
        trial = self._trials.get(key)
        if trial is not None and trial.candidate_id == candidate_id:
            del self._trials[key]
            async with self._arranging:
                await self._arrange()
            telemetry.log().info("refused", task=key, candidate=candidate_id)

    async def _placed_again(self, current: Deployment | None) -> dict[str, Placed]:
        """Return where those are that a rollback can go back to, written anew where they are not in the repository."""
        found = {}
        async with self._arranging:
            for candidate_id in () if current is None else current.previous:
                candidate = self._state.candidates.get(candidate_id)
                if candidate is None:
                    continue
                model = specialist_model(candidate.tenant, candidate.task)
                try:
                    place = await asyncio.to_thread(
                        self._repository.write_specialist, model, candidate_id, candidate.adapter_path
                    )
                except Rejected as error:
                    self._complain(candidate_id, str(error))
                    continue
                if place not in self._refused:
                    found[candidate_id] = place
        return found

    async def _arrange(self, also: Iterable[Deployment] = ()) -> set[Placed]:
        """Write, load and unload what differs from the desired state, and `also`; return what should be loaded."""
        generic, placed = await asyncio.to_thread(self._place)
        deployments = [*self._deployments().values(), *also]
        wanted = wanted_versions(generic, deployments, placed, self._open_trials())
        loaded = dict(await self._server.loaded())
        for model in {place.model for place, count in self._failures.items() if count >= FAILURES_BEFORE_RELOAD}:
            if model in loaded:
                telemetry.log().error("reloading", model=model)
                await self._unload(model)
                del loaded[model]
            self._failures = Counter({place: n for place, n in self._failures.items() if place.model != model})
        now = self._clock.monotonic()
        for model, versions in wanted.items():
            have = loaded.get(model, frozenset())
            usable = frozenset(v for v in versions if not self._is_refused(Placed(model, v), now))
            if usable and usable != have:
                await self._load(model, usable, have & usable)
        named = (
            {model.served_as for model in self._state.bundle.models.values() if model.upstream == TRITON}
            if self._state.bundle
            else set()
        )
        # What others loaded is theirs.
        for model in (loaded.keys() & self._repository.models()) - wanted.keys() - named:
            await self._unload(model)
        return {Placed(model, version) for model, versions in wanted.items() for version in versions}

    def _place(self) -> tuple[list[Placed], dict[str, Placed]]:
        """Write what is wanted and not in the repository: after a loss of it, or on a new machine.

        Returns:
            Where the bundle's models are, and where each candidate is, by id.
        """
        generic = []
        for model in self._state.bundle.models.values() if self._state.bundle is not None else ():
            if model.weights:
                try:
                    generic.append(self._repository.write_generic(model.served_as, model.weights))
                    self._complain(model.served_as, "")
                except Rejected as error:
                    self._complain(model.served_as, str(error))
        placed = dict(self._repository.placed())
        for deployment in self._deployments().values():
            if deployment.state != "live" or deployment.candidate_id in placed:
                continue
            try:
                # Under its number: that is what requests ask for.
                version = int(deployment.model_version) if deployment.model_version.isdecimal() else None
                placed[deployment.candidate_id] = self._repository.write_specialist(
                    deployment.model, deployment.candidate_id, deployment.adapter_path, version
                )
                self._complain(deployment.candidate_id, "")
            except Rejected as error:
                self._complain(deployment.candidate_id, str(error))
        return generic, placed

    async def _load(self, model: str, versions: frozenset[int], have: frozenset[int]) -> None:
        """Load versions of a model; where Triton refuses, those of them that it takes, beside those that it has."""
        if await self._loads(model, versions) is None:
            return
        good = have
        for version in sorted(versions - have):
            reason = await self._loads(model, good | {version})
            if reason is None:
                good |= {version}
            else:
                until = self._clock.monotonic() + REFUSED_SECONDS
                self._refused[Placed(model, version)] = _Refusal(reason, until)
        if good:
            self._repository.choose(model, good)

    async def _loads(self, model: str, versions: frozenset[int]) -> str | None:
        """Load versions of a model, all or none; return why Triton refuses, if it does."""
        started = self._clock.monotonic()
        self._repository.choose(model, versions)
        try:
            await self._server.load(model)
        except Rejected as error:
            telemetry.log().error("not loaded", model=model, versions=sorted(versions), error=str(error))
            return str(error)
        except Retryable as error:  # it may come yet: the next look will tell
            telemetry.log().error("not loaded in time", model=model, versions=sorted(versions), error=str(error))
            return None
        seconds = round(self._clock.monotonic() - started, 2)
        telemetry.log().info("loaded", model=model, versions=sorted(versions), seconds=seconds)
        return None

    async def _unload(self, model: str) -> None:
        try:
            await self._server.unload(model)
        except (Rejected, Retryable) as error:
            telemetry.log().error("not unloaded", model=model, error=str(error))

    def _is_refused(self, placed: Placed, now: float) -> bool:
        refusal = self._refused.get(placed)
        if refusal is not None and refusal.until <= now:
            del self._refused[placed]
            refusal = None
        return refusal is not None

    async def _check(self, placed: Placed) -> None:
        refusal = self._refused.get(placed)
        if refusal is not None:
            self._health[placed] = refusal.reason
            return
        try:
            await self._server.check(placed.model, placed.version)
        except Retryable as error:
            self._failures[placed] += 1
            self._health[placed] = str(error)
            telemetry.log().error("does not answer", model=placed.model, version=placed.version, error=str(error))
        else:
            del self._failures[placed]
            self._health[placed] = ""

    def _complaint(self, placed: Placed | None, candidate_id: str) -> str:
        if placed is None:
            return self._complaints.get(candidate_id) or "it is not in the model repository"
        return self._health.get(placed, "not checked yet")

    def _complain(self, about: str, complaint: str) -> None:
        """Remember what keeps something from being written, and log it when it changes."""
        if complaint and complaint != self._complaints.get(about):
            telemetry.log().error("not written", what=about, error=complaint)
        self._complaints[about] = complaint
