"""What triage tells."""

from datetime import datetime

import msgspec

from schemas.events.base import Event, Finding, Message, Sensitivity, Tool
from schemas.events.router import Citation


class Signal(msgspec.Struct, frozen=True, kw_only=True):
    """A reason to think that an answer was wrong."""

    name: str
    value: float
    explanation: str


class EdgeCase(Event, frozen=True, kw_only=True):
    """An interaction that is worth an expert's time. Its id is the interaction's."""

    request_id: str
    tenant: str
    task: str
    flagged_at: datetime
    score: float
    threshold: float
    explored: bool  # picked at random, not for its score
    propensity: float  # probability with which it was picked
    share: float = 0.0  # of the traffic that experts were asked about then
    value: float = 0.0  # its place in the queue: what it may tell for a minute of an expert's time
    overlap: bool = False  # a second expert is to judge it as well
    same_as: str = ""  # the request that this one repeats: experts are asked about that one alone
    signals: tuple[Signal, ...] = ()
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    answer: str = ""
    model: str = ""
    model_version: str = ""
    sum_logprob: float | None = None  # of the answer's tokens
    sensitivity: Sensitivity
    bundle_version: str
    # What the guardrails found in the answer, in code points of the answer as it is here; both 0: somewhere.
    findings: tuple[Finding, ...] = ()
    citations: tuple[Citation, ...] = ()
    memory_turns: int = 0
    imported: bool = False  # labelled elsewhere, so nobody is to be asked about it


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One step from what the model said to what was wanted: `answer[start:end]` becomes `text`."""

    start: int
    end: int
    text: str


class Label(Event, frozen=True, kw_only=True):
    """What an expert said of an edge case; what all that was said of it comes to, says `schemas.labels`."""

    label_id: str
    request_id: str
    tenant: str
    task: str
    expert: str
    labelled_at: datetime
    # confirmed, corrected, unsafe; skipped and escalated are no judgement; retracted takes the label of this id back
    outcome: str
    # first, overlap (another expert judged the same), adjudication (a lead decided), gold (a question with a known
    # answer: it says something of the expert and nothing of the model), imported
    kind: str = "first"
    guideline_version: str = ""  # of the task's text that the expert had before them
    answer: str = ""  # the right answer, when confirmed or corrected
    model_answer: str = ""
    delta: tuple[Edit, ...] = ()
    distance: float = 0.0  # 0 the same, 1 nothing in common
    comment: str = ""
    seconds_spent: float = 0.0
    sensitivity: Sensitivity
    bundle_version: str
    rating: int | None = None  # how good the model's answer was: 1 useless, 5 as good as can be
    # Of what was judged, so that whoever learns from labels needs nothing else.
    question: str = ""  # the last user turn, masked, its beginning
    model: str = ""
    model_version: str = ""
    sum_logprob: float | None = None  # of the answer's tokens
    turns: int = 0  # messages in all
    tools: int = 0  # functions offered
    signals: tuple[Signal, ...] = ()
    propensity: float = 0.0  # with which experts were asked; 0: by no chance of triage's
    share: float = 0.0  # of the traffic that they were asked about then


class Outcome(Event, frozen=True, kw_only=True):
    """What came of an answer, for those who judge models: how right it was, by a label or by feedback."""

    request_id: str
    tenant: str
    task: str
    found_at: datetime
    source: str  # label or feedback
    success: float  # 0 wrong, 1 right; feedback leaves doubt
    # With which experts were asked; 1 of feedback, whose propensity nobody knows.
    propensity: float = 1.0
    model: str
    model_version: str = ""
    tier: str
    sum_logprob: float | None = None  # of the answer's tokens
    # What was asked: the last user turn, masked, its beginning; messages in all; functions offered.
    question: str
    turns: int
    tools: int
    sensitivity: Sensitivity
    bundle_version: str


class ReviewAction(Event, frozen=True, kw_only=True):
    """What somebody did, or was refused, at the experts' console or its gRPC service. It holds no content of items."""

    action_id: str
    at: datetime
    expert: str  # account; empty where it is not known whose it is
    # signed-in, sign-in-refused, signed-out, claimed, extended, released, submitted, skipped, escalated, undone,
    # refused, accounts-changed
    action: str
    # Of the item that it is about, if there is one.
    request_id: str = ""
    tenant: str = ""
    task: str = ""
    # How, or why not, in a few words; of a claim as what it was asked (`schemas.labels.Kind`), of signing out which
    # session.
    detail: str = ""
    # Of what was claimed, extended or released: under which lease, and until when.
    lease_id: str = ""
    until: datetime | None = None
