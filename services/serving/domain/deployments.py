"""What should be live, as pure decisions: from candidates and operators' wishes to deployments and wanted versions."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from schemas.bundle import Rollout
from schemas.events import Candidate, Deployment, Specialist
from services.runtime.errors import FailedPrecondition

# How far back a rollback can go.
KEPT_PREVIOUS = 10


def task_key(tenant: str, task: str) -> str:
    """Return the key of a task's deployment."""
    return f"{tenant}/{task}"


def specialist_model(tenant: str, task: str) -> str:
    """Return the name that Triton has for the specialist of a task."""
    return f"specialist-{re.sub(r'[^A-Za-z0-9-]', '-', tenant)}-{re.sub(r'[^A-Za-z0-9-]', '-', task)}"


@dataclass(frozen=True)
class Placed:
    """A candidate's place in Triton."""

    model: str
    version: int


@dataclass(frozen=True)
class Trial:
    """A candidate that is loaded to be asked by the gate, and gets no traffic."""

    tenant: str
    task: str
    candidate_id: str
    placed: Placed


def promoted(
    candidate: Candidate,
    placed: Placed,
    current: Deployment | None,
    rollout: Rollout,
    deployment_id: str,
    now: datetime,
) -> Deployment:
    """Return the deployment that makes a candidate live: in the shadow, as a canary or for all callers."""
    deployment = _live(candidate, placed, deployment_id, now, "; ".join(candidate.reasons), _history(current))
    return replace(
        deployment,
        share=0.0 if rollout.shadow_requests else rollout.canary_share,
        before=_specialist(current.proven if current else None),
        false_rollbacks=rollout.false_rollbacks,
    )


def passed(current: Deployment, answers: int, rollout: Rollout, deployment_id: str, now: datetime) -> Deployment:
    """Return what comes next after so many answers: after the shadow a canary, where one is wanted, else for all."""
    in_shadow = current.share <= 0
    was = "in the shadow" if in_shadow else f"a canary for {current.share:.0%} of the callers"
    return replace(
        current,
        share=rollout.canary_share if in_shadow else 1.0,
        deployment_id=deployment_id,
        deployed_at=now,
        reason=f"{was}: no worse in {answers:,} answers than what was before",
    )


def rolled_back(
    current: Deployment | None,
    candidates: Mapping[str, Candidate],
    placed: Mapping[str, Placed],
    deployment_id: str,
    now: datetime,
    reason: str,
    asked_by: str = "",
) -> Deployment:
    """Return the deployment that goes back to what was live before, or to no specialist.

    Args:
        current: What is live now.
        candidates: Every candidate on record, by id.
        placed: Where in Triton each candidate is that could be live again, by id.
        deployment_id: Of the new deployment.
        now: Its time.
        reason: Why, for the record.
        asked_by: Who asked for it; empty: nobody did.

    Raises:
        FailedPrecondition: No specialist is live.
    """
    if current is None or current.state != "live":
        raise FailedPrecondition("no specialist is live for this task, so there is nothing to go back from")
    history = list(current.previous)
    while history:
        before = history.pop()
        if before in candidates and before in placed:
            live = _live(candidates[before], placed[before], deployment_id, now, reason, tuple(history))
            return replace(live, asked_by=asked_by)
    return Deployment(
        task_key=current.task_key,
        tenant=current.tenant,
        task=current.task,
        deployment_id=deployment_id,
        state="none",
        deployed_at=now,
        reason=reason,
        asked_by=asked_by,
    )


def _history(current: Deployment | None) -> tuple[str, ...]:
    if current is None or current.state != "live":
        return ()
    if current.share < 1:  # a canary that is replaced has shown nothing
        return current.previous
    return (*current.previous, current.candidate_id)[-KEPT_PREVIOUS:]


def _specialist(live: Deployment | None) -> tuple[Specialist, ...]:
    if live is None or live.state != "live":
        return ()
    return (
        Specialist(
            candidate_id=live.candidate_id,
            model_version=live.model_version,
            adapter_path=live.adapter_path,
            system_prompt=live.system_prompt,
            response_schema=live.response_schema,
            sensitivity=live.sensitivity,
        ),
    )


def _live(
    candidate: Candidate,
    placed: Placed,
    deployment_id: str,
    now: datetime,
    reason: str,
    previous: tuple[str, ...],
) -> Deployment:
    return Deployment(
        task_key=task_key(candidate.tenant, candidate.task),
        tenant=candidate.tenant,
        task=candidate.task,
        deployment_id=deployment_id,
        state="live",
        candidate_id=candidate.candidate_id,
        model=placed.model,
        model_version=str(placed.version),
        adapter_path=candidate.adapter_path,
        system_prompt=candidate.system_prompt,
        response_schema=candidate.response_schema,
        sensitivity=candidate.sensitivity,
        deployed_at=now,
        reason=reason,
        previous=previous,
        gate_items=len(candidate.holdout_request_ids),
        gate_accuracy=candidate.candidate_accuracy,
        incumbent=candidate.incumbent,
        incumbent_accuracy=candidate.incumbent_accuracy,
        candidate_answers=candidate.candidate_answers,
        incumbent_answers=candidate.incumbent_answers,
    )


def wanted_versions(
    generic: Iterable[Placed],
    deployments: Iterable[Deployment],
    placed: Mapping[str, Placed],
    trials: Iterable[Trial],
) -> dict[str, frozenset[int]]:
    """Return which versions of which models Triton should have loaded.

    The version before the live one stays loaded too: requests that were routed to it a moment ago still find it, and a
    rollback need not wait for it.

    Args:
        generic: Where the bundle's models are.
        deployments: The newest of each task.
        placed: Where each candidate is, by id; one that is nowhere is not wanted.
        trials: What is being tried.
    """
    wanted: dict[str, set[int]] = {}
    places = [*generic, *(trial.placed for trial in trials)]
    for deployment in deployments:
        if deployment.state == "live":
            ids = (deployment.candidate_id, *deployment.previous[-1:])
            places += [placed[candidate_id] for candidate_id in ids if candidate_id in placed]
    for place in places:
        wanted.setdefault(place.model, set()).add(place.version)
    return {model: frozenset(versions) for model, versions in wanted.items()}
