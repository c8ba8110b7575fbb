"""What the trainer tells."""

from datetime import datetime

import msgspec

from schemas.events.base import Event, Sensitivity


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
    # 95 of 100 answers of each were complete by then, and what a thousand of them cost.
    latency_ms: float = 0.0
    incumbent_latency_ms: float = 0.0
    cost_of_thousand: float = 0.0
    incumbent_cost_of_thousand: float = 0.0
    report_sha256: str = ""  # of the report in the run's folder
    adapter_sha256: str = ""  # of the adapter that the gate judged: of what `sha256sum *` prints in its folder
    training_tokens: int = 0
    training_seconds: float = 0.0
    sensitivity: Sensitivity  # the highest of what it learned from
    bundle_version: str
