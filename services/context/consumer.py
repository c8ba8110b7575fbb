"""Context's Kafka edge: documents on their way into the index, conversations on theirs into memory."""

import asyncio
from datetime import timedelta

from schemas.events import BundlePublished, Document, Erasure, Interaction
from services.context.domain.memory import Memory, Rule
from services.context.ports import Index
from services.runtime.bundles import bundle_of
from services.runtime.clock import Clock

BATCH_DOCUMENTS = 256
DROP_SECONDS = 60.0


class Conversations:
    """Interactions on their way into memory, as the bundle in force allows it."""

    def __init__(self, memory: Memory, clock: Clock) -> None:
        self._memory = memory
        self._clock = clock

    def take_bundle(self, published: BundlePublished) -> None:
        """Put a bundle's rules in force.

        Raises:
            Rejected: It cannot be used; the one before it stays in force.
        """
        rules = {
            name: Rule(timedelta(hours=tenant.memory.hours), tenant.memory.sensitivity)
            for name, tenant in bundle_of(published).tenants.items()
        }
        self._memory.rule(rules, self._clock.now())

    def take(self, interaction: Interaction) -> None:
        """Take an interaction from the topic."""
        self._memory.remember(interaction, self._clock.now())

    def take_erasure(self, erasure: Erasure) -> None:
        """Take the word that a request is to be dropped wherever it is."""
        if erasure.is_whole:
            self._memory.erase(erasure.request_id)

    async def run(self) -> None:
        """Drop what has grown too old or was erased, until cancelled."""
        while True:
            await asyncio.sleep(DROP_SECONDS)
            self._memory.drop_old(self._clock.now())


class Documents:
    """Documents that were read from the topic and wait to be indexed; the newest of each key counts."""

    def __init__(self, index: Index, memory: Memory) -> None:
        self._index = index
        self._memory = memory
        self._waiting: dict[str, Document] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def take(self, document: Document) -> None:
        """Take a document from the topic, or the word that a conversation is forgotten."""
        if document.conversation_id:
            self._memory.forget(document.tenant, document.conversation_id, document.ingested_at)
            return
        self._waiting.pop(document.document_key, None)  # so that it is indexed in the order of the newest
        self._waiting[document.document_key] = document
        self._some.set()
        self._none.clear()

    async def run(self) -> None:
        """Index what waits, until cancelled."""
        while True:
            await self._some.wait()
            keys = list(self._waiting)[:BATCH_DOCUMENTS]
            await self._index.update([self._waiting.pop(key) for key in keys])
            if not self._waiting:
                self._some.clear()
                self._none.set()

    @property
    def are_indexed(self) -> bool:
        """Whether nothing waits and nothing is being indexed."""
        return self._none.is_set()

    async def indexed(self) -> None:
        """Wait until nothing waits."""
        await self._none.wait()
