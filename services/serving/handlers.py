"""The use cases of serving: trial, promotion, rollback, export, and keeping Triton at the desired state."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Candidate, Deployment
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import NotFound, Rejected, Retryable
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


@dataclass
class DesiredState:
    """What the topics say: the bundle, every candidate, and the newest deployment of each task."""

    bundle: Bundle | None = None
    candidates: dict[str, Candidate] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)

    def take_bundle(self, published: BundlePublished) -> None:
        """Put a bundle in force."""
        try:
            self.bundle = Bundle.model_validate_json(published.content)
        except ValueError as error:
            raise Rejected(f"bundle {published.version} cannot be used") from error

    def take_candidate(self, candidate: Candidate) -> None:
        """Remember a candidate, for rollbacks and exports."""
        self.candidates[candidate.candidate_id] = candidate

    def take_deployment(self, deployment: Deployment) -> None:
        """Put a deployment in force."""
        self.deployments[deployment.task_key] = deployment


class Serving:
    """Keeps one Triton at the desired state, and changes that state."""

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
        self._health: dict[Placed, str] = {}  # empty: it answered; else what it complained of
        self._one_at_a_time = asyncio.Lock()

    async def try_out(self, tenant: str, task: str, candidate_id: str, adapter_path: str) -> Placed:
        """Load a candidate beside what is live, and return where it answers.

        Raises:
            Rejected: There is no such adapter, or it cannot be loaded.
            Retryable: Triton does not answer.
        """
        model = specialist_model(tenant, task)
        placed = await asyncio.to_thread(self._repository.write_specialist, model, candidate_id, adapter_path)
        self._trials[task_key(tenant, task)] = Trial(tenant, task, candidate_id, placed)
        await self.reconcile()
        complaint = self._health.get(placed, "it is not loaded")
        if complaint:
            raise Retryable(f"candidate {candidate_id} does not answer in Triton: {complaint}")
        return placed

    async def decide(self, candidate: Candidate) -> Sequence[Outgoing]:
        """Make a promoted candidate live once it answers; let a refused one go.

        Raises:
            Rejected: There is no such adapter.
            Retryable: It does not answer yet.
        """
        await self._state_is_known()
        key = task_key(candidate.tenant, candidate.task)
        trial = self._trials.get(key)
        mine = trial is not None and trial.candidate_id == candidate.candidate_id
        if candidate.verdict != "promote":
            if mine:
                del self._trials[key]
                await self.reconcile()
            return []
        current = self._state.deployments.get(key)
        if current is not None and current.candidate_id == candidate.candidate_id:
            return []  # a repeat
        placed = await self.try_out(candidate.tenant, candidate.task, candidate.candidate_id, candidate.adapter_path)
        live = promoted(candidate, placed, current, self._clock.new_id(), self._clock.now())
        telemetry.log().info("promoted", task=key, candidate=candidate.candidate_id, version=placed.version)
        return [Outgoing(Topic.DEPLOYMENTS, live)]

    async def roll_back(self, tenant: str, task: str, reason: str) -> Deployment:
        """Go back to what was live before, and return what is live then.

        Raises:
            FailedPrecondition: No specialist is live.
        """
        deployment = rolled_back(
            self._state.deployments.get(task_key(tenant, task)),
            self._state.candidates,
            self._repository.placed(),
            self._clock.new_id(),
            self._clock.now(),
            reason,
        )
        await self._announcer.deployment(deployment)
        telemetry.log().warning("rolled back", task=deployment.task_key, to=deployment.candidate_id, reason=reason)
        return deployment

    async def export(self, tenant: str, task: str) -> tuple[str, list[str]]:
        """Write what is live for a task as a folder; return its name and those of its files.

        Raises:
            NotFound: No specialist is live.
        """
        deployment = self._state.deployments.get(task_key(tenant, task))
        if deployment is None or deployment.candidate_id not in self._state.candidates:
            raise NotFound(f"no specialist is live for {task_key(tenant, task)}")
        candidate = self._state.candidates[deployment.candidate_id]
        folder, files = await asyncio.to_thread(self._exporter.export, candidate, deployment)
        return str(folder), files

    def status(self) -> list[tuple[Deployment | Trial, str]]:
        """Return what is deployed and on trial, each with what its last check complained of (empty: it answers)."""
        found: list[tuple[Deployment | Trial, str]] = []
        for deployment in self._state.deployments.values():
            place = self._repository.placed().get(deployment.candidate_id)
            complaint = self._health.get(place, "not checked yet") if place else ""
            found.append((deployment, complaint))
        live = {deployment.candidate_id for deployment in self._state.deployments.values()}
        for trial in self._trials.values():
            if trial.candidate_id not in live:
                found.append((trial, self._health.get(trial.placed, "not checked yet")))
        return found

    async def reconcile(self) -> None:
        """Bring Triton to the desired state: write, load and unload what differs, then ask every version.

        What cannot be loaded is logged and tried again the next time.

        Raises:
            Retryable: Triton does not answer.
        """
        await self._state_is_known()  # what is not known to be wanted would be unloaded
        async with self._one_at_a_time:
            placed = await asyncio.to_thread(self._place)
            wanted = wanted_versions(
                self._state.bundle, self._state.deployments.values(), placed, self._trials.values()
            )
            loaded = await self._server.loaded()
            for model, versions in wanted.items():
                if loaded.get(model, frozenset()) != versions:
                    await self._load(model, versions)
            for model in loaded.keys() - wanted.keys():
                await self._server.unload(model)
            self._health = {
                Placed(model, version): await self._complaint(model, version)
                for model, versions in wanted.items()
                for version in versions
            }

    def _place(self) -> dict[str, Placed]:
        """Write what is wanted and not in the repository: after a loss of it, or on a new machine."""
        if self._state.bundle is not None:
            for model in self._state.bundle.models.values():
                if model.weights:
                    self._repository.write_generic(model.triton_model, model.weights)
        placed = dict(self._repository.placed())
        for deployment in self._state.deployments.values():
            if deployment.state == "live" and deployment.candidate_id not in placed:
                placed[deployment.candidate_id] = self._repository.write_specialist(
                    deployment.model, deployment.candidate_id, deployment.adapter_path
                )
        return placed

    async def _load(self, model: str, versions: frozenset[int]) -> None:
        self._repository.choose(model, versions)
        telemetry.log().info("loading", model=model, versions=sorted(versions))
        try:
            await self._server.load(model)
        except Retryable as error:
            telemetry.log().error("not loaded", model=model, error=str(error))

    async def _complaint(self, model: str, version: int) -> str:
        try:
            await self._server.check(model, version)
        except Retryable as error:
            telemetry.log().error("does not answer", model=model, version=version, error=str(error))
            return str(error)
        return ""
