"""Wires serving."""

from contextlib import AsyncExitStack

from gyre.api.serving.v1.serving_pb2_grpc import add_ServingServicer_to_server
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import KafkaSettings, TlsSettings
from services.runtime.tls import tls_of
from services.serving.adapters import FolderRepository, KafkaAnnouncer, TritonServer
from services.serving.consumer import Reconciler, Watcher, follower, transformer
from services.serving.exporting import FolderExporter
from services.serving.handlers import Serving
from services.serving.idleness import Idleness
from services.serving.servicer import ServingServicer
from services.serving.settings import Settings
from services.serving.state import DesiredState
from services.serving.watches import Watches


async def build(stack: AsyncExitStack) -> Service:
    """Build the service. It serves once Triton has been brought to the desired state."""
    settings, kafka, clock = Settings(), KafkaSettings(), Clock()
    producer = await stack.enter_async_context(Producer(kafka))
    server = await stack.enter_async_context(
        TritonServer(settings.triton_url, settings.load_seconds, settings.parallel, tls_of(TlsSettings()))
    )
    repository = FolderRepository(
        settings.triton_repository,
        settings.models_dir,
        settings.artifacts_dir,
        settings.parallel,
        settings.context_tokens,
    )
    state = DesiredState()
    exporter = FolderExporter(settings.models_dir, settings.artifacts_dir, settings.parallel, settings.context_tokens)
    watches = Watches(state, clock.chance)
    following = follower(kafka, state, watches)
    idleness = Idleness(settings.idle_hours, clock.now)
    announcer = KafkaAnnouncer(producer)
    serving = Serving(state, following.caught_up, server, repository, announcer, exporter, idleness, clock)
    reconciler = Reconciler(serving, settings.reconcile_seconds)
    watcher = Watcher(kafka, watches, idleness, serving, following.caught_up, clock)
    return Service(
        name="serving",
        settings=settings,
        servicers=[
            Registration(add_ServingServicer_to_server, ServingServicer(serving), "gyre.api.serving.v1.Serving")
        ],
        loops=[
            following.run,
            reconciler.run,
            transformer(kafka, serving, clock).run,
            watcher.follow,
            watcher.run,
        ],
        ready=[reconciler.ready],
    )
