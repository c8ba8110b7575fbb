"""What a request tells of the quality of who was asked, as values, the higher the worse."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from schemas.answers import parse_call, same_answer
from schemas.bundle import Bundle
from schemas.events import WRONG_FORM, Attempt, Feedback, GateAnswer, Interaction, Shadow
from services.runtime.conformal import SLOTS


@dataclass(frozen=True)
class Signal:
    """What is watched.

    Attributes:
        name: As reasons have it.
        of_gate: It is held against what the specialist's own gate measured; else against what the specialist replaced.
        scale: The least and the greatest value that are told apart, logarithmically; none: values are in [0, 1].
    """

    name: str
    of_gate: bool = False
    scale: tuple[float, float] | None = None

    def slot(self, value: float) -> int:
        """Return which slot of the ranks a value falls into."""
        if self.scale is None:
            place = value
        else:
            low, high = self.scale
            place = math.log(max(low, min(high, value)) / low) / math.log(high / low)
        return max(0, min(SLOTS - 1, int(place * SLOTS)))


DOUBT = Signal("minus the log-probability of its answers", of_gate=True, scale=(1e-4, 1e2))
# Of all answers, judged or not: no more can be told wrong than are, so it is fair however few are judged, and which.
TOLD_WRONG = Signal("answers told wrong at once", of_gate=True)
RATINGS = Signal("bad ratings")
CORRECTIONS = Signal("answers that were not the correct one")
COMPLAINTS = Signal("answers complained of at once")
FORM = Signal("answers in a wrong form")
GUARDRAILS = Signal("answers that guardrails found something in")
FAILURES = Signal("requests without an answer")
SLOWNESS = Signal("answers slower than the objective")
SIGNALS = (DOUBT, TOLD_WRONG, RATINGS, CORRECTIONS, COMPLAINTS, FORM, GUARDRAILS, FAILURES, SLOWNESS)
# They come in bursts, when a machine is away or busy, whoever is asked: of a burst the first alone says something.
BURSTS = (FAILURES, SLOWNESS)


def of_request(answered: Interaction | Shadow, bundle: Bundle | None) -> Iterator[tuple[Attempt, Signal, float]]:
    """Yield what a request tells of each model that was asked: nothing before it is finished, or where the caller left.

    Args:
        answered: What is on record of it, or of what a specialist in the shadow says to it.
        bundle: Says what form the task's answers are to have, and how soon they are to be there.
    """
    if isinstance(answered, Interaction) and (answered.phase != "finished" or answered.finish_reason == "cancelled"):
        return
    objective_ms = _objective_ms(answered.task, bundle)
    for attempt in answered.attempts:
        if attempt.outcome == "skipped":
            continue
        failed = attempt.outcome == "failed"
        yield attempt, FAILURES, float(failed)
        if failed:
            continue
        if objective_ms is not None:
            yield attempt, SLOWNESS, float(attempt.duration_us > 1000 * objective_ms)
        is_kept = attempt.outcome == "answered"
        malformed = attempt.reason == WRONG_FORM or (is_kept and _is_malformed(answered, bundle))
        yield attempt, FORM, float(malformed)
        if is_kept:
            found = any(each.direction == "output" and each.kind != "format" for each in answered.findings)
            yield attempt, GUARDRAILS, float(found)
            doubt = _doubt(answered.sum_logprob)
            if doubt is not None and answered.temperature == 0:  # as a gate asks: another draws less likely tokens
                yield attempt, DOUBT, doubt


def of_feedback(feedback: Feedback, answer: str) -> tuple[Signal, float] | None:
    """Return what feedback tells of an answer, if it judges it: an outcome in words does not."""
    if feedback.kind == "correct_answer":
        return CORRECTIONS, float(not same_answer(answer, feedback.text))
    if feedback.kind == "rating" and feedback.rating is not None and -1 <= feedback.rating <= 1:
        return RATINGS, (1 - feedback.rating) / 2
    return None


def of_gate(answer: GateAnswer) -> Iterator[tuple[Signal, float]]:
    """Yield what an answer of a gate is the reference for."""
    yield TOLD_WRONG, float(not answer.right)
    doubt = _doubt(answer.sum_logprob)
    if doubt is not None:
        yield DOUBT, doubt


def is_complaint(feedback: Feedback, answer: str) -> bool:
    """Say whether feedback finds fault with an answer: its user changed it, or asked again, or judged it bad."""
    judged = of_feedback(feedback, answer)
    return feedback.kind in ("edit", "asked_again") or (judged is not None and judged[1] > 1 / 2)


def answer_of(interaction: Interaction) -> str:
    """Return the answer as text: its own, or the first tool call as JSON where there is only that."""
    if interaction.answer or not interaction.tool_calls:
        return interaction.answer
    call = interaction.tool_calls[0]
    return f'{{"name": {json.dumps(call.name)}, "arguments": {call.arguments or "{}"}}}'


def _doubt(sum_logprob: float | None) -> float | None:
    return -sum_logprob if sum_logprob is not None and math.isfinite(sum_logprob) else None


def _objective_ms(task: str, bundle: Bundle | None) -> int | None:
    if bundle is None or task not in bundle.tasks:
        return None
    promised = bundle.tasks[task].objectives.latency
    return promised.ms if promised is not None else bundle.routing_of(task).latency_ms


def _is_malformed(answered: Interaction | Shadow, bundle: Bundle | None) -> bool:
    if answered.finish_reason == "length" or any(each.kind == "format" for each in answered.findings):
        return True
    wanted = bundle.tasks.get(answered.task) if bundle is not None else None
    if wanted is None or wanted.answers != "function-call" or answered.finish_reason in ("refused", "tool_calls"):
        return False
    return parse_call(answered.answer) is None
