"""The use case of the traffic: decide what is worth an expert's time."""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.bundle import Bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Feedback, Interaction
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Rejected
from services.triage.domain.answers import wants_call
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Budget, Decision, Selector
from services.triage.domain.signals import answer_text, asked_about, score, signals
from services.triage.domain.spans import on_record


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


def _budget(bundle: Bundle, tenant: str, exploration: float = 0.0) -> Budget:
    if tenant not in bundle.tenants:
        raise Rejected(f"tenant: {tenant!r} is not in bundle {bundle.version}, so there is no budget for it")
    known = bundle.tenants[tenant]
    return Budget(share=known.expert_share, exploration=max(known.exploration_share, exploration))


def _edge_case(
    interaction: Interaction, feedback: Sequence[Feedback], bundle: Bundle, decision: Decision, clock: Clock
) -> EdgeCase:
    found = signals(interaction, feedback, function_call=wants_call(bundle, interaction.task))
    # Of a call that the router read out of an answer the answer itself is not on record.
    flagged = on_record([each for each in interaction.findings if each.direction == "output"], interaction.answer)
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
        findings=flagged,
        citations=interaction.citations,
        memory_turns=interaction.memory_turns,
    )
