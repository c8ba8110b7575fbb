"""What serving tells."""

from datetime import datetime

from schemas.events.base import Event, Sensitivity
from schemas.events.trainer import GateAnswer


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
