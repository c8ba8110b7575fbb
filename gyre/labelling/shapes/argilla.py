"""Argilla's records, as `dataset.records.to_json` writes them: `rg.Record.to_dict`, in a list.

The conversation is a chat field; the whole request, with functions and calls, a text field beside it. A label is a
response of one user to up to three questions: outcome, answer and comment. The model's answer is the suggestion.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from gyre.labelling.form import InvalidItemError, LabelledRequest, Turn, derived_id, problem, validated
from gyre.labelling.shapes.carried import carried_labels, known_again

LINES = False

# Beside messages, tools, answer and labels, which are fields, suggestion and responses.
_METADATA = ("request_id", "tenant", "task", "sensitivity", "model", "model_version", "state")
_QUESTIONS = ("outcome", "answer", "comment")


class _Suggestion(BaseModel):
    value: Any  # of other questions, which are not ours, whatever they ask for
    agent: str | None = None


class _Response(BaseModel):
    value: Any
    user_id: str
    status: Literal["draft", "submitted", "discarded"] | None = None  # not in what `to_dict` writes


class _Record(BaseModel):
    fields: dict[str, Any]
    metadata: dict[str, Any] = {}
    suggestions: dict[str, _Suggestion] = {}
    responses: dict[str, list[_Response]] = {}


def dump(request: LabelledRequest) -> dict[str, Any]:
    """Return a request as a record."""
    written = request.document()
    whole = {"messages": written["messages"], "tools": written.get("tools", [])}
    responses: dict[str, list[dict[str, str]]] = {}
    experts: Counter[str] = Counter()
    for label in request.labels:
        # Argilla knows its users by UUIDs, and one user by one response.
        user = derived_id("user", label.expert, experts[label.expert])
        experts[label.expert] += 1
        for question in _QUESTIONS:
            if value := getattr(label, question):
                responses.setdefault(question, []).append({"value": value, "user_id": user, "status": "submitted"})
    suggestion = {"value": request.answer, "score": None, "agent": request.model or None}
    return {
        "id": request.id,
        "fields": {
            "conversation": [{"role": turn.role, "content": _shown(turn)} for turn in request.messages],
            "request": json.dumps(whole, ensure_ascii=False),
        },
        "metadata": {
            **{name: written[name] for name in _METADATA if name in written},
            "labels": json.dumps(written["labels"], ensure_ascii=False),
        },
        "suggestions": {"answer": suggestion} if request.answer else {},
        "responses": responses,
        "vectors": {},
    }


def load(document: Mapping[str, Any], defaults: Mapping[str, str]) -> LabelledRequest | None:
    """Return the request of a record."""
    try:
        record = _Record.model_validate(document)
    except ValidationError as error:
        raise InvalidItemError(problem(each) for each in error.errors()) from error
    answer = record.suggestions["answer"].value if "answer" in record.suggestions else ""
    by_user: dict[str, dict[str, Any]] = {}
    for question in _QUESTIONS:
        for response in record.responses.get(question, []):
            if response.status in (None, "submitted"):
                by_user.setdefault(response.user_id, {})[question] = response.value
    if not by_user:
        return None
    for user, said in by_user.items():
        if not {"outcome", "answer"} & said.keys():
            raise InvalidItemError([f"responses of user {user}: wanted one to the question outcome or answer"])
        said["expert"] = user
        said.setdefault("outcome", "confirmed" if said.get("answer", answer) == answer else "corrected")
        if said["outcome"] == "confirmed":
            said.setdefault("answer", answer)
    whole = _whole(record)
    carried = carried_labels(_json(record.metadata.get("labels", "[]"), "metadata.labels"), "metadata.labels")
    agent = record.suggestions["answer"].agent if answer else None
    named = {f"labels[{number}]": f"responses of user {user}" for number, user in enumerate(by_user)}
    named |= {"answer": "suggestions.answer"} | {name: f"metadata.{name}" for name in _METADATA}
    if "request" in record.fields:
        named |= {name: f"fields.request.{name}" for name in whole}
    else:
        named["messages"] = "fields.conversation"
    return validated(
        {
            **defaults,
            **({"model": agent} if agent else {}),
            **{name: record.metadata[name] for name in _METADATA if name in record.metadata},
            **whole,
            "answer": answer,
            "labels": known_again(by_user.values(), carried),
        },
        named,
    )


def _whole(record: _Record) -> dict[str, Any]:
    if "request" in record.fields:
        whole = _json(record.fields["request"], "fields.request")
        if not isinstance(whole, dict) or not whole.keys() <= {"messages", "tools"}:
            raise InvalidItemError(["fields.request: wanted an object of messages and tools, as text"])
        return whole
    if "conversation" in record.fields:
        return {"messages": record.fields["conversation"]}
    raise InvalidItemError(["fields.conversation: wanted, a list of turns with role and content"])


def _json(text: Any, field: str) -> Any:
    try:
        return from_json(text)
    except (TypeError, ValueError) as error:
        raise InvalidItemError([f"{field}: wanted JSON, as text"]) from error


def _shown(turn: Turn) -> str:
    """Return a turn as people read it; a call is part of what was said."""
    calls = (f"{call.name}({call.arguments})" for call in turn.tool_calls)
    return "\n".join(part for part in (turn.content, *calls) if part)
