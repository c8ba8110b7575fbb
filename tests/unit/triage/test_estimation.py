import random

import pytest

from schemas.events import Signal
from services.triage.domain.estimation import Estimator


def found(**values: float) -> list[Signal]:
    return [Signal(name=name.replace("_", "-"), value=value, explanation="") for name, value in values.items()]


def test_before_anything_is_labelled_a_doubtful_answer_is_likelier_wrong_than_a_sure_one() -> None:
    estimator = Estimator()
    assert estimator.chance(found(unlikely=0.1)) < 0.35
    assert estimator.chance(found(unlikely=0.8)) > 0.6
    assert estimator.chance([]) == pytest.approx(0.5)


@pytest.mark.parametrize("further", ["format", "cut_short", "refused", "near_miss", "handed_on", "asked_again", "edit"])
def test_before_anything_is_labelled_every_further_reason_makes_it_likelier(further: str) -> None:
    estimator = Estimator()
    assert estimator.chance(found(unlikely=0.3, **{further: 0.6})) > estimator.chance(found(unlikely=0.3))


def test_praise_makes_it_less_likely() -> None:
    estimator = Estimator()
    assert estimator.chance(found(unlikely=0.3, rated=0.025)) < estimator.chance(found(unlikely=0.3))


def test_what_a_signal_means_is_learned() -> None:
    estimator = Estimator()
    for _ in range(60):
        estimator.learn(found(unlikely=0.5, masked=0.2), True, 1.0)
        estimator.learn(found(unlikely=0.5), False, 1.0)
    assert estimator.chance(found(unlikely=0.5, masked=0.2)) > 0.8
    assert estimator.chance(found(unlikely=0.5)) < 0.2


def test_labels_of_what_was_picked_for_its_score_do_not_mislead_about_the_rest() -> None:
    """Answers fail where something is wrong that no signal shows; a fifth of them is picked, most by their signal."""
    source, weighed, plain = random.Random(1), Estimator(), Estimator()
    for _ in range(4000):
        doubt = source.random()
        propensity = 1.0 if doubt > 0.85 else 0.05
        if source.random() < propensity:
            failed = source.random() < (0.9 if doubt > 0.85 else 0.1)
            weighed.learn(found(unlikely=doubt), failed, 0.2 / propensity)
            plain.learn(found(unlikely=doubt), failed, 1.0)
    doubts = [source.random() for _ in range(2000)]
    expected = 0.15 * 0.9 + 0.85 * 0.1
    off = {
        name: abs(sum(estimator.chance(found(unlikely=doubt)) for doubt in doubts) / len(doubts) - expected)
        for name, estimator in (("weighed", weighed), ("plain", plain))
    }
    assert off["weighed"] < 0.08
    assert off["weighed"] < off["plain"] / 2


def test_how_often_a_new_version_fails_is_learned_sooner_than_what_its_signals_mean_is_forgotten() -> None:
    seasoned, same = Estimator(), Estimator()
    for estimator in (seasoned, same):
        for number in range(400):
            estimator.learn(found(unlikely=0.2 if number % 2 else 0.8), number % 2 == 0, 1.0, "1")
    for _ in range(6):
        seasoned.learn(found(unlikely=0.8), False, 1.0, "2")
        same.learn(found(unlikely=0.8), False, 1.0, "1")
    assert seasoned.chance(found(unlikely=0.8)) < same.chance(found(unlikely=0.8))
    assert seasoned.chance(found(unlikely=0.2)) < seasoned.chance(found(unlikely=0.8))
