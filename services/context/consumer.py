"""Context's Kafka edge: documents on their way into the index."""

import asyncio

from schemas.events import Document
from services.context.domain.memory import Memory
from services.context.ports import Index

BATCH_DOCUMENTS = 256


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

    async def indexed(self) -> None:
        """Wait until nothing waits."""
        await self._none.wait()
