"""Stitch, ingest and forget."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from schemas.events import Document, Event, Finding, Sensitivity
from schemas.topics import Topic
from services.context import handlers
from services.context.consumer import Documents
from services.context.domain.memory import Memory
from services.context.domain.passages import Passage
from services.context.ports import DocumentVerdict, IndexedDocument
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, PermissionDenied, Retryable

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLOCK = Clock(now=lambda: NOON)


class RecordedLog:
    def __init__(self) -> None:
        self.sent: list[tuple[Topic, Event]] = []

    async def send(self, topic: Topic, event: Event) -> None:
        self.sent.append((topic, event))


class FakeGovernance:
    """Finds mail addresses, and says what it is told to."""

    def __init__(self, action: str = "flag", sensitivity: Sensitivity | None = None) -> None:
        self.action, self.sensitivity = action, sensitivity

    async def check_document(self, tenant: str, title: str, text: str) -> DocumentVerdict:
        if self.action == "silent":
            raise Retryable("governance is away")
        found = (Finding(direction="document", kind="email", action=self.action, text_index=1, start=0, end=4),)
        findings = found if "@" in text else ()
        masked = text.replace("jo@x.com", "<EMAIL_1>") if self.action == "mask" else text
        return DocumentVerdict(
            self.action == "refuse" and bool(findings), title, masked, self.sensitivity, findings, "b1"
        )


class RecordedIndex:
    def __init__(self) -> None:
        self.updates: list[list[str]] = []
        self.searches = 0

    async def update(self, documents: Sequence[Document]) -> None:
        self.updates.append([document.text for document in documents])

    async def dump(self) -> list[IndexedDocument]:
        return []

    async def restore(self, documents: Sequence[IndexedDocument]) -> None:
        raise AssertionError

    async def search(self, query: str, tenant: str, max_sensitivity: Sensitivity) -> list[Passage]:
        self.searches += 1
        return [Passage("a", "", "text", Sensitivity.PUBLIC, 10)]


def document(name: str, text: str) -> Document:
    return Document(
        document_key=f"t/{name}",
        tenant="t",
        document_id=name,
        text=text,
        sensitivity=Sensitivity.PUBLIC,
        ingested_at=NOON,
    )


async def test_without_a_budget_nothing_is_looked_for() -> None:
    index = RecordedIndex()
    request = handlers.Request("t", "query", "", 0, Sensitivity.PUBLIC)
    assert (await handlers.stitch(request, index, Memory(1, 0, 1, 1), 0.5, CLOCK)).tokens == 0
    assert index.searches == 0


async def test_an_ingested_document_is_written_to_its_topic() -> None:
    log = RecordedLog()
    await handlers.ingest("t", "d/1", "Title", "Text", Sensitivity.INTERNAL, "wiki", FakeGovernance(), log, CLOCK)
    expected = Document(
        document_key="t/d/1",
        tenant="t",
        document_id="d/1",
        title="Title",
        text="Text",
        sensitivity=Sensitivity.INTERNAL,
        source="wiki",
        ingested_at=NOON,
        bundle_version="b1",
    )
    assert log.sent == [(Topic.DOCUMENTS, expected)]


async def test_a_document_is_written_as_governance_lets_it_be_kept() -> None:
    log, governance = RecordedLog(), FakeGovernance("mask", Sensitivity.CONFIDENTIAL)
    await handlers.ingest("t", "d", "", "jo@x.com writes", Sensitivity.PUBLIC, "", governance, log, CLOCK)
    await handlers.ingest("t", "e", "", "nobody writes", Sensitivity.RESTRICTED, "", governance, log, CLOCK)
    (_, masked), (_, other) = log.sent
    assert isinstance(masked, Document)
    assert isinstance(other, Document)
    assert (masked.text, masked.sensitivity) == ("<EMAIL_1> writes", Sensitivity.CONFIDENTIAL)
    assert [finding.kind for finding in masked.findings] == ["email"]
    assert other.sensitivity is Sensitivity.RESTRICTED


@pytest.mark.parametrize(("action", "error"), [("refuse", PermissionDenied), ("silent", Retryable)])
async def test_a_document_without_a_verdict_that_lets_it_is_not_written(action: str, error: type[Exception]) -> None:
    log = RecordedLog()
    with pytest.raises(error):
        await handlers.ingest("t", "d", "", "jo@x.com", Sensitivity.PUBLIC, "", FakeGovernance(action), log, CLOCK)
    assert log.sent == []


async def test_a_forgotten_document_is_written_again_empty() -> None:
    log = RecordedLog()
    await handlers.forget_document("t", "d", log, CLOCK)
    ((_, event),) = log.sent
    assert isinstance(event, Document)
    assert (event.document_key, event.text, event.deleted) == ("t/d", "", True)


async def test_one_tenant_cannot_write_over_anothers_document() -> None:
    log = RecordedLog()
    with pytest.raises(InvalidArgument, match="tenant: must be"):
        await handlers.ingest("t/d", "1", "", "Text", Sensitivity.PUBLIC, "", FakeGovernance(), log, CLOCK)
    with pytest.raises(InvalidArgument, match="tenant: must be"):
        await handlers.forget_document("t/d", "1", log, CLOCK)
    assert log.sent == []


async def test_a_blank_document_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="text: must hold more than white space"):
        await handlers.ingest("t", "d", "", " \n ", Sensitivity.PUBLIC, "", FakeGovernance(), RecordedLog(), CLOCK)


async def test_documents_that_wait_are_indexed_together_and_the_newest_of_each_counts() -> None:
    index = RecordedIndex()
    documents = Documents(index, Memory(1, 0, 1, 1))
    await documents.indexed()
    for each in (document("a", "old"), document("b", "other"), document("a", "new")):
        documents.take(each)
    running = asyncio.create_task(documents.run())
    await documents.indexed()
    running.cancel()
    assert index.updates == [["other", "new"]]


async def test_a_forgotten_conversation_is_written_for_every_replica_to_forget() -> None:
    log, memory = RecordedLog(), Memory(8, 0, 8, 1000)
    await handlers.forget_conversation("t", "a/b", log, CLOCK)
    ((topic, event),) = log.sent
    assert isinstance(event, Document)
    assert (topic, event.document_key, event.deleted, event.text) == (Topic.DOCUMENTS, "t!a/b", True, "")
    index = RecordedIndex()
    documents = Documents(index, memory)
    documents.take(event)
    await documents.indexed()
    assert index.updates == []
    with pytest.raises(InvalidArgument, match="tenant"):
        await handlers.forget_conversation("t!a", "b", log, CLOCK)
