"""Wires the triage service."""

import secrets
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from gyre.api.triage.v1 import review_pb2_grpc
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.embeddings import space_of
from services.runtime.kafka import Follower, Producer
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import ClickHouseSettings, KafkaSettings, TlsSettings
from services.runtime.tls import tls_of
from services.triage.adapters import ItemsOnDisk, KafkaActions, KafkaLabels
from services.triage.alike import Alike
from services.triage.backlog import Backlog
from services.triage.console import Console
from services.triage.consumer import Triage
from services.triage.desk import Desk
from services.triage.domain.leases import Signer
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import CALLBACK_PATH, Entrance
from services.triage.experience import Experience
from services.triage.identity import Identity
from services.triage.items import Items
from services.triage.oidc import Provider
from services.triage.rendering import Pages
from services.triage.servicer import Review
from services.triage.settings import Settings
from services.triage.state import FollowedAccounts, FollowedBundles, FollowedDrift


async def build(stack: AsyncExitStack) -> Service:
    """Open what triage needs on the stack, and return the service."""
    settings, kafka, clock = Settings(), KafkaSettings(), Clock()
    producer = await stack.enter_async_context(Producer(kafka))
    bundles, drift = FollowedBundles(), FollowedDrift(settings.drift_hours, settings.drift_exploration)
    space = space_of(settings.models_dir)()
    experience = Experience(space)
    alike = Alike(space.embed, len(space.background.mean), settings.neighbours, settings.neighbour_likeness)
    items = ItemsOnDisk(settings.data_dir / "items")
    stack.callback(items.close)
    backlog = Backlog(items, clock)
    triage = Triage(settings, kafka, bundles, drift, backlog, experience, producer, clock)
    actions = await stack.enter_async_context(KafkaActions(producer))
    desk = Desk(
        backlog=backlog,
        decided=triage,
        labels=KafkaLabels(producer),
        actions=actions,
        bundles=bundles,
        signer=Signer(_secret(settings.lease_secret, "GYRE_TRIAGE_LEASE_SECRET", "leases")),
        lease_seconds=settings.lease_seconds,
        clock=clock,
    )
    record = ClickHouse(ClickHouseSettings())
    stack.push_async_callback(record.close)
    session_secret = _secret(settings.session_secret, "GYRE_TRIAGE_SESSION_SECRET", "sessions")
    patience = Patience(timedelta(minutes=settings.session_idle_minutes), timedelta(hours=settings.session_hours))
    accounts = FollowedAccounts(settings.accounts) if settings.accounts is not None else None
    identity = Identity(
        accounts, Sessions(session_secret, patience), actions, settings.session_requests_per_minute, clock
    )
    follower = Follower(
        kafka,
        {
            Topic.BUNDLES: bundles.apply,
            Topic.DRIFT: drift.apply,
            Topic.EDGE_CASES: _each(experience.take_edge_case, backlog.take_edge_case),
            Topic.LABELS: _each(experience.take_label, backlog.take_label, alike.take_label),
            Topic.ERASURES: _each(experience.take_erasure, backlog.take_erasure, alike.take_erasure),
            Topic.ACTIONS: _each(backlog.take_action, identity.take_action),
        },
        name="triage-state",
    )
    pages = Pages()
    entrance = Entrance(settings, identity, pages, _provider(settings, session_secret))
    items_pages = Items(desk, alike, entrance, pages)
    console = Console(settings, items_pages, record, entrance, pages, tls_of(TlsSettings()))

    async def decide() -> None:
        await follower.caught_up()  # what experts have said before is known before anything is picked
        await triage.run()

    return Service(
        name="triage",
        settings=settings,
        servicers=[
            Registration(
                review_pb2_grpc.add_ReviewServicer_to_server, Review(desk, identity), "gyre.api.triage.v1.Review"
            )
        ],
        loops=[follower.run, decide, lambda: backlog.run(follower.caught_up()), identity.run],
        edges=[console.serving()],
        ready=[follower.caught_up],
    )


def _each(*takes: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return what gives an event to several."""

    def take(event: Any) -> None:
        for one in takes:
            one(event)

    return take


def _secret(secret: SecretStr, variable: str, what: str) -> bytes:
    if not secret.get_secret_value():
        telemetry.log().warning(f"no {variable}: {what} end with this process, and are none to other replicas")
        return secrets.token_bytes(32)
    return secret.get_secret_value().encode()


def _provider(settings: Settings, secret: bytes) -> Provider | None:
    if not settings.oidc_issuer:
        return None
    return Provider(
        settings.oidc_issuer,
        settings.oidc_client_id,
        settings.oidc_client_secret.get_secret_value(),
        f"{settings.console_url}{CALLBACK_PATH}",
        secret,
    )
