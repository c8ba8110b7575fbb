"""Wires the router."""

from contextlib import AsyncExitStack

from gyre.api.router.v1 import router_pb2_grpc
from schemas.topics import Topic
from services.router.adapters import KafkaRecorder, RemoteContext, RemoteGovernance
from services.router.admission import Admission
from services.router.domain.limits import Ledger
from services.router.experience import Experience
from services.router.handlers import Patience, Router
from services.router.http import Http
from services.router.idempotency import Bounds, Idempotency
from services.router.servicer import RouterServicer
from services.router.settings import Settings
from services.router.state import Directory
from services.runtime import rpc
from services.runtime.clock import Clock
from services.runtime.embeddings import space_of
from services.runtime.exchange import ExchangeChannel
from services.runtime.kafka import Follower, Producer
from services.runtime.models import ModelServers
from services.runtime.service import Service
from services.runtime.settings import KafkaSettings, TlsSettings, UpstreamSettings
from services.runtime.tls import tls_of


async def build(stack: AsyncExitStack) -> Service:
    """Open what the router needs on the stack and return what its process runs."""
    settings, kafka, clock, tls = Settings(), KafkaSettings(), Clock(), tls_of(TlsSettings())
    producer = await stack.enter_async_context(Producer(kafka))
    governance = await stack.enter_async_context(ExchangeChannel(settings.governance_target, tls))
    context = await stack.enter_async_context(ExchangeChannel(settings.context_target, tls))
    models = await stack.enter_async_context(ModelServers(UpstreamSettings(), tls))
    ledger, recorder = Ledger(clock.new_id()), KafkaRecorder(producer)
    space = space_of(settings.models_dir)
    experience = Experience(space)
    directory = Directory(space, experience)
    follower = Follower(
        kafka,
        {
            Topic.BUNDLES: directory.take_bundle,
            Topic.DEPLOYMENTS: directory.take_deployment,
            Topic.USAGE: ledger.take,
            Topic.OUTCOMES: experience.take_outcome,
        },
        name="router",
    )
    router = Router(
        catalogue=directory.catalogue,
        governance=RemoteGovernance(governance),
        context=RemoteContext(context),
        models=models,
        recorder=recorder,
        admission=Admission(ledger, recorder, clock, settings.in_flight),
        experience=experience,
        clock=clock,
        patience=Patience(settings.governance_seconds, settings.context_seconds),
    )
    stack.push_async_callback(router.drain)
    idempotency = Idempotency(
        Bounds(settings.idempotency_seconds, settings.idempotency_entries, settings.idempotency_bytes)
    )
    http = Http(router, clock, idempotency)
    return Service(
        name="router",
        settings=settings,
        servicers=[
            rpc.Registration(
                router_pb2_grpc.add_RouterServicer_to_server,
                RouterServicer(router, clock, idempotency),
                "gyre.api.router.v1.Router",
            )
        ],
        loops=[follower.run],
        edges=[http.serving(settings.host, settings.http_port, settings.drain_seconds, tls)],
        ready=[follower.caught_up],
    )
