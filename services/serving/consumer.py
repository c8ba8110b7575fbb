"""Serving's loops: what it follows, what it transforms, and how it keeps Triton."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from schemas.events import Deployment, Interaction
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, Rejected, Retryable
from services.runtime.kafka import Follower, Transformer, offsets_since, until_answered
from services.runtime.settings import KafkaSettings
from services.serving.handlers import Serving
from services.serving.idleness import Idleness
from services.serving.state import DesiredState
from services.serving.watches import Finding, Watches

# Between two looks at what the watches have found.
LOOK_SECONDS = 1.0


def follower(settings: KafkaSettings, state: DesiredState, watches: Watches) -> Follower:
    """Return what keeps the desired state up to date."""

    def take_deployment(deployment: Deployment) -> None:
        state.take_deployment(deployment)
        watches.take_deployment(deployment)

    return Follower(
        settings,
        {
            Topic.BUNDLES: state.take_bundle,
            Topic.CANDIDATES: state.take_candidate,
            Topic.DEPLOYMENTS: take_deployment,
            Topic.DRIFT: state.take_drift,
        },
        name="serving",
    )


def transformer(settings: KafkaSettings, serving: Serving, clock: Clock) -> Transformer:
    """Return what turns candidates into deployments."""
    # One at a time: a decision waits for the one before to come back from its topic, so that must be committed.
    return Transformer(settings, "serving", {Topic.CANDIDATES: serving.decide}, clock, batch_records=1)


class Reconciler:
    """Looks at Triton again and again: what was killed, lost or changed comes back to the desired state."""

    def __init__(self, serving: Serving, every_seconds: float) -> None:
        self._serving = serving
        self._every_seconds = every_seconds
        self._once = asyncio.Event()

    async def ready(self) -> None:
        """Wait until Triton has been at the desired state once."""
        await self._once.wait()

    async def run(self) -> None:
        """Reconcile until cancelled."""
        while True:
            try:
                await self._serving.reconcile()
                self._once.set()
            except (Retryable, Rejected) as error:
                telemetry.log().error("Triton is not at the desired state", error=str(error))
            await asyncio.sleep(self._every_seconds)


class Watcher:
    """Follows the traffic of specialists that went live of late: bad ones are rolled back, good ones widened."""

    def __init__(
        self,
        settings: KafkaSettings,
        watches: Watches,
        idleness: Idleness,
        serving: Serving,
        state_is_known: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._watches = watches
        self._serving = serving
        self._state_is_known = state_is_known
        self._clock = clock

        def take_interaction(interaction: Interaction) -> None:
            watches.take_interaction(interaction)
            idleness.take_interaction(interaction)

        self._applied: dict[Topic, Callable[[Any], None]] = {
            Topic.INTERACTIONS: take_interaction,
            Topic.SHADOWS: watches.take_shadow,
            Topic.FEEDBACK: watches.take_feedback,
        }
        self._traffic = Follower(settings, self._applied, name="serving-watches")

    async def follow(self) -> None:
        """Read, until cancelled, from before the oldest deployment that is watched."""
        await self._state_is_known()
        since = self._watches.read_from(self._clock.now())
        await self._traffic.run(
            await until_answered("Kafka", lambda: offsets_since(self._settings, [*self._applied], since))
        )

    async def run(self) -> None:
        """Act on what is found, until cancelled."""
        await self._traffic.caught_up()  # before, what was said of an answer may not have been read yet
        while True:
            for finding in self._watches.look(self._clock.now()):
                await self._act(finding)
            await asyncio.sleep(LOOK_SECONDS)

    async def _act(self, finding: Finding) -> None:
        deployment = finding.deployment
        try:
            if finding.alarm is not None:
                reason = f"rolled back by itself: {finding.alarm}"
                await self._serving.roll_back(deployment.tenant, deployment.task, reason, deployment.deployment_id)
            else:
                await self._serving.widen(deployment, finding.answers)
        except (FailedPrecondition, Retryable) as error:
            telemetry.log().warning("not done yet", task=deployment.task_key, error=str(error))
