"""Events for tests of triage; only what a test is about needs to be given."""

import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from schemas.bundle import Bundle, Experts, load_bundle
from schemas.events import EdgeCase, Feedback, Interaction, Label, Message, Sensitivity, Tool
from services.runtime.embeddings import Background, Space, Vectors
from services.triage.domain.access import Person, Role
from services.triage.experience import Experience

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TENANT, TASK = "customer-care", "consumer-services"
CALL = '{"name": "find_film", "arguments": {"title": "Alien"}}'
TOOL = Tool(
    name="find_film",
    parameters='{"type": "object", "required": ["title"], "properties": {"title": {}, "day": {}}}',
)


def bundle(share: float = 0.2, exploration: float = 0.1, **experts: float) -> Bundle:
    sample = load_bundle(Path("deploy/bundle"))
    tenant = sample.tenants[TENANT].model_copy(
        update={"experts": Experts(share=share, exploration=exploration, **experts)}
    )
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


def experience() -> Experience:
    """Of nobody yet; texts lie where their words say."""
    return Experience(space())


def space() -> Space:
    """Bags of words, without a model: texts with words in common lie near each other, whatever the words mean."""

    def embed(texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), 64), np.float32)
        for vector, text in zip(vectors, texts, strict=True):
            for word in text.casefold().split():
                vector[zlib.crc32(word.encode()) % 64] += 1
            vector /= max(float(np.linalg.norm(vector)), 1e-9)
        return vectors

    return Space(
        embed, Background(np.zeros(64, np.float32), np.eye(64, dtype=np.float32), np.zeros((1, 64), np.float32))
    )


def label(request_id: str = "r1", **changes: Any) -> Label:
    values: dict[str, Any] = {
        "label_id": f"label of {request_id}",
        "request_id": request_id,
        "tenant": TENANT,
        "task": TASK,
        "expert": "ann",
        "labelled_at": NOW,
        "outcome": "confirmed",
        "model_answer": CALL,
        "sensitivity": Sensitivity.INTERNAL,
        "bundle_version": "b1",
        "question": "Find me a film",
        "model": "small",
        "propensity": 0.2,
        "share": 0.2,
    }
    return Label(**{**values, **changes})


def person(name: str = "ann", **changes: Any) -> Person:
    values: dict[str, Any] = {"role": Role.EXPERT, "clearance": Sensitivity.INTERNAL, "tenants": frozenset({TENANT})}
    return Person(name, **{**values, **changes})
