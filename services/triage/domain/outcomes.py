"""What came of an answer, as a number: what models are judged by."""

from datetime import datetime

from schemas.bundle import Bundle
from schemas.events import EdgeCase, Feedback, Interaction, Label, Outcome
from services.triage.domain.deltas import delta
from services.triage.domain.labels import CONFIRMED, SKIPPED
from services.triage.domain.signals import ASKED_AGAIN, RATED_WORST, answer_text, edited, question_text


def of_label(label: Label, asked: EdgeCase, bundle: Bundle) -> Outcome | None:
    """Return what a label says of the model that answered; nothing when no model did, or the expert did not judge it.

    Args:
        label: What an expert said.
        asked: Of what.
        bundle: Tells generic models from specialists.
    """
    if label.outcome == SKIPPED or not asked.answer:  # an empty answer is a guardrail's refusal
        return None
    success = 1.0 if label.outcome == CONFIRMED else 0.0
    return _outcome(asked, success, "label", asked.propensity, label.labelled_at, bundle)


def of_feedback(feedback: Feedback, asked: Interaction | EdgeCase, bundle: Bundle) -> Outcome | None:
    """Return what feedback says of the model that answered; nothing when it says nothing, or another tenant gave it.

    It leaves as much doubt as triage's signals have: who edits an answer is likelier than not to have found it wrong.
    """
    said = asked.answer if isinstance(asked, EdgeCase) else answer_text(asked)
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
    return _outcome(asked, success, "feedback", 1.0, feedback.given_at, bundle)


def _outcome(
    asked: Interaction | EdgeCase, success: float, source: str, propensity: float, found_at: datetime, bundle: Bundle
) -> Outcome | None:
    question = question_text(asked.messages)
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
        turns=len(asked.messages),
        tools=len(asked.tools),
        sensitivity=asked.sensitivity,
        bundle_version=asked.bundle_version,
    )
