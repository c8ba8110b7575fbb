"""What triage has outside of itself, in memory."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from schemas.bundle import Bundle
from schemas.events import EdgeCase, Erasure, Event, Label, ReviewAction
from services.runtime.clock import Clock
from services.runtime.errors import Retryable
from services.triage import contributions, quality
from services.triage.backlog import Backlog
from services.triage.desk import Desk
from services.triage.domain.leases import Signer
from services.triage.domain.queue import QueueName
from services.triage.domain.rows import Item
from services.triage.domain.selection import Selector
from tests.unit.triage.builders import NOW, TASK, TENANT, bundle, edge_case


class Actions:
    """What went on record; each is acknowledged at once, unless Kafka is away."""

    def __init__(self) -> None:
        self.recorded: list[ReviewAction] = []
        self.is_full = False
        self.unacknowledged: list[asyncio.Future[None]] = []
        self.acknowledges = True

    def check_room(self) -> None:
        if self.is_full:
            raise Retryable("Kafka is away")

    def record(self, action: ReviewAction) -> asyncio.Future[None]:
        self.recorded.append(action)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self.acknowledges:
            done.set_result(None)
        else:
            self.unacknowledged.append(done)
        return done

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Who did what, and the detail."""
        return [(each.expert, each.action, str(each.detail)) for each in self.recorded]


class Items:
    """Rows of items in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, Item] = {}
        self.scrubbed = 0

    def get(self, request_id: str) -> Item | None:
        return self.rows.get(request_id)

    def put(self, request_id: str, item: Item) -> None:
        self.rows[request_id] = item

    def delete(self, request_id: str) -> None:
        del self.rows[request_id]

    def before(self, time: datetime) -> Iterable[str]:
        return [name for name, row in self.rows.items() if row.edge_case and row.edge_case.flagged_at < time]

    def scrub(self) -> None:
        self.scrubbed += 1


class Replica(Actions):
    """A desk over its own copy of what is on the topics; it may lag behind them."""

    def __init__(
        self, topics: "Topics", name: str = "", known: Bundle | None = None, lease_seconds: float = 60
    ) -> None:
        super().__init__()
        self.topics = topics
        self.bundle = known or bundle()
        self.behind: list[Event] | None = None
        self.items = Items()
        ids = count(1)
        self.clock = Clock(
            now=lambda: topics.now, monotonic=lambda: topics.now.timestamp(), new_id=lambda: f"{name}{next(ids)}"
        )
        self.backlog = Backlog(self.items, self.clock)
        self.backlog._complete = True
        self.desk = Desk(
            backlog=self.backlog,
            decided=self,
            labels=self,
            actions=self,
            bundles=self,
            signer=Signer(b"secret"),
            lease_seconds=lease_seconds,
            clock=self.clock,
        )

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        return [
            ((TENANT, TASK), Selector(seen=10, flagged=2)),
            ((TENANT, TASK), Selector(seen=5, flagged=1)),
            (("other", TASK), Selector(seen=7)),
        ]

    def current(self) -> Bundle:
        return self.bundle

    async def write(self, label: Label) -> None:
        if self.topics.away:
            raise Retryable("Kafka is away")
        self.topics.append(label)

    def record(self, action: ReviewAction) -> asyncio.Future[None]:
        done = super().record(action)
        if not self.topics.away:
            self.topics.append(action)
        return done

    def take(self, event: Event) -> None:
        """Take in what is on a topic."""
        if isinstance(event, EdgeCase):
            self.backlog.take_edge_case(event)
        elif isinstance(event, Label):
            self.backlog.take_label(event)
        elif isinstance(event, Erasure):
            self.backlog.take_erasure(event)
        elif isinstance(event, ReviewAction):
            self.backlog.take_action(event)

    def catch_up(self) -> None:
        """Take in what it lags behind."""
        behind, self.behind = self.behind or [], None
        for event in behind:
            self.take(event)


class Topics:
    """What is on record, in one order, and who reads it."""

    def __init__(self) -> None:
        self.now = NOW
        self.away = False
        self.events: list[Event] = []
        self.replicas: list[Replica] = []

    def replica(self, name: str = "") -> Replica:
        """Start a replica, which reads all there is."""
        replica = Replica(self, name)
        self.replicas.append(replica)
        for event in self.events:
            replica.take(event)
        return replica

    def append(self, event: Event) -> None:
        """Put an event on record; who does not lag reads it at once."""
        self.events.append(event)
        for replica in self.replicas:
            if replica.behind is None:
                replica.take(event)
            else:
                replica.behind.append(event)

    def add(self, request_id: str = "r1", **changes: Any) -> None:
        """Put an edge case on record."""
        self.append(edge_case(request_id, **{"value": 0.5, **changes}))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    @property
    def labels(self) -> list[Label]:
        """All labels on record."""
        return [event for event in self.events if isinstance(event, Label)]


class World(Replica):
    """The only replica there is, and its topics."""

    def __init__(self, known: Bundle | None = None, lease_seconds: float = 60) -> None:
        topics = Topics()
        super().__init__(topics, "", known, lease_seconds)
        topics.replicas.append(self)

    def add(self, request_id: str = "r1", **changes: Any) -> None:
        """Put an item before the experts, at the value of its score."""
        self.topics.add(request_id, **{"value": changes.get("score", 0.5), **changes})

    @property
    def written(self) -> list[Label]:
        """All labels on record."""
        return self.topics.labels

    @property
    def now(self) -> datetime:
        """The time."""
        return self.topics.now

    @now.setter
    def now(self, now: datetime) -> None:
        self.topics.now = now


class Told:
    """A record that answers the queries about experts, each by its name, as it is told; others it has no rows for."""

    def __init__(self, **rows: Sequence[dict[str, Any]]) -> None:
        self.told = {name.replace("_", "-"): [*each] for name, each in rows.items()}
        self.asked: list[str] = []

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        self.asked.append(statement)
        queries = {**quality.QUERIES, **contributions.QUERIES}.values()
        names = (query.name for query in queries if statement.startswith(query.sql.partition("{since}")[0]))
        return self.told.get(next(names, ""), [])
