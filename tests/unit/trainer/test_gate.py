"""The gate: paired comparison of a candidate with the incumbent."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from schemas.events import GateAnswer
from services.trainer.gate import (
    GateRule,
    fallen,
    is_prompt,
    judge,
    keeps_silent,
    mcnemar,
    paired_bootstrap,
    retains,
    surer_when_right,
)


def _judged(right: int, items: int) -> list[bool]:
    return [index < right for index in range(items)]


def test_a_clearly_better_candidate_is_promoted() -> None:
    verdict = judge(_judged(80, 100), _judged(40, 100), GateRule())
    assert verdict.promote
    assert (verdict.candidate_accuracy, verdict.incumbent_accuracy, verdict.items) == (0.8, 0.4, 100)
    assert verdict.difference == pytest.approx(0.4)
    assert verdict.interval[0] < 0.4 < verdict.interval[1]
    assert all(condition.met for condition in verdict.conditions)


def test_a_gain_that_could_be_chance_is_not_enough() -> None:
    candidate = [True] * 3 + [False] * 2 + [True] * 95
    incumbent = [False] * 3 + [True] * 2 + [True] * 95
    verdict = judge(candidate, incumbent, GateRule())
    assert verdict.difference == pytest.approx(0.01)
    assert not verdict.promote
    assert "not met: accuracy changed by +1.0 points" in str(verdict.conditions[1])


def test_an_equal_candidate_is_not_promoted() -> None:
    assert not judge(_judged(50, 100), _judged(50, 100), GateRule()).promote


def test_too_few_items_are_not_enough_and_the_reason_says_how_many_more() -> None:
    verdict = judge(_judged(20, 20), _judged(0, 20), GateRule(minimum_items=50))
    assert not verdict.promote
    assert str(verdict.conditions[0]) == "not met: 20 requests were compared; at least 50 are needed, 30 more"


def test_the_lower_end_must_be_above_the_minimum_gain() -> None:
    candidate, incumbent = _judged(60, 100), _judged(50, 100)
    lower, _ = judge(candidate, incumbent, GateRule()).interval
    assert judge(candidate, incumbent, GateRule(minimum_gain=lower - 0.01)).promote
    assert not judge(candidate, incumbent, GateRule(minimum_gain=lower)).promote


def test_the_interval_is_that_of_resampling_the_items_themselves() -> None:
    rng = np.random.default_rng(1)
    candidate, incumbent = rng.random(120) < 0.7, rng.random(120) < 0.6
    lower, upper = paired_bootstrap(list(candidate), list(incumbent), confidence=0.95)
    difference = candidate.astype(float) - incumbent.astype(float)
    means = difference[rng.integers(0, 120, (20_000, 120))].mean(axis=1)
    assert (lower, upper) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)


def test_the_interval_pairs_the_items() -> None:
    same = _judged(50, 100)
    assert paired_bootstrap(same, same, confidence=0.95) == (0.0, 0.0)
    apart = paired_bootstrap(same, same[::-1], confidence=0.95)
    assert apart[0] < 0 < apart[1]


def test_the_interval_widens_however_little_is_left_in_its_tails() -> None:
    candidate, incumbent = _judged(70, 100), [*[False] * 40, *[True] * 60]
    ends = [paired_bootstrap(candidate, incumbent, confidence=1 - 10.0**-n) for n in range(1, 9)]
    assert all(one[0] > other[0] and one[1] < other[1] for one, other in itertools.pairwise(ends))
    assert paired_bootstrap([True], [False], confidence=0.99) == (1.0, 1.0)


@pytest.mark.parametrize(("candidate", "incumbent"), [([], []), ([True], [True, False])])
def test_judgements_of_different_items_are_refused(candidate: list[bool], incumbent: list[bool]) -> None:
    with pytest.raises(ValueError, match="the same items, at least one; got"):
        judge(candidate, incumbent, GateRule())


@pytest.mark.parametrize("rule", [{"minimum_items": 0}, {"minimum_gain": 1.0}, {"confidence": 95}, {"attempt": 0}])
def test_rules_that_nothing_could_meet_are_refused(rule: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(rule))):
        GateRule(**rule)  # type: ignore[arg-type]  # one field at a time, of either type


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (3, 0), (5, 2), (12, 12), (40, 61)])
def test_wins_over_losses_are_held_to_mcnemars_exact_test(won: int, lost: int) -> None:
    wanted = binomtest(won, won + lost, alternative="greater").pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(wanted)


def test_five_wins_without_a_loss_are_too_few_though_the_interval_lies_above_none() -> None:
    candidate = [True] * 100
    incumbent = [False] * 5 + [True] * 95
    verdict = judge(candidate, incumbent, GateRule())
    assert verdict.interval[0] > 0
    assert str(verdict.conditions[2]).startswith("not met: 5 requests were won and 0 lost")
    assert judge(candidate, [False] * 8 + [True] * 92, GateRule()).promote


def test_who_may_be_worse_by_a_little_need_not_win() -> None:
    assert judge(_judged(90, 100), _judged(91, 100), GateRule(minimum_gain=-0.05)).promote


def test_a_gain_on_the_whole_does_not_hide_a_loss_on_a_slice() -> None:
    candidate = [True] * 80 + [False] * 20
    incumbent = [False] * 60 + [True] * 40
    slices = [("function a",) if place < 80 else ("function b",) for place in range(100)]
    verdict = judge(candidate, incumbent, GateRule(), slices)
    assert not verdict.promote
    assert str(verdict.conditions[3]) == "not met: surely worse on function b"
    assert judge(candidate, incumbent, GateRule()).promote


def test_many_slices_take_a_larger_loss_to_tell() -> None:
    lost = {"function f": (0, 5)}  # one-sided 3.1 %
    assert fallen(lost, 0.05) == ["function f"]
    assert fallen({**lost, "function g": (1, 1)}, 0.05) == []
    assert fallen({"a": (0, 9), "b": (0, 8), "c": (4, 2)}, 0.05) == ["a", "b"]


def test_what_is_answered_rightly_now_may_be_lost_no_more_than_the_bundle_allows() -> None:
    now, candidate = [True] * 10 + [False] * 2, [True] * 9 + [False, True, True]
    assert str(retains(candidate, now, 0.0)) == (
        "not met: 10 of 12 cases of the bundle are answered rightly now, and 1 of these would be lost; 0% may be"
    )
    assert retains(candidate, now, 0.1).met
    assert not retains(candidate, now, 0.09).met
    assert retains([False], [False], 0.0).met, "what nobody can answer is not lost"


def test_nothing_may_be_said_that_the_bundle_wants_in_no_answer() -> None:
    assert keeps_silent([False, False]).met
    assert str(keeps_silent([False, True])) == (
        "not met: 1 of 2 answers held what the bundle wants in none; not one may"
    )


def test_ninety_five_answers_of_a_hundred_are_to_be_in_time() -> None:
    seconds = [0.1] * 95 + [9.0] * 5
    assert is_prompt(seconds, 100).met
    assert not is_prompt([*seconds, 9.0], 100).met


def test_how_much_being_sure_says_is_the_area_under_the_roc_curve() -> None:
    chance = np.random.default_rng(3)
    right, logprobs = chance.random(80) < 0.6, np.round(chance.normal(size=80), 1)
    answers = [GateAnswer(right=bool(r), sum_logprob=float(x)) for r, x in zip(right, logprobs, strict=True)]
    unknown = GateAnswer(right=True)
    assert surer_when_right([*answers, unknown]) == pytest.approx(roc_auc_score(right, logprobs))
    assert surer_when_right([answer for answer in answers if answer.right]) is None


def _gates(accuracy: float, items: int, attempts: int, seed: int) -> bool:
    """Whether any of so many candidates, as good as the incumbent and no better, is promoted on one hold-out."""
    chance = np.random.default_rng(seed)
    difficulty = chance.beta(6 * accuracy, 6 * (1 - accuracy), items)
    incumbent = (chance.random(items) < difficulty).tolist()
    return any(
        judge((chance.random(items) < difficulty).tolist(), incumbent, GateRule(attempt=attempt)).promote
        for attempt in range(1, attempts + 1)
    )


@pytest.mark.parametrize("attempts", [1, 8])
@pytest.mark.parametrize(("accuracy", "items"), [(0.6, 50), (0.9, 100), (0.5, 400)])
def test_who_is_no_better_is_promoted_five_times_in_two_hundred_at_most_however_often_it_tries(
    accuracy: float, items: int, attempts: int
) -> None:
    promoted = sum(_gates(accuracy, items, attempts, seed) for seed in range(300))
    assert promoted <= 7
