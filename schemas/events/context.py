"""What context tells."""

from datetime import datetime

from schemas.events.base import Event, Finding, Sensitivity


class Document(Event, frozen=True, kw_only=True):
    """A document that context may draw on. Forgetting one writes it again, empty and `deleted`.

    With a `conversation_id` it is none, but says that what was said in that conversation until then is forgotten.
    """

    document_key: str  # tenant/document_id, or tenant!conversation_id
    tenant: str
    document_id: str
    title: str = ""
    text: str = ""
    sensitivity: Sensitivity
    source: str = ""
    ingested_at: datetime
    deleted: bool = False
    conversation_id: str = ""
    # What guardrails found in its title (text_index 0) and text (1), and of which bundle they were.
    findings: tuple[Finding, ...] = ()
    bundle_version: str = ""
