"""The gate: paired comparison of a candidate with the incumbent."""

import numpy as np
import pytest

from services.trainer.gate import GateRule, judge, paired_bootstrap


def _judged(right: int, items: int) -> list[bool]:
    return [index < right for index in range(items)]


def test_a_clearly_better_candidate_is_promoted() -> None:
    verdict = judge(_judged(80, 100), _judged(40, 100), GateRule())
    assert verdict.promote
    assert (verdict.candidate_accuracy, verdict.incumbent_accuracy, verdict.items) == (0.8, 0.4, 100)
    assert verdict.difference == pytest.approx(0.4)
    assert verdict.interval[0] < 0.4 < verdict.interval[1]
    assert all(reason.startswith("met: ") for reason in verdict.reasons)


def test_a_gain_that_could_be_chance_is_not_enough() -> None:
    candidate = [True] * 3 + [False] * 2 + [True] * 95
    incumbent = [False] * 3 + [True] * 2 + [True] * 95
    verdict = judge(candidate, incumbent, GateRule())
    assert verdict.difference == pytest.approx(0.01)
    assert not verdict.promote
    assert "not met: accuracy changed by +1.0 points" in verdict.reasons[1]


def test_an_equal_candidate_is_not_promoted() -> None:
    assert not judge(_judged(50, 100), _judged(50, 100), GateRule()).promote


def test_too_few_items_are_not_enough_and_the_reason_says_how_many_more() -> None:
    verdict = judge(_judged(20, 20), _judged(0, 20), GateRule(minimum_items=50))
    assert not verdict.promote
    assert verdict.reasons[0] == "not met: 20 requests were compared; at least 50 are needed, 30 more"


def test_a_candidate_that_is_better_but_poor_is_held_back_by_the_minimum_accuracy() -> None:
    verdict = judge(_judged(30, 100), _judged(2, 100), GateRule(minimum_accuracy=0.5))
    assert not verdict.promote
    assert verdict.reasons[2] == "not met: the candidate is right on 30.0%; at least 50.0% is needed"


def test_the_lower_end_must_be_above_the_minimum_gain() -> None:
    candidate, incumbent = _judged(60, 100), _judged(50, 100)
    lower, _ = judge(candidate, incumbent, GateRule()).interval
    assert judge(candidate, incumbent, GateRule(minimum_gain=lower - 0.01)).promote
    assert not judge(candidate, incumbent, GateRule(minimum_gain=lower)).promote


def test_the_interval_is_that_of_resampling_the_items_themselves() -> None:
    rng = np.random.default_rng(1)
    candidate, incumbent = rng.random(120) < 0.7, rng.random(120) < 0.6
    lower, upper = paired_bootstrap(list(candidate), list(incumbent), confidence=0.95, resamples=20_000, seed=0)
    difference = candidate.astype(float) - incumbent.astype(float)
    means = difference[rng.integers(0, 120, (20_000, 120))].mean(axis=1)
    assert (lower, upper) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.01)


def test_the_interval_is_repeatable_and_pairs_the_items() -> None:
    same = _judged(50, 100)
    arguments = {"confidence": 0.95, "resamples": 1000, "seed": 3}
    assert paired_bootstrap(same, same, **arguments) == (0.0, 0.0)
    apart = paired_bootstrap(same, same[::-1], **arguments)
    assert apart == paired_bootstrap(same, same[::-1], **arguments)
    assert apart[0] < 0 < apart[1]


@pytest.mark.parametrize(("candidate", "incumbent"), [([], []), ([True], [True, False])])
def test_judgements_of_different_items_are_refused(candidate: list[bool], incumbent: list[bool]) -> None:
    with pytest.raises(ValueError, match="the same items, at least one; got"):
        judge(candidate, incumbent, GateRule())


@pytest.mark.parametrize(
    "rule", [{"minimum_items": 0}, {"minimum_gain": 1.0}, {"minimum_accuracy": 2}, {"confidence": 95}, {"resamples": 0}]
)
def test_rules_that_nothing_could_meet_are_refused(rule: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(rule))):
        GateRule(**rule)  # type: ignore[arg-type]  # one field at a time, of either type
