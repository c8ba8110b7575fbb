"""Context's use cases."""

import re
from dataclasses import dataclass, replace

from schemas.events import Document, Sensitivity
from schemas.topics import Topic
from services.context.domain.memory import Memory, asked_again
from services.context.domain.stitching import Stitched, share
from services.context.ports import EventLog, Governance, Index
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, PermissionDenied

_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")  # as bundles name tenants; above all without what `_key` puts between


@dataclass(frozen=True)
class Request:
    """A request whose context is wanted.

    Attributes:
        tenant: Whose documents and conversations.
        query: What to look for.
        conversation_id: Empty: of no conversation.
        budget_tokens: For passages and turns together.
        max_sensitivity: Nothing above it comes back.
    """

    tenant: str
    query: str
    conversation_id: str
    budget_tokens: int
    max_sensitivity: Sensitivity


async def stitch(request: Request, index: Index, memory: Memory, memory_share: float, clock: Clock) -> Stitched:
    """Return the passages and earlier turns that fit a request's budget, and what is asked again."""
    now = clock.now()
    turns = memory.recall(request.tenant, request.conversation_id, request.max_sensitivity, now)
    again = asked_again(turns, request.query, now)
    if request.budget_tokens == 0:
        return Stitched((), (), again)
    passages = await index.search(request.query, request.tenant, request.max_sensitivity)
    return replace(share(turns, passages, request.budget_tokens, memory_share), asked_again=again)


async def ingest(
    tenant: str,
    document_id: str,
    title: str,
    text: str,
    sensitivity: Sensitivity,
    source: str,
    governance: Governance,
    log: EventLog,
    clock: Clock,
) -> None:
    """Write a document to its topic, as governance lets it, in the place of any former one of the same id.

    Raises:
        InvalidArgument: The tenant's name cannot be one, or the text is blank.
        NotFound: Governance knows no such tenant.
        PermissionDenied: Governance does not let it be kept.
        Retryable: Governance gave no verdict, or Kafka did not acknowledge it.
    """
    if not text.strip():
        raise InvalidArgument("text: must hold more than white space")
    key = _key(tenant, document_id)
    verdict = await governance.check_document(tenant, title, text)
    if verdict.is_refused:
        kinds = sorted({finding.kind for finding in verdict.findings if finding.action == "refuse"})
        raise PermissionDenied(f"refused: the document holds text that is not allowed ({', '.join(kinds)})")
    event = Document(
        document_key=key,
        tenant=tenant,
        document_id=document_id,
        title=verdict.title,
        text=verdict.text,
        sensitivity=max(sensitivity, verdict.sensitivity or sensitivity, key=lambda level: level.level),
        source=source,
        ingested_at=clock.now(),
        findings=verdict.findings,
        bundle_version=verdict.bundle_version,
    )
    await log.send(Topic.DOCUMENTS, event)


async def forget_document(tenant: str, document_id: str, log: EventLog, clock: Clock) -> None:
    """Write that a document is no more. It is no error if there was none.

    Raises:
        InvalidArgument: The tenant's name cannot be one.
        Retryable: Kafka did not acknowledge it.
    """
    event = Document(
        document_key=_key(tenant, document_id),
        tenant=tenant,
        document_id=document_id,
        sensitivity=Sensitivity.RESTRICTED,  # that there was one may be all that somebody wanted hidden
        ingested_at=clock.now(),
        deleted=True,
    )
    await log.send(Topic.DOCUMENTS, event)


async def forget_conversation(tenant: str, conversation_id: str, log: EventLog, clock: Clock) -> None:
    """Write that what was said in a conversation until now is forgotten. It is no error if there was none.

    Raises:
        InvalidArgument: The tenant's name cannot be one.
        Retryable: Kafka did not acknowledge it.
    """
    event = Document(
        document_key=_key(tenant, conversation_id, between="!"),
        tenant=tenant,
        document_id="",
        sensitivity=Sensitivity.RESTRICTED,
        ingested_at=clock.now(),
        deleted=True,
        conversation_id=conversation_id,
    )
    await log.send(Topic.DOCUMENTS, event)


def _key(tenant: str, name: str, between: str = "/") -> str:
    """Return the key of a document or a conversation. What parts the two names may stand in no tenant's."""
    if not _TENANT.fullmatch(tenant):
        raise InvalidArgument(f"tenant: must be lower-case letters, digits and hyphens, is {tenant!r}")
    return f"{tenant}{between}{name}"
