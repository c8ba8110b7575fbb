"""The use cases: decide about traffic, and let experts judge what was picked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas.bundle import Bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Feedback, Interaction
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, NotFound, Rejected, Retryable
from services.triage.domain.labels import SKIPPED, Judgement, label
from services.triage.domain.leases import Lease, Signer
from services.triage.domain.queue import Queue, QueueName
from services.triage.domain.rows import Item, Remembered
from services.triage.domain.selection import Budget, Decision, Selector
from services.triage.domain.signals import answer_text, asked_about, score, signals
from services.triage.ports import Bundles, Labels, Tables


@dataclass(frozen=True)
class Considered:
    """What came of an interaction or of feedback.

    Attributes:
        remembered: What is to be known of the request from now on.
        selector: What is to be known of its tenant and task; nothing when that has not changed.
        edge_case: For the experts; nothing when it was not picked.
    """

    remembered: Remembered
    selector: Selector | None = None
    edge_case: EdgeCase | None = None


def consider(
    interaction: Interaction,
    record: bytes,
    known: Remembered,
    selector: Selector,
    bundle: Bundle,
    clock: Clock,
    exploration: float = 0.0,
) -> Considered | None:
    """Decide about an interaction; nothing when it is none to ask about, was decided about before, or was erased.

    Args:
        interaction: To decide about.
        record: Its bytes, as the topic holds them.
        known: What is known of the request already.
        selector: Of its tenant and task.
        bundle: Holds the budget.
        clock: Gives time and chance.
        exploration: Least part of the budget that is spent at random, whatever the bundle says.

    Raises:
        Rejected: The bundle does not know its tenant, so there is no budget for it.
    """
    if known.erased or known.decided or not asked_about(interaction):
        return None
    said = tuple(each for each in known.feedback if each.tenant == interaction.tenant)
    found = signals(interaction, said, function_call=wants_call(bundle, interaction.task))
    selector, decision = selector.decide(score(found), _budget(bundle, interaction.tenant, exploration), clock.chance())
    remembered = Remembered(
        partition=known.partition,
        decided=True,
        flagged=decision.flagged,
        interaction=b"" if decision.flagged else record,
        feedback=said,
    )
    edge_case = _edge_case(interaction, said, bundle, decision, clock) if decision.flagged else None
    return Considered(remembered, selector, edge_case)


def reconsider(
    feedback: Feedback, known: Remembered, selector: Selector, bundle: Bundle, clock: Clock
) -> Considered | None:
    """Decide again about an interaction that was not picked; nothing when the feedback is a repeat, or all was erased.

    Feedback that comes before its interaction waits for it.

    Raises:
        Rejected: The request is another tenant's, or the bundle does not know its tenant.
    """
    if known.erased or any(each.feedback_id == feedback.feedback_id for each in known.feedback):
        return None
    said = (*known.feedback, feedback)
    waiting = Remembered(
        partition=known.partition,
        decided=known.decided,
        flagged=known.flagged,
        interaction=known.interaction,
        feedback=said,
    )
    if not known.decided or known.flagged:
        return Considered(waiting)
    interaction: Interaction = codec(Topic.INTERACTIONS).decode(known.interaction)
    if feedback.tenant != interaction.tenant:
        raise Rejected(f"tenant: {feedback.tenant!r} has no say in a request of {interaction.tenant!r}")
    function_call = wants_call(bundle, interaction.task)
    before = score(signals(interaction, known.feedback, function_call=function_call))
    now = score(signals(interaction, said, function_call=function_call))
    if now <= before:
        return Considered(waiting)
    selector, decision = selector.reconsider(now, _budget(bundle, interaction.tenant), clock.chance())
    if not decision.flagged:
        return Considered(waiting, selector)
    flagged = Remembered(partition=known.partition, decided=True, flagged=True, feedback=said)
    return Considered(flagged, selector, _edge_case(interaction, said, bundle, decision, clock))


def wants_call(bundle: Bundle, task: str) -> bool:
    """Say whether a task wants a function call for an answer."""
    return task in bundle.tasks and bundle.tasks[task].answers == "function-call"


def _budget(bundle: Bundle, tenant: str, exploration: float = 0.0) -> Budget:
    if tenant not in bundle.tenants:
        raise Rejected(f"tenant: {tenant!r} is not in bundle {bundle.version}, so there is no budget for it")
    known = bundle.tenants[tenant]
    return Budget(share=known.expert_share, exploration=max(known.exploration_share, exploration))


def _edge_case(
    interaction: Interaction, feedback: Sequence[Feedback], bundle: Bundle, decision: Decision, clock: Clock
) -> EdgeCase:
    found = signals(interaction, feedback, function_call=wants_call(bundle, interaction.task))
    return EdgeCase(
        request_id=interaction.request_id,
        tenant=interaction.tenant,
        task=interaction.task,
        flagged_at=clock.now(),
        score=score(found),
        threshold=decision.threshold,
        explored=decision.explored,
        propensity=decision.propensity,
        signals=found,
        messages=interaction.messages,
        tools=interaction.tools,
        answer=answer_text(interaction),
        model=interaction.model,
        model_version=interaction.model_version,
        sum_logprob=interaction.sum_logprob,
        sensitivity=interaction.sensitivity,
        bundle_version=interaction.bundle_version,
    )


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
        while (request_id := self.queue.lease(now, until, tenant=tenant, task=task)) is not None:
            item = self.tables.item(request_id)
            if item is not None and not item.outcome:
                token = self.signer.sign(Lease(request_id, expert, until))
                return Claimed(codec(Topic.EDGE_CASES).decode(item.edge_case), token, until)
            self.queue.remove(request_id)  # its partition has moved to another replica
        of = "".join(f" for {what} {name}" for what, name in (("tenant", tenant), ("task", task)) if name)
        raise NotFound(f"nothing is open{of}")

    async def submit(self, token: str, judgement: Judgement) -> str:
        """Write a label for a leased item, and return its id once it is acknowledged.

        Raises:
            InvalidArgument: The lease is not one, or the judgement contradicts itself.
            FailedPrecondition: The lease has expired, or the item is done.
            NotFound: This replica does not hold the item.
            Retryable: The label was not acknowledged; submit again.
        """
        now = self.clock.now()
        lease = self.signer.check(token, now)
        self.tables.check_ready()
        item = self._open_item(lease.request_id)
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

    def _open_item(self, request_id: str) -> EdgeCase:
        item: Item | None = self.tables.item(request_id)
        if item is None:
            raise NotFound("lease: its item is not in this replica's queue")
        if item.outcome or self.queue.settled(request_id):
            raise FailedPrecondition(f"lease: its item is done already ({item.outcome or 'labelled'})")
        edge_case: EdgeCase = codec(Topic.EDGE_CASES).decode(item.edge_case)
        return edge_case
