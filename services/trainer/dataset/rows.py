"""What a dataset is made of: rows that are learned from, and labels that are not, each with its reason."""

import hashlib
import json
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

import msgspec

from schemas.answers import normalise_text
from schemas.labels import State

Split = Literal["train", "holdout"]
Sensitivity = Literal["public", "internal", "confidential", "restricted"]
SENSITIVITIES: tuple[Sensitivity, ...] = ("public", "internal", "confidential", "restricted")
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str


class LabelledRow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request with the answer an expert gave.

    Attributes:
        request_id: The interaction that was labelled.
        label_id: The label.
        labelled_at_ms: When, in milliseconds since 1970 UTC; of labels that say the same of one request the later wins.
        tenant: Whose it is.
        task: What it is for.
        sensitivity: Highest level of anything in the row.
        source: Who labelled, such as an expert's id.
        messages: What the specialist will see (`schemas.prompts.specialist_messages`); the last turn is the one to
            answer.
        completion: The right answer: plain text, or a function call as JSON text.
        tools: The functions that were on offer.
        system: The application's own system messages, which a generic model sees and a specialist does not.
        state: Who stands behind the answer: one expert, several, or a lead.
        outcome: Whether the model's own answer was right, or an expert's took its place.
        origin: Why experts were asked: the answer was doubted, or the request was drawn at random from the traffic; or
            nobody was, for it was labelled elsewhere.
        rejected: What the model had answered, where an expert corrected that and it may be learned from; else empty.
    """

    request_id: NonEmpty
    label_id: NonEmpty
    labelled_at_ms: Annotated[int, msgspec.Meta(ge=0)]
    tenant: NonEmpty
    task: NonEmpty
    sensitivity: Sensitivity
    source: NonEmpty
    messages: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1)]
    completion: NonEmpty
    tools: tuple[dict[str, Any], ...] = ()
    system: str = ""
    state: State = State.PROVISIONAL
    outcome: Literal["confirmed", "corrected"] = "corrected"
    origin: Literal["flagged", "explored", "imported"] = "flagged"
    rejected: str = ""


class Reason(StrEnum):
    """Why a label is not learned from."""

    # What experts said is not an answer to learn.
    RETRACTED = "taken back"
    GOLD = "gold question"
    SUPERSEDED = "another label of the request counts"
    DISPUTED = "disputed"
    ESCALATED = "waits for a lead"
    UNSAFE = "unsafe"
    NOT_ACCEPTED = "state not accepted"
    EMPTY = "empty answer"
    NOT_SHOWN = "no request that a model could be shown"
    ERASED = "erased"
    # It is, but for refinement.
    TOOL_SCHEMA = "not a call that the tools allow"
    PERSONAL_DATA = "personal data or secret"
    CONTRADICTED = "another answer to the same words stands on more"
    CONTRADICTION = "contradiction"
    REPEATED = "the same words are in it already"
    NEAR_HOLDOUT = "near to a held-out request"


class LeftOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A label that is not learned from. It says why, and nothing of what was asked or answered."""

    request_id: str
    label_id: str
    reason: Reason


def left_out(row: LabelledRow, reason: Reason) -> LeftOut:
    """Return that a row is left out."""
    return LeftOut(row.request_id, row.label_id, reason)


def stable_key(messages: Sequence[Message]) -> str:
    """What makes two requests the same one: SHA-256 over the normalised turns, 64 hex digits."""
    turns = [(turn.role, normalise_text(turn.content)) for turn in asked(messages)]
    return hashlib.sha256(json.dumps(turns, ensure_ascii=False).encode()).hexdigest()


def asked(messages: Sequence[Message]) -> list[Message]:
    """Return the turns of a conversation, but for what the application or Gyre itself tells the model."""
    return [turn for turn in messages if turn.role != "system"]
