"""Wires the triage service."""

import secrets
from contextlib import AsyncExitStack

from gyre.api.triage.v1 import review_pb2_grpc
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.runtime.kafka import Follower, Producer
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import ClickHouseSettings, KafkaSettings
from services.triage.adapters import KafkaLabels
from services.triage.console import Console
from services.triage.consumer import Triage
from services.triage.desk import Desk
from services.triage.domain.leases import Signer
from services.triage.domain.queue import Queue
from services.triage.neighbours import Neighbours
from services.triage.servicer import Review
from services.triage.settings import Settings
from services.triage.state import FollowedBundles, FollowedDrift


async def build(stack: AsyncExitStack) -> Service:
    """Open what triage needs on the stack, and return the service."""
    settings, kafka, clock = Settings(), KafkaSettings(), Clock()
    producer = await stack.enter_async_context(Producer(kafka))
    bundles, drift = FollowedBundles(), FollowedDrift(settings.drift_hours, settings.drift_exploration)
    follower = Follower(kafka, {Topic.BUNDLES: bundles.apply, Topic.DRIFT: drift.apply}, name="triage-state")
    queue = Queue()
    triage = Triage(settings, kafka, bundles, drift, queue, producer, clock)
    desk = Desk(
        queue=queue,
        tables=triage,
        labels=KafkaLabels(producer),
        bundles=bundles,
        signer=Signer(_secret(settings)),
        lease_seconds=settings.lease_seconds,
        clock=clock,
    )
    record = ClickHouse(ClickHouseSettings())
    stack.push_async_callback(record.close)
    embedder = Embedder(settings.models_dir)
    neighbours = Neighbours(embedder.embed, embedder.dimensions, settings.neighbours, settings.neighbour_likeness)
    labelled = Follower(
        kafka,
        {Topic.LABELS: neighbours.take_label, Topic.ERASURES: neighbours.take_erasure},
        name="triage-neighbours",
    )
    await stack.enter_async_context(Console(settings, desk, neighbours, record))

    async def ready() -> None:
        # Without a bundle nobody is asked anything; calls say so.
        await follower.caught_up()
        if bundles.published.is_set():
            await triage.ready()

    return Service(
        name="triage",
        settings=settings,
        servicers=[
            Registration(review_pb2_grpc.add_ReviewServicer_to_server, Review(desk), "gyre.api.triage.v1.Review")
        ],
        loops=[follower.run, triage.run, labelled.run],
        ready=[ready],
    )


def _secret(settings: Settings) -> bytes:
    secret = settings.lease_secret.get_secret_value()
    if not secret:
        telemetry.log().warning("no GYRE_TRIAGE_LEASE_SECRET: leases end with this process")
        return secrets.token_bytes(32)
    return secret.encode()
