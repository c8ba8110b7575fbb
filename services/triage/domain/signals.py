"""Reasons to think that an answer was wrong, and the score that they make together."""

import json
import math
from collections.abc import Iterable, Sequence

from schemas.events import Feedback, Interaction, Message, Signal
from services.triage.domain.answers import call_error
from services.triage.domain.deltas import delta

# How likely an answer is wrong, given one signal alone. None is certain, so that signals add up instead of drowning.
NOT_A_CALL = 0.95
CUT_SHORT = 0.9
REFUSED = 0.5
MASKED = 0.2
ASKED_AGAIN = 0.6
# A user who changed an answer found fault with it, however little they changed.
EDITED_AT_LEAST = 0.7
EDITED_AT_MOST = 0.95
RATED_WORST = 0.95
# Of a question: enough to judge its kind by.
QUESTION_CHARACTERS = 1000


def asked_about(interaction: Interaction) -> bool:
    """Say whether an interaction may go to an expert: it is finished, and there is an answer or a refusal to judge."""
    if interaction.phase != "finished" or interaction.finish_reason in ("cancelled", "error"):
        return False
    return bool(interaction.answer or interaction.tool_calls or interaction.finish_reason == "refused")


def answer_text(interaction: Interaction) -> str:
    """Return the answer as text: its own, or the first tool call as JSON where there is only that."""
    if interaction.answer or not interaction.tool_calls:
        return interaction.answer
    call = interaction.tool_calls[0]
    return f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}'


def question_text(messages: Sequence[Message]) -> str:
    """Return what was asked: the last user turn, its beginning."""
    asked = (message.content for message in reversed(messages) if message.role == "user")
    return next(asked, "")[:QUESTION_CHARACTERS]


def signals(interaction: Interaction, feedback: Sequence[Feedback], *, function_call: bool) -> tuple[Signal, ...]:
    """Return every signal of an interaction, strongest first.

    Args:
        interaction: A finished one.
        feedback: What was said of it until now.
        function_call: Whether its task wants a function call for an answer.
    """
    found = [
        *_improbable(interaction),
        *_malformed(interaction, function_call),
        *_guarded(interaction),
        *(signal for each in feedback for signal in _disputed(interaction, each)),
    ]
    return tuple(sorted(found, key=lambda signal: -signal.value))


def score(found: Iterable[Signal]) -> float:
    """Return the chance that at least one signal is right, in [0, 1]: a noisy-or (Pearl, 1988).

    Unlike the maximum it rises with every further reason, so that an answer with three faults comes before one with a
    single one, and it stays a probability while the signals are taken as independent.
    """
    return 1 - math.prod(1 - signal.value for signal in found)


def edited(distance: float) -> float:
    """Return how likely an answer was wrong that a user changed by so much, in (0, 1]."""
    return EDITED_AT_LEAST + (EDITED_AT_MOST - EDITED_AT_LEAST) * distance


def _improbable(interaction: Interaction) -> Iterable[Signal]:
    """One minus the geometric mean of the tokens' probabilities, exp(mean log-probability)."""
    if interaction.mean_logprob is None:
        return
    probability = math.exp(min(interaction.mean_logprob, 0.0))
    yield Signal(
        name="improbable",
        value=1 - probability,
        explanation=f"The model gave its words a probability of {probability:.0%} on average.",
    )


def _malformed(interaction: Interaction, function_call: bool) -> Iterable[Signal]:
    if interaction.finish_reason == "refused":
        return
    if function_call:
        problem = call_error(answer_text(interaction), interaction.tools)
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
    elif "mask" in (interaction.input_verdict, interaction.output_verdict):
        kinds = sorted({finding.kind for finding in interaction.findings if finding.action == "mask"})
        yield Signal(
            name="masked", value=MASKED, explanation=f"Personal data was masked: {', '.join(kinds) or 'some'}."
        )


def _disputed(interaction: Interaction, feedback: Feedback) -> Iterable[Signal]:
    if feedback.kind == "rating" and feedback.rating is not None and feedback.rating < 0:
        yield Signal(
            name="rated",
            value=min(1.0, -feedback.rating) * RATED_WORST,
            explanation=f"The user rated the answer {feedback.rating:+.1f} (from -1, useless, to +1, right).",
        )
    elif feedback.kind in ("edit", "correct_answer"):
        distance = delta(answer_text(interaction), feedback.text)[1]
        if distance > 0:
            did = "edited the answer" if feedback.kind == "edit" else "said what the right answer was"
            yield Signal(
                name=feedback.kind.replace("_", "-"),
                value=edited(distance),
                explanation=f"The user {did}: {distance:.0%} of it differs.",
            )
    elif feedback.kind == "asked_again":
        yield Signal(name="asked-again", value=ASKED_AGAIN, explanation="The user asked the same thing again.")
