"""Wires governance."""

from contextlib import AsyncExitStack

from gyre.api.governance.v1.governance_pb2_grpc import add_GovernanceServicer_to_server
from schemas.topics import Topic
from services.governance.servicer import GovernanceServicer
from services.governance.settings import Settings
from services.governance.state import RulesInForce
from services.runtime.clock import Clock
from services.runtime.embeddings import space_of
from services.runtime.kafka import Follower
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import KafkaSettings


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
        exchange_port=settings.exchange_port,
        loops=[follower.run],
        ready=[follower.caught_up],
    )
