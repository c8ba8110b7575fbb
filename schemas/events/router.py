"""What the router tells."""

from datetime import datetime

import msgspec

from schemas.events.base import Event, Finding, Message, Sensitivity, Tool, ToolCall


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
    temperature: float = 0.0  # at which tokens were drawn; 0: the likeliest were taken
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
    canary: bool = False  # it was live for a share of the callers only
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
    name_logprob: float | None = None  # of a call up to its arguments: of which function it is
    first_token_us: int = 0
    total_us: int = 0
    stages: tuple[Stage, ...] = ()


class Shadow(Event, frozen=True, kw_only=True):
    """What a specialist in the shadow answers to a request that another has answered. Nobody gets it."""

    request_id: str
    tenant: str
    task: str
    candidate_id: str
    model: str
    model_version: str
    answered_at: datetime
    temperature: float = 0.0
    # Masked, as an answer is that leaves.
    answer: str = ""
    # As an interaction's: stop, length, tool_calls, refused, error
    finish_reason: str
    error: str = ""
    # Of the shadow alone: more than one where it was asked again.
    attempts: tuple[Attempt, ...] = ()
    bundle_version: str
    sensitivity: Sensitivity
    findings: tuple[Finding, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    sum_logprob: float | None = None
    mean_logprob: float | None = None
    min_logprob: float | None = None


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
