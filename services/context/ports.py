"""What context needs of the world."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.events import Document, Event, Finding, Sensitivity
from schemas.topics import Topic
from services.context.domain.passages import Passage


@dataclass(frozen=True)
class IndexedDocument:
    """A document as it lies in the index.

    Attributes:
        document_key: Of the document.
        tenant: Whose it is.
        passages: Its parts, at least one, all of one sensitivity.
        vectors: Their embeddings one after the other, as 16-bit floats.
    """

    document_key: str
    tenant: str
    passages: tuple[Passage, ...]
    vectors: bytes


class Index(Protocol):
    """Documents that can be searched."""

    async def dump(self) -> list[IndexedDocument]:
        """Return all that is in it."""
        ...

    async def restore(self, documents: Sequence[IndexedDocument]) -> None:
        """Put what another index held into this one, which is empty."""

    async def update(self, documents: Sequence[Document]) -> None:
        """Put documents in the place of those of the same key; those that are `deleted` go."""

    async def search(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[Passage]:
        """Return the passages of a tenant, none above a sensitivity, that fit a query, best first."""


@dataclass(frozen=True)
class DocumentVerdict:
    """What governance says of a document.

    Attributes:
        is_refused: It may not be kept.
        title: As it may be kept.
        text: As it may be kept.
        sensitivity: What it is at least; None: nothing was found that says so.
        findings: What was found.
        bundle_version: Whose guardrails found it.
    """

    is_refused: bool
    title: str
    text: str
    sensitivity: Sensitivity | None
    findings: tuple[Finding, ...]
    bundle_version: str


class Governance(Protocol):
    """Verdicts on documents."""

    async def check_document(self, tenant: str, title: str, text: str) -> DocumentVerdict:
        """Return the verdict on a document.

        Raises:
            NotFound: The tenant is unknown.
            Retryable: There is none.
        """
        ...


class EventLog(Protocol):
    """Where events are written."""

    async def send(self, topic: Topic, event: Event) -> None:
        """Write an event; on return it is acknowledged.

        Raises:
            Retryable: It was not acknowledged in time.
        """
