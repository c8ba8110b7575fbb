"""What came of an answer, as a number: what models are judged by."""

from datetime import datetime

from schemas.bundle import Bundle
from schemas.events import EdgeCase, Feedback, Interaction, Label, Outcome
from schemas.labels import JUDGEMENTS, Kind
from services.triage.domain.deltas import delta
from services.triage.domain.labels import CONFIRMED
from services.triage.domain.signals import ASKED_AGAIN, RATED_WORST, edited
from services.triage.domain.texts import answer_of, question_of


def of_label(label: Label, bundle: Bundle) -> Outcome | None:
    """Return what a label says of the model that answered.

    Nothing when no model did, when the expert did not judge it, or when another one judged it before: an outcome is of
    the first word on an answer. Nor of gold questions, which say something of the expert, and of imported labels: who
    knows how those were picked?

    Args:
        label: What an expert said.
        bundle: Tells generic models from specialists.
    """
    judged = label.outcome in JUDGEMENTS and label.kind == Kind.FIRST
    if not judged or not label.model_answer:  # an empty answer is a guardrail's refusal
        return None
    return _outcome(
        label,
        success=1.0 if label.outcome == CONFIRMED else 0.0,
        source="label",
        propensity=label.propensity,
        found_at=label.labelled_at,
        question=label.question,
        turns=label.turns,
        tools=label.tools,
        bundle=bundle,
    )


def of_feedback(feedback: Feedback, asked: Interaction | EdgeCase, bundle: Bundle) -> Outcome | None:
    """Return what feedback says of the model that answered; nothing when it says nothing, or another tenant gave it.

    It leaves as much doubt as triage's signals have: who edits an answer is likelier than not to have found it wrong.
    """
    said = asked.answer if isinstance(asked, EdgeCase) else answer_of(asked)
    if feedback.tenant != asked.tenant or not said:
        return None
    if feedback.kind == "rating" and feedback.rating is not None:
        success = (1 + RATED_WORST * feedback.rating) / 2
    elif feedback.kind in ("edit", "correct_answer"):
        distance = delta(said, feedback.text)[1]
        success = 1 - edited(distance) if distance > 0 else 1.0
    elif feedback.kind == "asked_again":
        success = 1 - ASKED_AGAIN
    else:
        return None
    return _outcome(
        asked,
        success=success,
        source="feedback",
        propensity=1.0,
        found_at=feedback.given_at,
        question=question_of(asked.messages),
        turns=len(asked.messages),
        tools=len(asked.tools),
        bundle=bundle,
    )


def _outcome(
    asked: Interaction | EdgeCase | Label,
    *,
    success: float,
    source: str,
    propensity: float,
    found_at: datetime,
    question: str,
    turns: int,
    tools: int,
    bundle: Bundle,
) -> Outcome | None:
    if not asked.model or not question:
        return None
    generic = bundle.models.get(asked.model)
    return Outcome(
        request_id=asked.request_id,
        tenant=asked.tenant,
        task=asked.task,
        found_at=found_at,
        source=source,
        success=success,
        propensity=propensity,
        model=asked.model,
        model_version=asked.model_version,
        tier=generic.tier if generic else "specialist",
        sum_logprob=asked.sum_logprob,
        question=question,
        turns=turns,
        tools=tools,
        sensitivity=asked.sensitivity,
        bundle_version=asked.bundle_version,
    )
