"""The desired state, as the topics tell it."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from schemas.bundle import Bundle
from schemas.events import BundlePublished, Candidate, Deployment, Drift
from services.runtime.bundles import bundle_of

# So long after it went live a deployment is watched, and a change counted against it.
WATCHED = timedelta(hours=24)


@dataclass
class DesiredState:
    """What the topics say: the bundle, every candidate, and the newest deployment of each task."""

    bundle: Bundle | None = None
    candidates: dict[str, Candidate] = field(default_factory=dict)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    # Ids of every deployment read, and of the candidates that were ever live.
    read: set[str] = field(default_factory=set)
    were_live: set[str] = field(default_factory=set)
    # What changed in a model's version in a task, as it was told.
    drifts: dict[tuple[str, str, str], list[Drift]] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def take_bundle(self, published: BundlePublished) -> None:
        """Put a bundle in force.

        Raises:
            Rejected: It cannot be used.
        """
        self.bundle = bundle_of(published)

    def take_candidate(self, candidate: Candidate) -> None:
        """Remember a candidate, for rollbacks and exports."""
        self.candidates[candidate.candidate_id] = candidate

    def take_deployment(self, deployment: Deployment) -> None:
        """Put a deployment in force."""
        self.deployments[deployment.task_key] = deployment
        self.read.add(deployment.deployment_id)
        self.were_live.update((*deployment.previous, *filter(None, [deployment.candidate_id])))
        self._changed.set()
        self._changed = asyncio.Event()

    def take_drift(self, drift: Drift) -> None:
        """Remember a change in what a model answers or what that takes; what others ask is not its doing."""
        if drift.model and drift.aspect in ("output", "service"):
            self.drifts.setdefault((drift.task_key, drift.model, drift.model_version), []).append(drift)

    def changed_since_live(self, deployment: Deployment) -> list[Drift]:
        """Return what changed in a live specialist soon after it went live: the first change of each measure."""
        if deployment.state != "live":
            return []
        first: dict[str, Drift] = {}
        for each in self.drifts.get((deployment.task_key, deployment.model, deployment.model_version), ()):
            if timedelta() <= each.detected_at - deployment.deployed_at < WATCHED:
                first.setdefault(each.measure, each)
        return [*first.values()]

    async def until_read(self, deployment: Deployment) -> None:
        """Wait until a deployment has come back from its topic."""
        while deployment.deployment_id not in self.read:
            await self._changed.wait()
