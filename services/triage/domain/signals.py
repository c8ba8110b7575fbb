"""Reasons to think that an answer was wrong, each with the chance of that which it means by itself.

What they mean together is learned (`estimation`).
"""

import math
from collections.abc import Iterable, Sequence

from schemas.events import Feedback, Interaction, Signal
from services.runtime.calls import call_error
from services.triage.domain.deltas import delta
from services.triage.domain.neighbours import Known
from services.triage.domain.texts import answer_of

# How likely an answer is wrong, given one signal alone. None is certain, so that signals add up instead of drowning.
NOT_A_CALL = 0.95
CUT_SHORT = 0.9
REFUSED = 0.5
MASKED = 0.2
FLAGGED = 0.4
UNSURE = 0.5
UNINFORMED = 0.4
DRIFTED = 0.4
# From this cosine on a request is like one that experts were asked about.
FAMILIAR = 0.6
ASKED_AGAIN = 0.6
# A user who changed an answer found fault with it, however little they changed.
EDITED_AT_LEAST = 0.7
EDITED_AT_MOST = 0.95
RATED_WORST = 0.95

NAMES = (
    *(
        "unlikely",
        "other-function",
        "improbable",
        "doubtful",
        "format",
        "cut-short",
        "refused",
        "masked",
        "near-miss",
        "handed-on",
    ),
    *("uninformed", "similar", "called", "new", "drift", "rated", "outcome", "edit", "correct-answer", "asked-again"),
)


def asked_about(interaction: Interaction) -> bool:
    """Say whether an interaction may go to an expert: it is finished, and there is an answer or a refusal to judge."""
    if interaction.phase != "finished" or interaction.finish_reason in ("cancelled", "error"):
        return False
    return bool(interaction.answer or interaction.tool_calls or interaction.finish_reason == "refused")


def signals(
    interaction: Interaction,
    feedback: Sequence[Feedback],
    known: Known,
    *,
    function_call: bool,
    drifted: bool = False,
) -> tuple[Signal, ...]:
    """Return every signal of an interaction, strongest first.

    Args:
        interaction: A finished one.
        feedback: What was said of it until now.
        known: What experts said of others like it.
        function_call: Whether its task wants a function call for an answer.
        drifted: Whether the requests or answers of its task have changed of late.
    """
    found = [
        *(_doubtful_call(interaction) if function_call else _doubtful_text(interaction)),
        *_malformed(interaction, function_call),
        *_guarded(interaction),
        *_handed_on(interaction),
        *_compared(known),
        *(signal for each in feedback for signal in _disputed(interaction, each)),
    ]
    if drifted:
        found.append(Signal(name="drift", value=DRIFTED, explanation="What this task is asked has changed of late."))
    return tuple(sorted(found, key=lambda signal: -signal.value))


def edited(distance: float) -> float:
    """Return how likely an answer was wrong that a user changed by so much, in (0, 1]."""
    return EDITED_AT_LEAST + (EDITED_AT_MOST - EDITED_AT_LEAST) * distance


def _doubtful_call(interaction: Interaction) -> Iterable[Signal]:
    """How likely the model found its call, as a whole and of this function, from certain to one of many."""
    for name, logprob, of in (
        ("unlikely", interaction.sum_logprob, "this call"),
        ("other-function", interaction.name_logprob, "a call of this function"),
    ):
        if logprob is not None:
            doubt = 0.1 - min(logprob, 0.0)
            likely = math.exp(min(logprob, 0.0))
            said = f"The model gave {of} a probability of {likely:.0%}."
            yield Signal(name=name, value=doubt / (1 + doubt), explanation=said)
    yield from _weakest(interaction)


def _doubtful_text(interaction: Interaction) -> Iterable[Signal]:
    """One minus the geometric mean of the tokens' probabilities, exp(mean log-probability)."""
    if interaction.mean_logprob is not None:
        probability = math.exp(min(interaction.mean_logprob, 0.0))
        yield Signal(
            name="improbable",
            value=1 - probability,
            explanation=f"The model gave its words a probability of {probability:.0%} on average.",
        )
    yield from _weakest(interaction)


def _weakest(interaction: Interaction) -> Iterable[Signal]:
    if interaction.min_logprob is not None:
        probability = math.exp(min(interaction.min_logprob, 0.0))
        yield Signal(
            name="doubtful",
            value=1 - probability,
            explanation=f"Of its least certain word the model was {probability:.0%} sure.",
        )


def _malformed(interaction: Interaction, function_call: bool) -> Iterable[Signal]:
    if interaction.finish_reason == "refused":
        return
    if function_call:
        problem = call_error(answer_of(interaction), interaction.tools)
        if problem is not None:
            yield Signal(
                name="format",
                value=NOT_A_CALL,
                explanation=f"The answer is not a valid call of one of the request's tools: {problem}.",
            )
    if interaction.finish_reason == "length":
        yield Signal(name="cut-short", value=CUT_SHORT, explanation="The answer was cut off at the longest length.")


def _guarded(interaction: Interaction) -> Iterable[Signal]:
    if interaction.finish_reason == "refused":
        side = "answer" if interaction.output_verdict == "refuse" else "request"
        yield Signal(name="refused", value=REFUSED, explanation=f"The {side} was refused by a guardrail.")
        return
    for name, action, value, said in (
        ("masked", "mask", MASKED, "Personal data was masked"),
        ("near-miss", "flag", FLAGGED, "A guardrail noticed something and let it pass"),
    ):
        kinds = sorted({finding.kind for finding in interaction.findings if finding.action == action})
        if kinds:
            yield Signal(name=name, value=value, explanation=f"{said}: {', '.join(kinds)}.")


def _handed_on(interaction: Interaction) -> Iterable[Signal]:
    """What was wanting before the model that answered was asked."""
    unsure = [attempt.model for attempt in interaction.attempts if attempt.outcome == "unsure"]
    if unsure:
        yield Signal(
            name="handed-on",
            value=UNSURE,
            explanation=f"The answer of {' and '.join(unsure)} was not good enough, so another model was asked.",
        )
    dropped = sum(citation.dropped for citation in interaction.citations)
    if dropped or interaction.truncated_tokens:
        lost = [
            *([f"{dropped} of its documents"] if dropped else []),
            *([f"{interaction.truncated_tokens} tokens of the request"] if interaction.truncated_tokens else []),
        ]
        yield Signal(name="uninformed", value=UNINFORMED, explanation=f"The model was not shown {' and '.join(lost)}.")


def _compared(known: Known) -> Iterable[Signal]:
    if known.similar:
        yield Signal(
            name="similar",
            value=known.similar_share,
            explanation=f"Of {known.similar} requests much like it, {known.similar_failed} were answered wrong.",
        )
    if known.called:
        yield Signal(
            name="called",
            value=known.called_share,
            explanation=f"Of {known.called} answers that call the same function, {known.called_failed} were wrong.",
        )
    if known.nearest is not None:
        like = "requests like it" if known.nearest >= FAMILIAR else "hardly anything like it"
        yield Signal(
            name="new", value=min(1.0, 1 - max(known.nearest, 0.0)), explanation=f"Experts were asked about {like}."
        )


def _disputed(interaction: Interaction, feedback: Feedback) -> Iterable[Signal]:
    if feedback.kind in ("rating", "outcome") and feedback.rating is not None:
        said = "The user rated the answer" if feedback.kind == "rating" else "What came of it in the business is rated"
        yield Signal(
            name="rated" if feedback.kind == "rating" else "outcome",
            value=(1 - RATED_WORST * feedback.rating) / 2,
            explanation=f"{said} {feedback.rating:+.1f} (from -1, useless, to +1, right).",
        )
    elif feedback.kind in ("edit", "correct_answer"):
        distance = delta(answer_of(interaction), feedback.text)[1]
        if distance > 0:
            did = "edited the answer" if feedback.kind == "edit" else "said what the right answer was"
            yield Signal(
                name=feedback.kind.replace("_", "-"),
                value=edited(distance),
                explanation=f"The user {did}: {distance:.0%} of it differs.",
            )
    elif feedback.kind == "asked_again":
        yield Signal(name="asked-again", value=ASKED_AGAIN, explanation="The user asked the same thing again.")
