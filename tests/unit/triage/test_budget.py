"""Fifty thousand answers, in bursts and with a change in the middle, through what picks and what learns."""

import math
import random
from dataclasses import dataclass

import pytest

from schemas.events import Signal
from services.triage.domain.estimation import Estimator
from services.triage.domain.selection import Budget, Selector

ANSWERS, PARTITIONS = 50_000, 4
BUDGET = Budget(share=0.2, exploration=0.1)


@dataclass
class Played:
    """What came of it: of each answer whether it failed, and of those picked their propensity and the score."""

    failed: list[bool]
    picked: list[int]
    propensities: list[float]
    scores: list[float]


@pytest.fixture(scope="module")
def played() -> Played:
    source = random.Random(1)
    selectors, estimator = [Selector()] * PARTITIONS, Estimator()
    played, waiting = Played([], [], [], []), []
    for number in range(ANSWERS):
        changed = number > ANSWERS // 2
        # In a burst, all of a sudden, one kind of request comes that is hard.
        burst = number % 5000 > 4400
        doubt = min(0.98, source.betavariate(3, 2) if burst else source.betavariate(1 + changed, 4))
        failed = source.random() < (0.05 + 0.6 * doubt if not changed else 0.02 + 0.9 * doubt**2)
        found = [Signal(name="unlikely", value=doubt, explanation="")]
        partition = source.randrange(PARTITIONS)
        score = estimator.chance(found)
        selectors[partition], decision = selectors[partition].decide(score, BUDGET, source.random(), 0.0)
        played.failed.append(failed)
        if decision.flagged:
            played.picked.append(number)
            played.propensities.append(decision.propensity)
            played.scores.append(score)
            waiting.append((found, failed, BUDGET.share / decision.propensity))
        if len(waiting) > 100:  # experts take their time
            estimator.learn(*waiting.pop(0))
    return played


def test_the_budget_is_held_within_a_point_in_every_ten_thousand(played: Played) -> None:
    for start in range(0, ANSWERS, 10_000):
        picked = sum(start <= number < start + 10_000 for number in played.picked)
        assert picked / 10_000 == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("start", "end"), [(0, ANSWERS), (0, ANSWERS // 2), (ANSWERS // 2, ANSWERS)])
def test_propensities_reproduce_how_often_answers_fail_within_the_interval(
    played: Played, start: int, end: int
) -> None:
    rows = [
        (1 / propensity, played.failed[number])
        for number, propensity in zip(played.picked, played.propensities, strict=True)
        if start <= number < end
    ]
    total = sum(weight for weight, _ in rows)
    rate = sum(weight * failed for weight, failed in rows) / total
    # The variance of a ratio of weighed sums (Hájek 1971).
    error = math.sqrt(sum((weight * (failed - rate)) ** 2 for weight, failed in rows)) / total
    true = sum(played.failed[start:end]) / (end - start)
    assert abs(rate - true) < 2.6 * error  # 99 %
    assert error < 0.02
    # Without them it would be far off.
    plain = sum(failed for _, failed in rows) / len(rows)
    assert plain - true > 5 * error


def test_a_score_means_what_it_says_once_there_are_labels(played: Played) -> None:
    late = [
        (score, played.failed[number], 1 / propensity)
        for number, propensity, score in zip(played.picked, played.propensities, played.scores, strict=True)
        if 10_000 < number < ANSWERS // 2
    ]
    total = sum(weight for *_, weight in late)
    expected = sum(score * weight for score, _, weight in late) / total
    found = sum(failed * weight for _, failed, weight in late) / total
    assert expected == pytest.approx(found, abs=0.03)
