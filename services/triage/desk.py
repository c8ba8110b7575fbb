"""The use cases of the experts: let them judge what was picked."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.codecs import codec
from schemas.events import EdgeCase
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, NotFound, Retryable
from services.triage.domain.answers import wants_call
from services.triage.domain.labels import SKIPPED, Judgement, label
from services.triage.domain.leases import Lease, Signer
from services.triage.domain.queue import Queue, QueueName
from services.triage.domain.rows import Item
from services.triage.ports import Bundles, Labels, Tables


@dataclass(frozen=True)
class Claimed:
    """An item in an expert's hands, and the token to be shown on submission."""

    item: EdgeCase
    token: str
    claimed_at: datetime
    expires_at: datetime


@dataclass(frozen=True)
class Extended:
    """A lease that holds for longer: its token takes the place of the one before."""

    token: str
    expires_at: datetime


@dataclass(frozen=True)
class QueueStats:
    """Totals of one tenant and task."""

    tenant: str
    task: str
    seen: int
    flagged: int
    open: int
    leased: int
    labelled: int
    skipped: int


@dataclass(frozen=True)
class Desk:
    """Where experts get and return items.

    Attributes:
        queue: The open items.
        tables: What the queue is a view of.
        labels: Where judgements go.
        bundles: Says what a task wants for an answer.
        signer: Of leases.
        lease_seconds: How long an expert may hold an item.
        clock: Gives time and ids.
    """

    queue: Queue
    tables: Tables
    labels: Labels
    bundles: Bundles
    signer: Signer
    lease_seconds: float
    clock: Clock

    def claim(self, expert: str, *, tenant: str = "", task: str = "") -> Claimed:
        """Lease the most valuable open item to an expert.

        Raises:
            NotFound: Nothing is open.
            Retryable: The tables are not up to date yet.
        """
        self.tables.check_ready()
        now = self.clock.now()
        until = now + timedelta(seconds=self.lease_seconds)
        while (request_id := self.queue.lease(now, until, expert, tenant=tenant, task=task)) is not None:
            item = self.tables.item(request_id)
            if item is not None and not item.outcome:
                return self._claimed(item, Lease(request_id, expert, until), now)
            self.queue.remove(request_id)  # its partition has moved to another replica
        of = "".join(f" for {what} {name}" for what, name in (("tenant", tenant), ("task", task)) if name)
        raise NotFound(f"nothing is open{of}")

    def held(self, request_id: str, expert: str) -> Claimed:
        """Return an item once more to the expert who holds it.

        Raises:
            NotFound: They do not, whether or not there is such an item.
            Retryable: The tables are not up to date yet.
        """
        self.tables.check_ready()
        hold = self.queue.held(request_id, self.clock.now())
        item = self.tables.item(request_id)
        if hold is None or hold.expert != expert or item is None or item.outcome:
            raise NotFound("you do not hold this item; claim the next")
        return self._claimed(item, Lease(request_id, expert, hold.until), hold.since)

    def extend(self, token: str) -> Extended:
        """Let an expert hold an item for as long again, from now on. Raises as `submit` does."""
        now = self.clock.now()
        lease, _ = self._leased(token, now)
        until = now + timedelta(seconds=self.lease_seconds)
        self.queue.extend(lease.request_id, lease.expert, now, until)
        return Extended(self.signer.sign(Lease(lease.request_id, lease.expert, until)), until)

    def release(self, token: str) -> None:
        """Hand an item back: it is open again, for whoever claims next. Raises as `submit` does."""
        lease, _ = self._leased(token, self.clock.now())
        self.queue.release(lease.request_id)

    async def submit(self, token: str, judgement: Judgement) -> str:
        """Write a label for a leased item, and return its id once it is acknowledged.

        Raises:
            InvalidArgument: The lease is not one, or the judgement contradicts itself.
            FailedPrecondition: The lease has expired, somebody else has one, or the item is done.
            NotFound: This replica does not hold the item.
            Retryable: The label was not acknowledged; submit again.
        """
        now = self.clock.now()
        lease, item = self._leased(token, now)
        made = label(
            item,
            lease,
            judgement,
            label_id=self.clock.new_id(),
            now=now,
            function_call=wants_call(self.bundles.current(), item.task),
        )
        self.queue.settle(lease.request_id)
        try:
            await self.labels.write(made)
        except Retryable:
            self.queue.unsettle(lease.request_id)
            raise
        return made.label_id

    async def skip(self, token: str, reason: str) -> None:
        """Say that an item is not worth a label; it is not asked again. Raises as `submit` does."""
        await self.submit(token, Judgement(SKIPPED, comment=reason))

    def stats(self) -> list[QueueStats]:
        """Return the totals of every tenant and task, in their order.

        Raises:
            Retryable: The tables are not up to date yet.
        """
        self.tables.check_ready()
        seen: Counter[QueueName] = Counter()
        flagged: Counter[QueueName] = Counter()
        labelled: Counter[QueueName] = Counter()
        skipped: Counter[QueueName] = Counter()
        for name, selector in self.tables.selectors():
            seen[name] += selector.seen
            flagged[name] += selector.flagged
        for name, done in self.tables.labelled():
            labelled[name] += done.labelled
            skipped[name] += done.skipped
        counts = self.queue.counts(self.clock.now())
        return [
            QueueStats(*name, seen[name], flagged[name], *counts.get(name, (0, 0)), labelled[name], skipped[name])
            for name in sorted({*seen, *labelled, *counts})
        ]

    def _claimed(self, item: Item, lease: Lease, since: datetime) -> Claimed:
        edge_case: EdgeCase = codec(Topic.EDGE_CASES).decode(item.edge_case)
        return Claimed(edge_case, self.signer.sign(lease), since, lease.expires_at)

    def _leased(self, token: str, now: datetime) -> tuple[Lease, EdgeCase]:
        """Return the lease of a token, and its item, which is open."""
        lease = self.signer.check(token, now)
        self.tables.check_ready()
        item = self.tables.item(lease.request_id)
        if item is None:
            raise NotFound("lease: its item is not in this replica's queue")
        if item.outcome or self.queue.settled(lease.request_id):
            raise FailedPrecondition(f"lease: its item is done already ({item.outcome or 'labelled'})")
        hold = self.queue.held(lease.request_id, now)
        if hold is not None and hold.expert != lease.expert:
            raise FailedPrecondition("lease: another expert has its item now; claim the next")
        return lease, codec(Topic.EDGE_CASES).decode(item.edge_case)
