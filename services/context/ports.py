"""What context needs of the world."""

from collections.abc import Sequence
from typing import Protocol

from schemas.events import Document, Event, Sensitivity
from schemas.topics import Topic
from services.context.domain.passages import Passage


class Index(Protocol):
    """Documents that can be searched."""

    async def update(self, documents: Sequence[Document]) -> None:
        """Put documents in the place of those of the same key; those that are `deleted` go."""

    async def search(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[Passage]:
        """Return the passages of a tenant, none above a sensitivity, that fit a query, best first."""


class EventLog(Protocol):
    """Where events are written."""

    async def send(self, topic: Topic, event: Event) -> None:
        """Write an event; on return it is acknowledged.

        Raises:
            Retryable: It was not acknowledged in time.
        """
