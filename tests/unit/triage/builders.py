"""Events for tests of triage; only what a test is about needs to be given."""

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from schemas.bundle import Bundle, load_bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Feedback, Interaction, Label, Message, Sensitivity, Tool
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Retryable
from services.triage.desk import Desk
from services.triage.domain.leases import Signer
from services.triage.domain.queue import Queue, QueueName
from services.triage.domain.rows import Item, Labelled
from services.triage.domain.selection import Selector

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


class World:
    """A desk over tables that are a dict, and a topic that is a list."""

    def __init__(self, known: Bundle | None = None, lease_seconds: float = 60) -> None:
        self.now = NOW
        self.items: dict[str, Item] = {}
        self.written: list[Label] = []
        self.away = False
        self.bundle = known or bundle()
        self.queue = Queue()
        self.desk = Desk(
            queue=self.queue,
            tables=self,
            labels=self,
            bundles=self,
            signer=Signer(b"secret"),
            lease_seconds=lease_seconds,
            clock=Clock(now=lambda: self.now, new_id=lambda: "l1"),
        )

    def add(self, request_id: str = "r1", **changes: Any) -> None:
        added = edge_case(request_id, **changes)
        record = codec(Topic.EDGE_CASES).encode(added)
        self.items[request_id] = Item(
            partition=0, tenant=added.tenant, task=added.task, score=added.score, edge_case=record
        )
        self.queue.add(request_id, (added.tenant, added.task), added.score)

    def check_ready(self) -> None:
        pass

    def item(self, request_id: str) -> Item | None:
        return self.items.get(request_id)

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        return [((TENANT, TASK), Selector(seen=10, flagged=2)), ((TENANT, TASK), Selector(seen=5, flagged=1))]

    def labelled(self) -> Iterable[tuple[QueueName, Labelled]]:
        return [((TENANT, TASK), Labelled(labelled=1, skipped=1))]

    def current(self) -> Bundle:
        return self.bundle

    async def write(self, label: Label) -> None:
        if self.away:
            raise Retryable("Kafka is away")
        self.written.append(label)
