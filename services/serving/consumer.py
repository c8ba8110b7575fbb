"""Serving's loops: what it follows, what it transforms, and how it keeps Triton."""

import asyncio

from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Rejected, Retryable
from services.runtime.kafka import Follower, Transformer
from services.runtime.settings import KafkaSettings
from services.serving.handlers import Serving
from services.serving.state import DesiredState


def follower(settings: KafkaSettings, state: DesiredState) -> Follower:
    """Return what keeps the desired state up to date."""
    return Follower(
        settings,
        {
            Topic.BUNDLES: state.take_bundle,
            Topic.CANDIDATES: state.take_candidate,
            Topic.DEPLOYMENTS: state.take_deployment,
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
