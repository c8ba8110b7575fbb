"""Events for tests of triage; only what a test is about needs to be given."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.bundle import Bundle, load_bundle
from schemas.events import EdgeCase, Feedback, Interaction, Message, Sensitivity, Tool
from services.triage.domain.access import Person, Role

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TENANT, TASK = "customer-care", "consumer-services"
CALL = '{"name": "find_film", "arguments": {"title": "Alien"}}'
TOOL = Tool(
    name="find_film",
    parameters='{"type": "object", "required": ["title"], "properties": {"title": {}, "day": {}}}',
)


def bundle(share: float = 0.2, exploration: float = 0.1) -> Bundle:
    sample = load_bundle(Path("deploy/bundle"))
    tenant = sample.tenants[TENANT].model_copy(update={"expert_share": share, "exploration_share": exploration})
    return sample.model_copy(update={"tenants": {TENANT: tenant}})


def interaction(request_id: str = "r1", **changes: Any) -> Interaction:
    values: dict[str, Any] = {
        "request_id": request_id,
        "phase": "finished",
        "tenant": TENANT,
        "application": "concierge",
        "task": TASK,
        "received_at": NOW,
        "finished_at": NOW,
        "messages": (Message(role="user", content="Find me a film"),),
        "tools": (TOOL,),
        "answer": CALL,
        "finish_reason": "stop",
        "model": "small",
        "bundle_version": "b1",
        "sensitivity": Sensitivity.INTERNAL,
    }
    return Interaction(**{**values, **changes})


def feedback(request_id: str = "r1", **changes: Any) -> Feedback:
    values: dict[str, Any] = {
        "feedback_id": "f1",
        "request_id": request_id,
        "tenant": TENANT,
        "application": "concierge",
        "given_at": NOW,
        "source": "explicit",
        "kind": "rating",
        "rating": -1.0,
    }
    return Feedback(**{**values, **changes})


def edge_case(request_id: str = "r1", **changes: Any) -> EdgeCase:
    values: dict[str, Any] = {
        "request_id": request_id,
        "tenant": TENANT,
        "task": TASK,
        "flagged_at": NOW,
        "score": 0.5,
        "threshold": 0.4,
        "explored": False,
        "propensity": 1.0,
        "messages": (Message(role="user", content="Find me a film"),),
        "tools": (TOOL,),
        "answer": CALL,
        "model": "small",
        "sensitivity": Sensitivity.INTERNAL,
        "bundle_version": "b1",
    }
    return EdgeCase(**{**values, **changes})


def person(name: str = "ann", **changes: Any) -> Person:
    values: dict[str, Any] = {"role": Role.EXPERT, "clearance": Sensitivity.INTERNAL, "tenants": frozenset({TENANT})}
    return Person(name, **{**values, **changes})
