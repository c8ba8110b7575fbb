import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Finding, Signal
from services.triage.domain.signals import asked_about, score, signals
from tests.unit.triage.builders import CALL, feedback, interaction


def _names(found: tuple[Signal, ...]) -> list[str]:
    return [signal.name for signal in found]


def test_a_sound_answer_has_no_signal_but_its_probability() -> None:
    found = signals(interaction(mean_logprob=math.log(0.75)), [], function_call=True)
    assert [(signal.name, pytest.approx(0.25)) for signal in found] == [("improbable", found[0].value)]
    assert "75%" in found[0].explanation


def test_a_score_is_zero_without_signals() -> None:
    assert score(signals(interaction(), [], function_call=True)) == 0.0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"name": "find_film"}', "not an object with exactly"),
        ('{"name": "fly", "arguments": {}}', "not one of the tools"),
        ('{"name": "find_film", "arguments": []}', '"arguments" is not an object'),
        ('{"name": "find_film", "arguments": {}}', "missing: title"),
        ('{"name": "find_film", "arguments": {"title": "Alien", "mood": "dark"}}', "does not have: mood"),
        ('{"name": [], "arguments": {}}', '"name" is not a string'),
    ],
)
def test_a_function_call_task_without_a_valid_call_is_a_format_failure(answer: str, reason: str) -> None:
    found = signals(interaction(answer=answer), [], function_call=True)
    assert _names(found) == ["format"]
    assert reason in found[0].explanation
    assert signals(interaction(answer=answer), [], function_call=False) == ()


def test_an_answer_cut_at_its_longest_is_a_failure_of_any_task() -> None:
    assert _names(signals(interaction(answer="Once", finish_reason="length"), [], function_call=False)) == ["cut-short"]


def test_a_refusal_and_a_mask_are_near_misses_and_a_refusal_is_not_a_format_failure() -> None:
    refused = interaction(answer="", finish_reason="refused", input_verdict="refuse")
    assert _names(signals(refused, [], function_call=True)) == ["refused"]
    masked = interaction(input_verdict="mask", findings=(Finding(direction="input", kind="email", action="mask"),))
    found = signals(masked, [], function_call=True)
    assert _names(found) == ["masked"]
    assert "email" in found[0].explanation


def test_a_bad_rating_an_edit_and_a_right_answer_count_and_praise_does_not() -> None:
    said = [
        feedback(kind="rating", rating=-1.0),
        feedback(kind="edit", rating=None, text=CALL.replace("Alien", "Aliens")),
        feedback(kind="correct_answer", rating=None, text="nothing alike"),
        feedback(kind="rating", rating=1.0),
        feedback(kind="edit", rating=None, text=CALL),
    ]
    found = signals(interaction(), said, function_call=True)
    assert sorted(_names(found)) == ["correct-answer", "edit", "rated"]
    assert all(0.5 < signal.value < 1 for signal in found)


def test_only_finished_answers_and_refusals_are_asked_about() -> None:
    assert asked_about(interaction())
    assert asked_about(interaction(answer="", finish_reason="refused"))
    assert not asked_about(interaction(phase="opened"))
    assert not asked_about(interaction(finish_reason="cancelled"))
    assert not asked_about(interaction(finish_reason="error"))
    assert not asked_about(interaction(answer=""))


@given(st.lists(st.floats(0, 1), max_size=6), st.floats(0, 1))
def test_a_score_is_a_probability_that_no_further_reason_lowers(values: list[float], further: float) -> None:
    reasons = [Signal(name="x", value=value, explanation="") for value in values]
    before = score(reasons)
    after = score([*reasons, Signal(name="y", value=further, explanation="")])
    assert 0 <= before <= 1
    assert after >= before - 1e-12
    assert before >= max(values, default=0.0) - 1e-12
