"""The events that go through Kafka, as frozen values.

They are the source of the Avro schemas: `schemas.avro` derives one from each class, and what was derived once is kept
in git under a number (`schemas/avro/ids.json`). Add fields with defaults; never rename, remove or retype one.
"""

from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.topics import Topic


class Sensitivity(StrEnum):
    """How far a text may travel. Ordered by `level`; it only ever rises."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    RESTRICTED = "restricted"

    @property
    def level(self) -> int:
        """0 for public up to 3 for restricted."""
        return _LEVELS[self]


_LEVELS = {each: level for level, each in enumerate(Sensitivity)}


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Base of everything that is a record of a topic."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A function that a model asked for; `arguments` is a JSON object."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One turn of a conversation, as the model saw it (masked)."""

    role: str
    content: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function that the model could ask for; `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: str = ""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something a guardrail found. It says where, never what."""

    direction: str  # input, output or document
    kind: str
    action: str
    text_index: int = 0
    start: int = 0
    end: int = 0


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """A part of an answer that left, in code points of the answer as it is on record, and the verdict it left under."""

    start: int
    end: int
    verdict: str  # pass or mask
    bundle_version: str


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a request left out to fit the budget: of which message, from code point start to before end."""

    message: int
    start: int
    end: int
    tokens: int  # about


class RouteCandidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model that might have answered, and why it did or did not."""

    model: str
    model_version: str = ""
    tier: str
    cleared: bool
    live: bool
    chosen: bool
    reason: str


# Why an answer is not good enough, whatever its chance: an attempt's reason.
WRONG_FORM = "its form is not the one that was asked for"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """A model that was asked for an answer, or would have been."""

    model: str
    model_version: str = ""
    tier: str
    # answered: its answer is the one on record, and the reason, if any, why it might have been better. failed: it gave
    # none. unsure: its answer was not good enough. skipped: it was not asked, for it had failed too often just before.
    outcome: str
    reason: str = ""
    start_us: int
    duration_us: int
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0  # of these tokens, in the unit of the bundle's prices


class RouteEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What was expected of a candidate, in the order of the candidates."""

    model: str
    chance: float | None = None  # of a right answer; none where nobody judges
    price: float = 0.0  # of this request, in the unit of the bundle's prices
    seconds: float | None = None  # in which 95 of 100 of its latest answers were complete; none where too few are known


class Citation(msgspec.Struct, frozen=True, kw_only=True):
    """A document that the model was given, or that was left out because no cleared live model may see it."""

    document_id: str
    sensitivity: Sensitivity
    tokens: int
    score: float
    dropped: bool = False


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """Time spent in one function of the pipeline. Stages that run side by side overlap."""

    name: str
    start_us: int
    duration_us: int


class Interaction(Event, frozen=True, kw_only=True):
    """One request and its answer, with everything that was decided on the way.

    A stream has two: `opened` before its first byte, `finished` after its last. Any other request has `finished` only.
    """

    request_id: str
    phase: str  # opened or finished
    tenant: str
    application: str
    task: str
    # caller: it named the task. classifier: it was told by the bundle's examples. unknown: by them it could not, so
    # it is the application's first. default: there is nothing to tell by, so it is the first.
    task_by: str = ""
    user: str = ""
    conversation_id: str = ""
    received_at: datetime
    finished_at: datetime
    streamed: bool = False
    # What was asked, masked. A model saw more (documents, memory, the task's prompt), a specialist no system message.
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    language: str = ""
    truncated_tokens: int = 0
    cuts: tuple[Cut, ...] = ()
    # What was answered, as released.
    answer: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    # stop, length, tool_calls, refused, cancelled, error
    finish_reason: str = ""
    error: str = ""
    # Who answered.
    model: str = ""
    model_version: str = ""
    tier: str = ""
    candidate_id: str = ""
    candidates: tuple[RouteCandidate, ...] = ()
    # Who was asked, in this order; more than one where a model failed or was unsure.
    attempts: tuple[Attempt, ...] = ()
    estimates: tuple[RouteEstimate, ...] = ()
    propensity: float = 1.0  # probability with which the chosen candidate was picked
    # What was decided about it.
    bundle_version: str
    sensitivity: Sensitivity
    input_verdict: str = ""
    output_verdict: str = ""
    findings: tuple[Finding, ...] = ()
    releases: tuple[Release, ...] = ()
    policies: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    memory_turns: int = 0
    context_available: bool = False
    # What it took.
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    min_logprob: float | None = None
    first_token_us: int = 0
    total_us: int = 0
    stages: tuple[Stage, ...] = ()


class PeriodUsage(msgspec.Struct, frozen=True, kw_only=True):
    """What was used since a period began."""

    period: str  # minute, hour, day, month
    started_at: datetime
    requests: int
    tokens: int
    cost: float = 0.0  # in the unit of the bundle's prices


class Usage(Event, frozen=True, kw_only=True):
    """What an application with limits has used at one replica of the router, in the periods that are under way."""

    usage_key: str  # replica/application
    replica: str  # of one run of it: another run is another replica
    application: str
    counted_at: datetime
    periods: tuple[PeriodUsage, ...]


class Feedback(Event, frozen=True, kw_only=True):
    """What somebody or something had to say of an earlier answer."""

    feedback_id: str
    request_id: str
    tenant: str
    application: str
    given_at: datetime
    source: str  # explicit or implicit
    kind: str  # rating, edit, correct_answer, outcome, asked_again
    rating: float | None = None
    text: str = ""
    comment: str = ""
    user: str = ""


class BundlePublished(Event, frozen=True, kw_only=True):
    """A whole bundle; `content` is the JSON of `schemas.bundle.Bundle`."""

    name: str = "bundle"
    version: str
    published_at: datetime
    content: str


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
    signals: tuple[Signal, ...] = ()
    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    answer: str = ""
    model: str = ""
    model_version: str = ""
    sum_logprob: float | None = None  # of the answer's tokens
    sensitivity: Sensitivity
    bundle_version: str


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One step from what the model said to what was wanted: `answer[start:end]` becomes `text`."""

    start: int
    end: int
    text: str


class Label(Event, frozen=True, kw_only=True):
    """What an expert said of an edge case."""

    label_id: str
    request_id: str
    tenant: str
    task: str
    expert: str
    labelled_at: datetime
    # confirmed, corrected, unsafe, skipped
    outcome: str
    answer: str = ""  # the right answer, when confirmed or corrected
    model_answer: str = ""
    delta: tuple[Edit, ...] = ()
    distance: float = 0.0  # 0 the same, 1 nothing in common
    comment: str = ""
    seconds_spent: float = 0.0
    sensitivity: Sensitivity
    bundle_version: str


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


class GateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a model got a request of a gate right, and how likely it found its answer."""

    right: bool
    sum_logprob: float | None = None  # of the answer's tokens


class Candidate(Event, frozen=True, kw_only=True):
    """A trained specialist and what the gate said of it."""

    candidate_id: str
    run_id: str
    tenant: str
    task: str
    created_at: datetime
    # promote or refuse
    verdict: str
    reasons: tuple[str, ...] = ()
    base_model: str
    adapter_path: str  # folder of the PEFT adapter, relative to the artifacts folder
    system_prompt: str
    response_schema: str = ""  # JSON Schema that answers are held to where a request offers no functions
    dataset_id: str
    training_request_ids: tuple[str, ...] = ()
    holdout_request_ids: tuple[str, ...] = ()
    incumbent: str = ""  # candidate_id or model name
    candidate_accuracy: float = 0.0
    incumbent_accuracy: float = 0.0
    # On the same requests, in the order of their ids above.
    candidate_answers: tuple[GateAnswer, ...] = ()
    incumbent_answers: tuple[GateAnswer, ...] = ()
    gain: float = 0.0
    gain_low: float = 0.0
    gain_high: float = 0.0
    confidence: float = 0.95
    training_tokens: int = 0
    training_seconds: float = 0.0
    sensitivity: Sensitivity  # the highest of what it learned from
    bundle_version: str


class Deployment(Event, frozen=True, kw_only=True):
    """What is wanted live for one task of one tenant: the desired state."""

    task_key: str  # tenant/task
    tenant: str
    task: str
    deployment_id: str
    # live or none
    state: str
    candidate_id: str = ""
    model: str = ""
    model_version: str = ""
    adapter_path: str = ""
    system_prompt: str = ""
    response_schema: str = ""
    sensitivity: Sensitivity = Sensitivity.PUBLIC
    deployed_at: datetime
    reason: str
    # What it replaced, newest last, so that a rollback needs nothing else.
    previous: tuple[str, ...] = ()
    # What its gate found: on how many requests, and how many of them it and the one before it got right, as shares.
    gate_items: int = 0
    gate_accuracy: float = 0.0
    incumbent: str = ""  # candidate_id or model name
    incumbent_accuracy: float = 0.0
    # On the same requests.
    candidate_answers: tuple[GateAnswer, ...] = ()
    incumbent_answers: tuple[GateAnswer, ...] = ()


class Checkpoint(Event, frozen=True, kw_only=True):
    """A signed root over all rows of a topic partition, up to the last that there were."""

    chain: str  # topic/partition
    first_offset: int  # of the rows since the checkpoint before
    last_offset: int
    root: bytes
    signature: bytes  # of the first key; the note has all
    key_id: str
    signed_at: datetime
    tree_size: int = 0  # rows
    note: str = ""  # what was signed, with the signatures, as schemas/ledger/notes.py has it
    # The roots of the blocks of rows completed since the checkpoint before, and the number of the first of them.
    first_block: int = 0
    blocks: tuple[bytes, ...] = ()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands."""

    topic: str
    partition: int
    offset: int


class Erasure(Event, frozen=True, kw_only=True):
    """Somebody wished to be forgotten: what was erased of one request. It says where it stood, never what it was."""

    request_id: str
    erasure_id: str  # of the wish, which may concern many requests
    tenant: str
    asked_at: datetime
    # Everything of the request is to be dropped wherever it is; else only feedback, on a request of somebody else.
    is_whole: bool = True
    rows: tuple[Place, ...] = ()
    # What had learned from the request, or was measured by it, and wants to be made anew.
    dataset_ids: tuple[str, ...] = ()
    candidate_ids: tuple[str, ...] = ()


class Drift(Event, frozen=True, kw_only=True):
    """A change in what a task's traffic or answers look like, or an objective that is being missed."""

    task_key: str  # tenant/task
    tenant: str
    task: str  # empty: of all the tenant's, or of an application's
    model: str  # empty: whichever answers
    measure: str
    method: str
    statistic: float
    threshold: float
    window_start: datetime  # from when, probably
    detected_at: datetime  # the time of the request that it showed at
    model_version: str = ""
    application: str = ""  # whose objective it is; empty: a task's
    aspect: str = ""  # input, output, service or objective
    state: str = "detected"  # of objectives firing, then cleared
    # What the measure was on average, and is; of one whose values are names, the share of the one that moved most.
    before: float = 0.0
    after: float = 0.0
    subject: str = ""  # that name
    requests: int = 0  # seen since what is ordinary began to be learned


class DeadLetter(Event, frozen=True, kw_only=True):
    """A record that could not be handled, whole, with the reason."""

    topic: str
    partition: int
    offset: int
    hop: str  # the service that gave up on it
    reason: str
    failed_at: datetime
    key: bytes = b""
    value: bytes = b""


EVENTS: dict[Topic, type[Event]] = {
    Topic.INTERACTIONS: Interaction,
    Topic.FEEDBACK: Feedback,
    Topic.USAGE: Usage,
    Topic.BUNDLES: BundlePublished,
    Topic.DOCUMENTS: Document,
    Topic.EDGE_CASES: EdgeCase,
    Topic.LABELS: Label,
    Topic.OUTCOMES: Outcome,
    Topic.CANDIDATES: Candidate,
    Topic.DEPLOYMENTS: Deployment,
    Topic.CHECKPOINTS: Checkpoint,
    Topic.DRIFT: Drift,
    Topic.ERASURES: Erasure,
}
