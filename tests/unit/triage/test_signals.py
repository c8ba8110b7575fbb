import math

import pytest

from schemas.events import Attempt, Citation, Finding, Sensitivity, Signal
from services.triage.domain.neighbours import Known
from services.triage.domain.signals import NAMES, asked_about, signals
from tests.unit.triage.builders import CALL, feedback, interaction


def _names(found: tuple[Signal, ...]) -> list[str]:
    return [signal.name for signal in found]


UNKNOWN = Known()


def test_a_call_is_judged_as_a_whole_and_a_text_by_its_average() -> None:
    sure = interaction(sum_logprob=-0.01, mean_logprob=math.log(0.75), min_logprob=math.log(0.5))
    call = {signal.name: signal for signal in signals(sure, [], UNKNOWN, function_call=True)}
    assert set(call) == {"unlikely", "doubtful"}
    assert "99%" in call["unlikely"].explanation
    text = {signal.name: signal for signal in signals(sure, [], UNKNOWN, function_call=False)}
    assert set(text) == {"improbable", "doubtful"}
    assert text["improbable"].value == pytest.approx(0.25)
    assert text["doubtful"].value == pytest.approx(0.5)
    named = interaction(sum_logprob=-0.5, name_logprob=-0.4)
    (of_function,) = (each for each in signals(named, [], UNKNOWN, function_call=True) if each.name == "other-function")
    assert "67%" in of_function.explanation
    unsure = interaction(sum_logprob=-3.0)
    assert signals(unsure, [], UNKNOWN, function_call=True)[0].value > call["unlikely"].value


def test_an_answer_of_which_nothing_is_known_has_no_signal() -> None:
    assert signals(interaction(), [], UNKNOWN, function_call=True) == ()


def test_what_was_noticed_and_let_pass_is_a_near_miss() -> None:
    noticed = interaction(findings=(Finding(direction="input", kind="injection", action="flag"),))
    assert _names(signals(noticed, [], UNKNOWN, function_call=True)) == ["near-miss"]


def test_an_answer_that_a_cheaper_model_was_not_sure_of_says_so() -> None:
    asked = (
        Attempt(model="small", tier="small", outcome="unsure", start_us=0, duration_us=1),
        Attempt(model="large", tier="large", outcome="answered", start_us=1, duration_us=1),
    )
    (found,) = signals(interaction(attempts=asked), [], UNKNOWN, function_call=True)
    assert (found.name, "small" in found.explanation) == ("handed-on", True)


def test_what_the_model_was_not_shown_counts() -> None:
    dropped = Citation(document_id="d", sensitivity=Sensitivity.INTERNAL, tokens=1, score=1.0, dropped=True)
    (found,) = signals(interaction(citations=(dropped,), truncated_tokens=7), [], UNKNOWN, function_call=True)
    assert "1 of its documents and 7 tokens of the request" in found.explanation


def test_a_change_in_the_task_is_a_signal_of_each_of_its_answers() -> None:
    assert _names(signals(interaction(), [], UNKNOWN, function_call=True, drifted=True)) == ["drift"]


def test_every_signal_has_a_place_in_what_is_learned() -> None:
    everything = interaction(
        answer="{",
        finish_reason="length",
        sum_logprob=-1.0,
        min_logprob=-1.0,
        truncated_tokens=1,
        findings=(
            Finding(direction="input", kind="email", action="mask"),
            Finding(direction="input", kind="injection", action="flag"),
        ),
    )
    said = [
        feedback(kind=kind, text="other") for kind in ("rating", "outcome", "edit", "correct_answer", "asked_again")
    ]
    known = Known(nearest=0.9, similar=2, called=2)
    found = signals(everything, said, known, function_call=True, drifted=True)
    assert set(_names(found)) <= set(NAMES)
    assert len(found) == 16


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
    found = signals(interaction(answer=answer), [], UNKNOWN, function_call=True)
    assert _names(found) == ["format"]
    assert reason in found[0].explanation
    assert signals(interaction(answer=answer), [], UNKNOWN, function_call=False) == ()


def test_an_answer_cut_at_its_longest_is_a_failure_of_any_task() -> None:
    assert _names(signals(interaction(answer="Once", finish_reason="length"), [], UNKNOWN, function_call=False)) == [
        "cut-short"
    ]


def test_a_refusal_and_a_mask_are_near_misses_and_a_refusal_is_not_a_format_failure() -> None:
    refused = interaction(answer="", finish_reason="refused", input_verdict="refuse")
    assert _names(signals(refused, [], UNKNOWN, function_call=True)) == ["refused"]
    masked = interaction(input_verdict="mask", findings=(Finding(direction="input", kind="email", action="mask"),))
    found = signals(masked, [], UNKNOWN, function_call=True)
    assert _names(found) == ["masked"]
    assert "email" in found[0].explanation


def test_a_bad_rating_an_edit_and_a_right_answer_count_against_an_answer_and_praise_for_it() -> None:
    said = [
        feedback(kind="rating", rating=-1.0),
        feedback(kind="edit", rating=None, text=CALL.replace("Alien", "Aliens")),
        feedback(kind="correct_answer", rating=None, text="nothing alike"),
        feedback(kind="rating", rating=1.0),
        feedback(kind="edit", rating=None, text=CALL),
    ]
    found = signals(interaction(), said, UNKNOWN, function_call=True)
    assert _names(found) == ["rated", "correct-answer", "edit", "rated"]
    assert [0.5 < signal.value < 1 for signal in found] == [True, True, True, False]


def test_only_finished_answers_and_refusals_are_asked_about() -> None:
    assert asked_about(interaction())
    assert asked_about(interaction(answer="", finish_reason="refused"))
    assert not asked_about(interaction(phase="opened"))
    assert not asked_about(interaction(finish_reason="cancelled"))
    assert not asked_about(interaction(finish_reason="error"))
    assert not asked_about(interaction(answer=""))
