"""Serving's ports, kept in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from schemas.bundle import Bundle, Learning, Rollout, load_bundle
from schemas.events import BundlePublished, Candidate, Deployment, GateAnswer, Sensitivity
from services.runtime.clock import Clock
from services.runtime.errors import Rejected, Retryable
from services.serving.domain.deployments import Placed
from services.serving.handlers import Serving
from services.serving.idleness import Idleness
from services.serving.state import DesiredState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TENANT, TASK = "care", "orders"
IDLE_HOURS = 48.0
KEY, MODEL = "care/orders", "specialist-care-orders"


class FakeRepository:
    """Model folders as dictionaries; `adapters` and `weights` are what there is to write from."""

    def __init__(self) -> None:
        self.weights = {"base.Q8_0.gguf"}
        self.adapters: set[str] = set()
        self.versions: dict[str, dict[int, str]] = {}  # candidate id or weights, by model and version
        self.chosen: dict[str, frozenset[int]] = {}

    def write_generic(self, model: str, weights: str) -> Placed:
        if weights not in self.weights:
            raise Rejected(f"models.{model}.weights: {weights!r} is no file in the models folder")
        written = self.versions.setdefault(model, {})
        version = max(written, default=0)
        if written.get(version) != weights:
            version += 1
            written[version] = weights
        return Placed(model, version)

    def write_specialist(self, model: str, candidate_id: str, adapter_path: str, version: int | None = None) -> Placed:
        known = self.placed().get(candidate_id)
        if known is not None:
            if known.model != model:
                raise Rejected(f"candidate_id: {candidate_id!r} is another task's")
            return known
        if adapter_path not in self.adapters:
            raise Rejected(f"adapter_path: there is no PEFT adapter in {adapter_path!r}")
        written = self.versions.setdefault(model, {})
        version = version or max(written, default=0) + 1
        if version in written:
            raise Rejected(f"version {version} is another candidate's")
        written[version] = candidate_id
        return Placed(model, version)

    def placed(self) -> Mapping[str, Placed]:
        return {
            what: Placed(model, version)
            for model, written in self.versions.items()
            for version, what in written.items()
            if what not in self.weights
        }

    def models(self) -> frozenset[str]:
        return frozenset(self.versions)

    def choose(self, model: str, versions: frozenset[int]) -> None:
        if missing := versions - self.versions[model].keys():
            raise FileNotFoundError(f"{model}: versions {sorted(missing)} do not exist")
        self.chosen[model] = versions


class FakeServer:
    """Loads all versions that are chosen or, where one of them cannot be, none; and can be made to fail."""

    def __init__(self, repository: FakeRepository) -> None:
        self._repository = repository
        self.models: dict[str, frozenset[int]] = {}
        self.unloadable: set[str] = set()  # candidate ids
        self.dead: set[Placed] = set()  # loaded, and answers nothing until loaded anew
        self.away = False
        self.loads: list[str] = []

    async def loaded(self) -> Mapping[str, frozenset[int]]:
        self._answer()
        return dict(self.models)

    async def load(self, model: str) -> None:
        self._answer()
        self.loads.append(model)
        written = self._repository.versions.get(model, {})
        chosen = self._repository.chosen.get(model)
        if chosen is None:
            raise Rejected(f"{model}: there is no such model")
        for version in chosen:
            if written[version] in self.unloadable:
                raise Rejected(f"{model}: version {version} cannot be loaded")
        if model not in self.models:
            self.dead = {place for place in self.dead if place.model != model}
        self.models[model] = chosen

    async def unload(self, model: str) -> None:
        self._answer()
        self.models.pop(model, None)

    async def check(self, model: str, version: int) -> None:
        self._answer()
        if version not in self.models.get(model, ()) or Placed(model, version) in self.dead:
            raise Retryable(f"{model} {version} does not answer")

    def _answer(self) -> None:
        if self.away:
            raise Retryable("Triton does not answer")


class FakeAnnouncer:
    """Tells the desired state at once, as the topic would a moment later, unless it is `lost` on the way."""

    def __init__(self, state: DesiredState) -> None:
        self._state = state
        self.told: list[Deployment] = []
        self.lost = False

    async def deployment(self, deployment: Deployment) -> None:
        if self.lost:
            raise Retryable("not acknowledged by Kafka")
        self.told.append(deployment)
        self._state.take_deployment(deployment)


class FakeExporter:
    """Names a folder."""

    def export(self, candidate: Candidate, deployment: Deployment) -> tuple[Path, list[str]]:
        return Path("exports") / candidate.candidate_id, ["manifest.json"]


class World:
    """Serving, and all that it needs."""

    def __init__(self) -> None:
        self.state = DesiredState()
        self.repository = FakeRepository()
        self.server = FakeServer(self.repository)
        self.announcer = FakeAnnouncer(self.state)
        self.seconds = 0.0
        self._ids: Iterator[str] = (f"id-{n:04}" for n in range(10_000))
        self.restart()

    def restart(self) -> None:
        """A new process: it knows what the topics say, and nothing else."""
        known = asyncio.Event()
        known.set()
        self.idleness = Idleness(IDLE_HOURS, self.now)
        clock = Clock(now=self.now, monotonic=lambda: self.seconds, new_id=lambda: next(self._ids))

        async def state_is_known() -> None:
            await known.wait()

        self.serving = Serving(
            self.state,
            state_is_known,
            self.server,
            self.repository,
            self.announcer,
            FakeExporter(),
            self.idleness,
            clock,
        )

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.seconds)

    def publish(self, bundle: Bundle) -> None:
        """Put a bundle in force."""
        content = bundle.model_dump_json()
        self.state.take_bundle(BundlePublished(version=bundle.version, published_at=NOW, content=content))

    def candidate(self, candidate_id: str, verdict: str = "promote") -> Candidate:
        """A candidate with an adapter, on record."""
        self.repository.adapters.add(f"{candidate_id}/adapter")
        candidate = Candidate(
            candidate_id=candidate_id,
            run_id="run",
            tenant=TENANT,
            task=TASK,
            created_at=NOW,
            verdict=verdict,
            reasons=("better", "no slower"),
            base_model="base",
            adapter_path=f"{candidate_id}/adapter",
            system_prompt="Answer.",
            dataset_id="dataset",
            holdout_request_ids=("h1", "h2", "h3", "h4"),
            incumbent="small",
            candidate_accuracy=0.75,
            incumbent_accuracy=0.25,
            candidate_answers=tuple(GateAnswer(right=right, sum_logprob=-1.0) for right in (True, True, True, False)),
            incumbent_answers=tuple(GateAnswer(right=right, sum_logprob=-4.0) for right in (True, False, False, False)),
            sensitivity=Sensitivity.CONFIDENTIAL,
            bundle_version="b1",
        )
        self.state.take_candidate(candidate)
        return candidate

    async def decide(self, candidate: Candidate) -> list[Deployment]:
        """Let serving decide, and commit what it says."""
        made = [outgoing.event for outgoing in await self.serving.decide(candidate)]
        deployments = [event for event in made if isinstance(event, Deployment)]
        assert len(deployments) == len(made)
        for deployment in deployments:
            self.state.take_deployment(deployment)
        return deployments

    async def promote(self, *candidate_ids: str) -> None:
        """Make candidates live, one after the other."""
        for candidate_id in candidate_ids:
            assert len(await self.decide(self.candidate(candidate_id))) == 1
        await self.serving.reconcile()

    @property
    def live(self) -> str:
        """The candidate that is live; empty: none."""
        return self.state.deployments[KEY].candidate_id

    @property
    def loaded(self) -> set[str]:
        """What is loaded: candidate ids and weights."""
        return {
            self.repository.versions[model][version]
            for model, versions in self.server.models.items()
            if model in self.repository.versions
            for version in versions
        }


def sample_bundle(rollout: Rollout | None = None, **weights: str) -> Bundle:
    """The sample bundle with other models, their weights by name, and a task whose specialists go live like that."""
    bundle = load_bundle(Path("deploy/bundle"))
    if rollout is not None:
        learning = Learning(labels_needed=1, rollout=rollout)
        task = bundle.tasks["consumer-services"].model_copy(update={"learning": learning})
        bundle = bundle.model_copy(update={"tasks": {**bundle.tasks, TASK: task}})
    small = bundle.models["small"]
    models = {name: small.model_copy(update={"served_as": name, "weights": each}) for name, each in weights.items()}
    return bundle.model_copy(update={"models": models})
