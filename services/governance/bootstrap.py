"""Wires governance."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import cache
from pathlib import Path

from gyre.api.governance.v1.governance_pb2_grpc import add_GovernanceServicer_to_server
from schemas.topics import Topic
from services.governance.domain.topics import Background, Space
from services.governance.servicer import GovernanceServicer
from services.governance.settings import Settings
from services.governance.state import RulesInForce
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.runtime.kafka import Follower
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import KafkaSettings


def space_of(models_dir: Path) -> Callable[[], Space]:
    """Return what gives the space of texts when a bundle first wants it; only bundles with topics do."""
    return cache(lambda: Space(Embedder(models_dir).embed, Background.load()))


async def build(stack: AsyncExitStack) -> Service:
    """Build the service. It serves, which without a bundle means that it refuses, once it has read the topic."""
    settings = Settings()
    in_force = RulesInForce(space_of(settings.models_dir))
    follower = Follower(KafkaSettings(), {Topic.BUNDLES: in_force.take}, name="governance")
    servicer = GovernanceServicer(in_force, Clock())
    return Service(
        name="governance",
        settings=settings,
        servicers=[
            Registration(add_GovernanceServicer_to_server, servicer, "gyre.api.governance.v1.Governance"),
        ],
        loops=[follower.run],
        ready=[follower.caught_up],
    )
