"""Wires context."""

from contextlib import AsyncExitStack

from gyre.api.context.v1.context_pb2_grpc import add_ContextServicer_to_server
from schemas.topics import Topic
from services.context.adapters import HybridIndex, RemoteGovernance, ThreadedIndex
from services.context.consumer import Conversations, Documents
from services.context.domain.memory import Memory
from services.context.servicer import ContextServicer
from services.context.settings import Settings
from services.context.snapshots import SnapshotFile, Snapshots
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.runtime.exchange import ExchangeChannel
from services.runtime.kafka import Follower, Producer
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import KafkaSettings, TlsSettings
from services.runtime.tls import tls_of


async def build(stack: AsyncExitStack) -> Service:
    """Build the service. It serves once everything that was in its topics at the start can be found."""
    settings, kafka = Settings(), KafkaSettings()
    embedder = Embedder(settings.models_dir)
    index = ThreadedIndex(
        HybridIndex(embedder, settings.passage_tokens, settings.candidates, settings.minimum_similarity)
    )
    stack.callback(index.close)
    memory = Memory(
        settings.memory_turns,
        settings.memory_condensed_turns,
        settings.memory_conversations,
        settings.memory_turn_tokens,
    )
    documents, conversations = Documents(index, memory), Conversations(memory, Clock())
    bundles = Follower(kafka, {Topic.BUNDLES: conversations.take_bundle}, name="context-bundles")
    follower = Follower(
        kafka,
        {
            Topic.DOCUMENTS: documents.take,
            Topic.INTERACTIONS: conversations.take,
            Topic.ERASURES: conversations.take_erasure,
        },
        name="context",
    )

    snapshots = settings.snapshot_dir and Snapshots(
        SnapshotFile(settings.snapshot_dir, fingerprint(settings, embedder.digest)),
        settings.snapshot_seconds,
        kafka,
        follower,
        index,
        memory,
        documents,
        Clock(),
    )

    async def follow() -> None:
        await bundles.caught_up()  # what may be remembered is to be known before what was said
        await follower.run(await snapshots.restore() if snapshots else None)

    producer = await stack.enter_async_context(Producer(kafka))
    channel = await stack.enter_async_context(ExchangeChannel(settings.governance_target, tls_of(TlsSettings())))
    governance = RemoteGovernance(channel, settings.governance_seconds)
    servicer = ContextServicer(index, memory, governance, producer, settings.memory_share, Clock())
    return Service(
        name="context",
        settings=settings,
        servicers=[Registration(add_ContextServicer_to_server, servicer, "gyre.api.context.v1.Context")],
        exchange_port=settings.exchange_port,
        loops=[bundles.run, follow, documents.run, conversations.run, *([snapshots.run] if snapshots else [])],
        ready=[follower.caught_up, documents.indexed],
    )


def fingerprint(settings: Settings, embeddings: str) -> str:
    """Return what tells apart snapshots that hold the same topics otherwise."""
    kept = settings.model_dump(
        include={"passage_tokens", "memory_turns", "memory_condensed_turns", "memory_turn_tokens"}
    )
    return f"{embeddings}-{kept}"
