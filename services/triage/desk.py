"""The use cases of the experts: let them judge what was picked, each within what is theirs to see."""

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.codecs import codec
from schemas.events import EdgeCase, ReviewAction
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, NotFound, PermissionDenied
from services.triage.domain.access import Person
from services.triage.domain.answers import wants_call
from services.triage.domain.labels import SKIPPED, Judgement, label
from services.triage.domain.leases import Lease, Signer
from services.triage.domain.queue import Queue, QueueName
from services.triage.domain.rows import Item
from services.triage.ports import Actions, Bundles, Labels, Tables


@dataclass(frozen=True)
class Claimed:
    """An item in an expert's hands, and the token to be shown on submission."""

    item: EdgeCase
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
        actions: Where it goes on record who did what.
        bundles: Says what a task wants for an answer.
        signer: Of leases.
        lease_seconds: How long an expert may hold an item.
        clock: Gives time and ids.
    """

    queue: Queue
    tables: Tables
    labels: Labels
    actions: Actions
    bundles: Bundles
    signer: Signer
    lease_seconds: float
    clock: Clock

    def claim(self, person: Person, *, tenant: str = "", task: str = "") -> Claimed:
        """Lease the most valuable open item, of those that they may see, to an expert.

        Raises:
            NotFound: Nothing is open for them.
            Retryable: The tables are not up to date yet, or it cannot be put on record.
        """
        self._check_ready()
        now = self.clock.now()
        until = now + timedelta(seconds=self.lease_seconds)
        while (request_id := self.queue.lease(now, until, person.may_see, tenant=tenant, task=task)) is not None:
            item = self.tables.item(request_id)
            if item is not None and not item.outcome:
                edge_case: EdgeCase = codec(Topic.EDGE_CASES).decode(item.edge_case)
                self._record(person, "claimed", edge_case)
                return Claimed(edge_case, self.signer.sign(Lease(request_id, person.name, until)), until)
            self.queue.remove(request_id)  # its partition has moved to another replica
        of = "".join(f" for {what} {name}" for what, name in (("tenant", tenant), ("task", task)) if name)
        raise NotFound(f"nothing is open{of}")

    async def submit(self, person: Person, token: str, judgement: Judgement) -> str:
        """Write a label for an item that they hold, and return its id.

        By then both are acknowledged: the label, and on record that it was submitted.

        Raises:
            InvalidArgument: The lease is not one, or the judgement contradicts itself.
            PermissionDenied: The lease is somebody else's, or the item is no longer theirs to see.
            FailedPrecondition: The lease has expired, or the item is done.
            NotFound: This replica does not hold the item.
            Retryable: The label was not acknowledged; submit again.
        """
        now = self.clock.now()
        lease = self.signer.check(token, now)
        self._check_ready()
        item = self._held_item(person, lease)
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
        except BaseException:  # also who goes away in the middle: if it was written after all, its record says so soon
            self.queue.unsettle(lease.request_id)
            raise
        action = "skipped" if judgement.outcome == SKIPPED else "submitted"
        # It is written even where nobody waits for it any more.
        await asyncio.shield(self._record(person, action, item, "" if action == "skipped" else judgement.outcome))
        return made.label_id

    async def skip(self, person: Person, token: str, reason: str) -> None:
        """Say that an item is not worth a label; it is not asked again. Raises as `submit` does."""
        await self.submit(person, token, Judgement(SKIPPED, comment=reason))

    def stats(self, person: Person) -> list[QueueStats]:
        """Return the totals of each tenant that is theirs, and task, in their order; of items, those they may see.

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
        counts = self.queue.counts(self.clock.now(), person.may_see)
        return [
            QueueStats(*name, seen[name], flagged[name], *counts.get(name, (0, 0)), labelled[name], skipped[name])
            for name in sorted({*seen, *labelled, *counts})
            if person.may_see_tenant(name[0])
        ]

    def _check_ready(self) -> None:
        self.tables.check_ready()
        self.actions.check_room()

    def _held_item(self, person: Person, lease: Lease) -> EdgeCase:
        """Return the item of a lease. Who does not hold it learns nothing of the item, not even that it is there."""
        if lease.expert != person.name:
            self._record(person, "refused", detail="the lease is somebody else's")
            raise PermissionDenied("lease: is somebody else's")
        item: Item | None = self.tables.item(lease.request_id)
        if item is None:
            raise NotFound("lease: its item is not in this replica's queue")
        if item.outcome or self.queue.settled(lease.request_id):
            raise FailedPrecondition(f"lease: its item is done already ({item.outcome or 'labelled'})")
        edge_case: EdgeCase = codec(Topic.EDGE_CASES).decode(item.edge_case)
        if not person.may_see(edge_case.tenant, edge_case.sensitivity):  # any longer
            self._record(person, "refused", edge_case, "no longer within tenants and clearance")
            raise PermissionDenied("lease: its item is no longer yours to see")
        return edge_case

    def _record(
        self, person: Person, action: str, item: EdgeCase | None = None, detail: str = ""
    ) -> asyncio.Future[None]:
        """Put on record what somebody did; what is returned is done when that is acknowledged."""
        return self.actions.record(
            ReviewAction(
                action_id=self.clock.new_id(),
                at=self.clock.now(),
                expert=person.name,
                action=action,
                request_id=item.request_id if item is not None else "",
                tenant=item.tenant if item is not None else "",
                task=item.task if item is not None else "",
                detail=detail,
            )
        )
