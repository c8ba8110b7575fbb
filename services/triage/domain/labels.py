"""What an expert may say of an item, turned into a label."""

from dataclasses import dataclass
from datetime import datetime

from schemas.events import EdgeCase, Label
from schemas.labels import Kind, Outcome
from services.runtime.calls import call_error
from services.runtime.errors import InvalidArgument
from services.triage.domain.deltas import delta
from services.triage.domain.leases import Lease
from services.triage.domain.texts import question_of

RATINGS = range(1, 6)
CONFIRMED, CORRECTED, UNSAFE = Outcome.CONFIRMED, Outcome.CORRECTED, Outcome.UNSAFE


@dataclass(frozen=True)
class Judgement:
    """What an expert said.

    Attributes:
        outcome: What they found.
        answer: The right answer, when corrected.
        comment: In the expert's words; the reason, when skipped or escalated.
        seconds_spent: Between claim and submission.
        rating: How good the model's answer was, from 1, useless, to 5; nothing when that was not said.
    """

    outcome: str
    answer: str = ""
    comment: str = ""
    seconds_spent: float = 0.0
    rating: int | None = None


def label(
    item: EdgeCase, lease: Lease, kind: Kind, judgement: Judgement, *, now: datetime, function_call: bool
) -> Label:
    """Return the label that a judgement makes of an item.

    Args:
        item: What was judged.
        lease: Under which.
        kind: As what the judgement was wanted.
        judgement: What was said.
        now: When it was said.
        function_call: Whether the item's task wants a function call for an answer.

    Raises:
        InvalidArgument: The judgement contradicts itself, or its answer is not what the task wants.
    """
    answer = _answer(item, judgement, function_call)
    if judgement.rating is not None and judgement.rating not in RATINGS:
        raise InvalidArgument(f"rating: must be from 1, useless, to 5, is {judgement.rating}")
    edits, distance = delta(item.answer, answer) if judgement.outcome == CORRECTED else ((), 0.0)
    return Label(
        label_id=lease.lease_id,
        request_id=item.request_id,
        tenant=item.tenant,
        task=item.task,
        expert=lease.expert,
        labelled_at=now,
        outcome=judgement.outcome,
        kind=kind,
        guideline_version=lease.guideline_version,
        answer=answer,
        model_answer=item.answer,
        delta=edits,
        distance=distance,
        comment=judgement.comment,
        seconds_spent=judgement.seconds_spent,
        rating=judgement.rating,
        sensitivity=item.sensitivity,
        bundle_version=item.bundle_version,
        question=question_of(item.messages),
        model=item.model,
        model_version=item.model_version,
        sum_logprob=item.sum_logprob,
        turns=len(item.messages),
        tools=len(item.tools),
        signals=item.signals,
        propensity=item.propensity,
        share=item.share,
    )


def _answer(item: EdgeCase, judgement: Judgement, function_call: bool) -> str:
    answer = judgement.answer.strip()
    if judgement.outcome in (Outcome.SKIPPED, Outcome.ESCALATED) and not judgement.comment.strip():
        raise InvalidArgument(f"comment: say why it is {judgement.outcome}")
    if judgement.outcome == CORRECTED:
        if not answer:
            raise InvalidArgument("answer: must be given when the outcome is corrected")
        if answer == item.answer.strip():
            raise InvalidArgument("answer: is the model's own; confirm it instead, or change it")
        problem = call_error(answer, item.tools) if function_call else None
        if problem is not None:
            raise InvalidArgument(f"answer: must be a call of one of the item's tools; {problem}")
        return answer
    if answer and answer != item.answer.strip():
        raise InvalidArgument(
            f"answer: only a corrected one may differ from the model's, outcome is {judgement.outcome}"
        )
    if judgement.outcome != CONFIRMED:
        return ""
    # An empty answer is a refusal, and a refusal may be right.
    problem = call_error(item.answer, item.tools) if function_call and item.answer else None
    if problem is not None:
        raise InvalidArgument(
            f"outcome: the model's answer is not a call of one of the item's tools ({problem}); correct it"
        )
    return item.answer
