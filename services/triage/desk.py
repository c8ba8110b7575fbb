"""The use cases of the experts: let them judge what was picked, each within what is theirs to see."""

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from msgspec import structs

from schemas.events import EdgeCase, Label, ReviewAction
from schemas.labels import Kind, Outcome, opinions
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Retryable
from services.triage.backlog import Backlog
from services.triage.domain import holds
from services.triage.domain.access import Person
from services.triage.domain.holds import Hold
from services.triage.domain.labels import Judgement, label
from services.triage.domain.leases import Lease, Signer
from services.triage.domain.queue import QueueName, Shelf
from services.triage.domain.rows import Item
from services.triage.ports import Actions, Bundles, Decided, Labels

# So long after it was written a label may be taken back by who wrote it.
UNDO_SECONDS = 600.0
_ACTIONS = {Outcome.SKIPPED: holds.SKIPPED, Outcome.ESCALATED: holds.ESCALATED}


@dataclass(frozen=True)
class Claimed:
    """An item in an expert's hands.

    Attributes:
        item: The item.
        kind: As what it is to be judged; who is asked gold is not to know it.
        guideline: What the operator wants of answers.
        repeats: How often the same was asked since.
        labels: What others said of it, where it is theirs to decide between that.
        token: To be shown on submission.
        claimed_at: Since when they hold it.
        expires_at: Until when.
    """

    item: EdgeCase
    kind: Kind
    guideline: str
    repeats: int
    labels: tuple[Label, ...]
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
        backlog: The items, and who holds them.
        decided: What was decided about the traffic.
        labels: Where judgements go.
        actions: Where it goes on record who did what.
        bundles: Says what a task wants for an answer.
        signer: Of leases.
        lease_seconds: How long an expert may hold an item.
        clock: Gives time and ids.
    """

    backlog: Backlog
    decided: Decided
    labels: Labels
    actions: Actions
    bundles: Bundles
    signer: Signer
    lease_seconds: float
    clock: Clock

    async def claim(self, person: Person, *, tenant: str = "", task: str = "", to_decide: bool = False) -> Claimed:
        """Lease the most valuable open item, of those that they may see, to an expert; now and then gold in its place.

        Args:
            person: Who claims.
            tenant: Only of this tenant; empty: any.
            task: Only of this task; empty: any.
            to_decide: Only where it is to be decided between what others said.

        Raises:
            NotFound: Nothing is open for them.
            Retryable: The queue is not complete yet, or the claim cannot be put on record.
        """
        self._check_ready()
        until = self._until()

        def may(shelf: Shelf) -> bool:
            return person.may_judge(shelf) and (not to_decide or shelf.kind is Kind.ADJUDICATION)

        while (request_id := self.backlog.lease(until, may, person.name, tenant=tenant, task=task)) is not None:
            claimed = await self._claim(person, self._or_gold(person, request_id, until), until)
            if claimed is not None:
                return claimed
        of = "".join(f" for {what} {name}" for what, name in (("tenant", tenant), ("task", task)) if name)
        raise NotFound(f"nothing is {'to be decided' if to_decide else 'open'}{of}")

    def held(self, person: Person, request_id: str) -> Claimed:
        """Return an item once more to the expert who holds it.

        Raises:
            NotFound: They do not, whether or not there is such an item.
            Retryable: The queue is not complete yet.
        """
        self._check_ready()
        hold, item = self.backlog.held(request_id), self.backlog.item(request_id)
        if hold is None or hold.expert != person.name or item is None or not _may_judge(person, item, hold):
            raise NotFound("you do not hold this item; claim the next")
        return self._claimed(item, Lease(request_id, hold.lease_id, person.name, "", hold.until), hold.since)

    async def extend(self, person: Person, token: str) -> Extended:
        """Let an expert hold an item for as long again, from now on. Raises as `submit` does."""
        lease, item, kind = self._leased(person, token)
        longer = replace(lease, expires_at=self._until())
        await self._on_record(person, holds.EXTENDED, item, longer, longer.expires_at, kind)
        return Extended(self.signer.sign(longer), longer.expires_at)

    async def release(self, person: Person, token: str) -> None:
        """Hand an item back: it is open again, for whoever claims next. Raises as `submit` does."""
        lease, item, kind = self._leased(person, token)
        await self._on_record(person, holds.RELEASED, item, lease, self.clock.now(), kind)

    async def submit(self, person: Person, token: str, judgement: Judgement) -> str:
        """Write a label for an item that they hold, and return its id.

        By then both are acknowledged: the label, and on record that it was submitted. Its id is that of the lease: who
        submits the same again, after an answer that was lost, is answered the same.

        Raises:
            InvalidArgument: The lease is not one, or the judgement contradicts itself.
            PermissionDenied: The lease is somebody else's, or the item is no longer theirs to see.
            FailedPrecondition: The lease has expired or was handed back, or the item is done.
            NotFound: There is no such item.
            Retryable: The label was not acknowledged; submit again.
        """
        lease, item = self._own(person, token)
        said = next((each for each in item.labels if each.label_id == lease.lease_id), None)
        if (
            said is not None
            and (said.outcome, said.comment) == (judgement.outcome, judgement.comment)
            and (said.outcome != Outcome.CORRECTED or said.answer == judgement.answer.strip())
        ):
            return said.label_id
        edge_case, kind = self._check_held(person, lease, item)
        if kind is Kind.GOLD and judgement.outcome == Outcome.ESCALATED:
            kind = Kind.OVERLAP  # it says that what is settled is not right, so a lead is to hear of it
        if judgement.outcome == Outcome.ESCALATED and kind is Kind.ADJUDICATION:
            raise InvalidArgument("outcome: this is for you to decide; there is nobody to hand it to")
        made = label(
            edge_case,
            lease,
            kind,
            judgement,
            now=self.clock.now(),
            function_call=self.bundles.current().wants_call(edge_case.task),
        )
        self.backlog.look_out(made.label_id)
        await self.labels.write(made)
        await self.backlog.arrived(made.label_id)
        action = _ACTIONS.get(Outcome(judgement.outcome), holds.SUBMITTED)
        detail = judgement.outcome if action == holds.SUBMITTED else ""
        # It is written even where nobody waits for it any more.
        await asyncio.shield(self._record(person, action, edge_case, detail, lease.lease_id, made.labelled_at))
        return made.label_id

    async def skip(self, person: Person, token: str, reason: str) -> None:
        """Say that an item is not worth a label; it is not asked again. Raises as `submit` does."""
        await self.submit(person, token, Judgement(Outcome.SKIPPED, comment=reason))

    def undoable(self, person: Person) -> Label | None:
        """Return the label that somebody may take back."""
        last = self.backlog.latest(person.name)
        is_open = last is not None and self.clock.now() - last.labelled_at <= timedelta(seconds=UNDO_SECONDS)
        return last if is_open and last is not None and last.outcome != Outcome.RETRACTED else None

    async def undo(self, person: Person) -> Claimed:
        """Take back the label that they wrote last, and give them its item again.

        Raises:
            NotFound: They have written none of late.
            FailedPrecondition: Others have judged the item since.
            Retryable: It cannot be put on record.
        """
        self._check_ready()
        last, now = self.undoable(person), self.clock.now()
        if last is None:
            raise NotFound(f"there is nothing to undo: no label of yours of the last {UNDO_SECONDS / 60:.0f} minutes")
        item = self.backlog.item(last.request_id)
        if item is None or item.edge_case is None or item.erased:
            raise NotFound("there is nothing to undo: the item is gone")
        others = [each for each in item.labels if each.expert != person.name and each.kind != Kind.GOLD]
        if any(each.labelled_at > last.labelled_at for each in others):
            raise FailedPrecondition("others have judged this item since; escalate it, or ask a lead")
        taken_back = structs.replace(
            last, outcome=Outcome.RETRACTED, labelled_at=now, answer="", delta=(), distance=0.0, comment=""
        )
        self.backlog.look_out(last.label_id)
        await self.labels.write(taken_back)
        await self.backlog.arrived(last.label_id)
        await asyncio.shield(self._record(person, "undone", item.edge_case))
        until = self._until()
        if self.backlog.lease_one(last.request_id, until):
            claimed = await self._claim(person, last.request_id, until)
            if claimed is not None:
                return claimed
        raise NotFound("your label is taken back; somebody else has the item now")

    def stats(self, person: Person) -> list[QueueStats]:
        """Return the totals of each tenant that is theirs, and task, in their order; of items, those they may judge.

        What was seen is of the partitions of this replica, all else of the time that the topics hold.

        Raises:
            Retryable: The queue is not complete yet.
        """
        self.backlog.check_ready()
        seen: Counter[QueueName] = Counter()
        for name, selector in self.decided.selectors():
            seen[name] += selector.seen
        counts, totals = self.backlog.counts(person.may_judge), self.backlog.totals()
        found = []
        for name in sorted({*seen, *totals, *counts}):
            if person.may_see_tenant(name[0]):
                flagged, labelled, skipped = totals.get(name, (0, 0, 0))
                open_, held = counts.get(name, (0, 0))
                found.append(QueueStats(*name, seen[name], flagged, open_, held, labelled, skipped))
        return found

    def to_decide(self, person: Person) -> int:
        """Return how many items wait for a decision between what others said, that is theirs to make."""
        counts = self.backlog.counts(lambda shelf: shelf.kind is Kind.ADJUDICATION and person.may_judge(shelf))
        return sum(open_ for open_, _ in counts.values())

    def _until(self) -> datetime:
        return self.clock.now() + timedelta(seconds=self.lease_seconds)

    def _check_ready(self) -> None:
        self.backlog.check_ready()
        self.actions.check_room()

    async def _claim(self, person: Person, request_id: str, until: datetime) -> Claimed | None:
        """Put on record that somebody claims an item which is kept for them; None where somebody else was first."""
        item = self.backlog.item(request_id)
        try:
            if item is None or item.askable is None or item.edge_case is None:
                return None
            lease, kind = Lease(request_id, self.clock.new_id(), person.name, "", until), item.askable
            try:
                await self._on_record(person, holds.CLAIMED, item.edge_case, lease, until, kind)
            except (Retryable, asyncio.CancelledError):
                # It goes on record all the same, and who asked will not know: they are told no, or have gone.
                self._record(person, holds.RELEASED, item.edge_case, lease_id=lease.lease_id, until=self.clock.now())
                raise
        finally:
            self.backlog.settle(request_id)
        hold = self.backlog.held(request_id)
        if hold is None or hold.lease_id != lease.lease_id:
            return None
        return self._claimed(item, lease, hold.since)

    def _claimed(self, item: Item, lease: Lease, since: datetime) -> Claimed:
        assert item.edge_case is not None
        assert item.askable is not None
        said = opinions(item.labels) if item.askable is Kind.ADJUDICATION else ()
        task = self.bundles.current().tasks.get(item.edge_case.task)
        guideline, version = (task.guideline, task.guideline_version) if task is not None else ("", "")
        token = self.signer.sign(replace(lease, guideline_version=version))
        return Claimed(item.edge_case, item.askable, guideline, item.repeats, said, token, since, lease.expires_at)

    def _or_gold(self, person: Person, request_id: str, until: datetime) -> str:
        """Return what an expert is asked in an item's place: as often as the bundle wants, what is known already."""
        item = self.backlog.item(request_id)
        if item is None or item.edge_case is None or item.wanted is Kind.ADJUDICATION:
            return request_id
        tenant, task, bundle = item.edge_case.tenant, item.edge_case.task, self.bundles.current()
        # An item may outlive its tenant in the bundle.
        if tenant not in bundle.tenants or self.clock.chance() >= bundle.experts_of(tenant, task).gold:
            return request_id
        gold = self.backlog.lease_gold(until, person.may_judge, person.name, tenant=tenant, task=task)
        if gold is None:
            return request_id
        self.backlog.settle(request_id)
        return gold

    def _own(self, person: Person, token: str) -> tuple[Lease, Item]:
        """Return a lease and its item. Whose it is not learns nothing of the item, not even that it is there."""
        lease = self.signer.check(token, self.clock.now())
        self._check_ready()
        if lease.expert != person.name:
            self._record(person, "refused", detail="the lease is somebody else's")
            raise PermissionDenied("lease: is somebody else's")
        item = self.backlog.item(lease.request_id)
        if item is None or item.edge_case is None:
            raise NotFound("lease: its item is gone")
        return lease, item

    def _check_held(self, person: Person, lease: Lease, item: Item) -> tuple[EdgeCase, Kind]:
        assert item.edge_case is not None
        if item.askable is None or any(each.label_id == lease.lease_id for each in item.labels):
            raise FailedPrecondition("lease: its item is done already")
        hold = self.backlog.held(lease.request_id)
        if hold is None or hold.lease_id != lease.lease_id:
            raise FailedPrecondition("lease: is over, for the item was handed back or judged; claim the next")
        if hold.kind is not item.askable:
            raise FailedPrecondition("lease: is over, for others have judged the item since; claim the next")
        if not _may_judge(person, item, hold):  # any longer
            self._record(person, "refused", item.edge_case, "no longer within tenants, clearance and role")
            raise PermissionDenied("lease: its item is no longer yours to see")
        return item.edge_case, hold.kind

    def _leased(self, person: Person, token: str) -> tuple[Lease, EdgeCase, Kind]:
        lease, item = self._own(person, token)
        return lease, *self._check_held(person, lease, item)

    async def _on_record(
        self, person: Person, action: str, item: EdgeCase, lease: Lease, until: datetime, kind: Kind
    ) -> None:
        """Put on record what is done with a lease, and wait until it is read back: then it holds in every replica."""
        action_id = self.clock.new_id()
        self.backlog.look_out(action_id)
        self._record(person, action, item, kind, lease.lease_id, until, action_id)
        await self.backlog.arrived(action_id)

    def _record(
        self,
        person: Person,
        action: str,
        item: EdgeCase | None = None,
        detail: str = "",
        lease_id: str = "",
        until: datetime | None = None,
        action_id: str = "",
    ) -> asyncio.Future[None]:
        """Put on record what somebody did; what is returned is done when that is acknowledged."""
        return self.actions.record(
            ReviewAction(
                action_id=action_id or self.clock.new_id(),
                at=self.clock.now(),
                expert=person.name,
                action=action,
                request_id=item.request_id if item is not None else "",
                tenant=item.tenant if item is not None else "",
                task=item.task if item is not None else "",
                detail=detail,
                lease_id=lease_id,
                until=until,
            )
        )


def _may_judge(person: Person, item: Item, hold: Hold) -> bool:
    """Say whether what somebody holds is what they claimed, and still theirs to judge."""
    case = item.edge_case
    if case is None or item.askable is not hold.kind:
        return False
    return person.may_judge(Shelf(case.tenant, case.task, case.sensitivity, hold.kind))
