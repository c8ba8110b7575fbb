"""Labelled requests made for the purpose."""

from datetime import UTC, datetime
from typing import Any

from gyre.labelling.form import LabelledRequest

NOW = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=UTC)
TENANT, TASK = "customer-care", "consumer-services"
DEFAULTS: dict[str, str] = {}
TRACK = {
    "name": "track",
    "description": "Says where an order is",
    "parameters": '{"type": "object", "properties": {"order": {"type": "integer"}}, "required": ["order"]}',
}
CALL = '{"name": "track", "arguments": {"order": 7}}'


def a_label(**changes: Any) -> dict[str, Any]:
    return {
        "label_id": "label-1",
        "kind": "first",
        "expert": "ana@example.com",
        "labelled_at": NOW.isoformat(),
        "outcome": "corrected",
        "answer": CALL,
        "comment": "Zürich wasn't asked for",
        "seconds_spent": 12.5,
        "guideline_version": "g2",
        **changes,
    }


def a_request(**changes: Any) -> LabelledRequest:
    """A request that went through a function once, answered by text, corrected by one expert."""
    document: dict[str, Any] = {
        "request_id": "request-1",
        "tenant": TENANT,
        "task": TASK,
        "sensitivity": "internal",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Where is order 7? <EMAIL_1>"},
            {"role": "assistant", "tool_calls": [{"id": "c1", "name": "track", "arguments": '{"order": 7}'}]},
            {"role": "tool", "content": '{"at": "Rome"}', "tool_call_id": "c1"},
        ],
        "tools": [TRACK],
        "answer": "I do not know.",
        "model": "small",
        "model_version": "3",
        "state": "provisional",
        "labels": [a_label()],
    }
    return LabelledRequest.model_validate({**document, **changes})
