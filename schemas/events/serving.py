"""What serving tells."""

from datetime import datetime
from typing import Self

import msgspec

from schemas.events.base import Event, Sensitivity
from schemas.events.trainer import GateAnswer


class Specialist(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a task's specialist, with all that asking it takes; its fields are those of its deployment."""

    candidate_id: str
    model_version: str
    adapter_path: str
    system_prompt: str
    response_schema: str
    sensitivity: Sensitivity


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
    # Of the task's callers, so large a share is answered by it: of a canary not all, and none by one in the shadow,
    # which is asked what others have answered.
    share: float = 1.0
    # The specialist that was live before, if one was; the other callers are answered by it.
    before: tuple[Specialist, ...] = ()
    # The chance that serving takes it back by itself though it is as good as what it replaced, at most; 0: it does not.
    false_rollbacks: float = 0.0
    asked_by: str = ""  # who had it rolled back; empty: serving decided by itself

    @property
    def proven(self) -> Self | None:
        """What is live for those callers whom it does not answer, if a specialist is; where it answers all, itself.

        What a gate measured is still its own.
        """
        if self.share >= 1 or self.state != "live":
            return self
        of_others = [msgspec.structs.asdict(each) for each in self.before]
        return msgspec.structs.replace(self, share=1.0, **of_others[0]) if of_others else None
