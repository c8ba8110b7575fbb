"""What is learned of a model's success, on traffic that is made up here, so that the true chances are known."""

import math
import random
from collections.abc import Iterator

import numpy as np
import pytest

from services.router.domain.success import PRIOR, Confidence, Features, Success, Vector
from tests.unit.router.test_tasks import space

FEATURES = Features(space())
LIGHTS, TRAINS = FEATURES.of("the lamp in the room", 1, 0), FEATURES.of("a train ticket please", 1, 0)


def unknown(prior: float = 0.5) -> Success:
    return Success(FEATURES.dimensions, prior)


@pytest.mark.parametrize("prior", PRIOR.values())
def test_of_a_model_nobody_has_tried_the_prior_is_expected_drawn_towards_one_half(prior: float) -> None:
    chance = unknown(prior).chance(LIGHTS)
    assert 0.5 <= chance <= prior
    assert chance == pytest.approx(prior, abs=0.08)


def test_a_model_that_fails_on_one_kind_of_question_is_trusted_with_the_other() -> None:
    model = unknown()
    for _ in range(40):
        model.learn(LIGHTS, 0.0, 1.0)
        model.learn(TRAINS, 1.0, 1.0)
    assert model.chance(LIGHTS) < 0.3
    assert model.chance(TRAINS) > 0.7


def test_a_gate_s_rate_is_what_a_promoted_specialist_begins_with() -> None:
    ordinary = np.eye(FEATURES.dimensions)[0]
    model = unknown(PRIOR["specialist"])
    model.learn_rate(0.95, 200)
    assert model.chance(ordinary) == pytest.approx(0.95, abs=0.03)
    model.learn_rate(0.0, 4000)
    assert model.chance(ordinary) < 0.1


def test_a_small_gate_says_less_than_a_large_one() -> None:
    chances = []
    for items in (4, 40, 400):
        model = unknown()
        model.learn_rate(0.9, items)
        chances.append(model.chance(LIGHTS))
    assert chances == sorted(chances)
    assert chances[0] < 0.8


def test_an_outcome_that_weighs_as_much_as_many_says_what_they_say() -> None:
    one, many = unknown(), unknown()
    one.learn(LIGHTS, 0.0, 8.0)
    for _ in range(8):
        many.learn(LIGHTS, 0.0, 1.0)
    assert one.chance(LIGHTS) == pytest.approx(many.chance(LIGHTS), abs=0.03)


def test_outcomes_weighed_by_how_likely_they_were_picked_tell_of_all_traffic() -> None:
    choose = random.Random(1)
    weighed, plain = unknown(), unknown()
    for _ in range(2000):  # nine of ten are right; experts see every wrong answer and a tenth of the right ones
        right = choose.random() < 0.9
        propensity = 0.1 if right else 1.0
        if choose.random() < propensity:
            weighed.learn(LIGHTS, float(right), 1 / propensity)
            plain.learn(LIGHTS, float(right), 1.0)
    assert weighed.chance(LIGHTS) == pytest.approx(0.9, abs=0.04)
    assert plain.chance(LIGHTS) < 0.6


def test_what_was_foretold_comes_true_as_often_as_was_said() -> None:
    foretold, came = np.array(list(_foretold(unknown(), 4000))).T
    assert _calibration_error(foretold[500:], came[500:]) < 0.04


def test_a_model_whose_success_changes_is_found_out() -> None:
    model = unknown()
    for _ in range(3000):
        model.learn(LIGHTS, 1.0, 1.0)
    assert model.chance(LIGHTS) > 0.95
    for _ in range(150):
        model.learn(LIGHTS, 0.0, 1.0)
    assert model.chance(LIGHTS) < 0.7


@pytest.mark.parametrize("text", ["x", "\ud800", "é" * 1000, "\n", "12345", " "])
def test_features_of_odd_texts_are_finite(text: str) -> None:
    x = FEATURES.of(text, 256, 128)
    assert x.shape == (FEATURES.dimensions,)
    assert np.isfinite(x).all()
    assert np.abs(x).max() < 10


def _foretold(model: Success, outcomes: int) -> Iterator[tuple[float, float]]:
    choose, draw = random.Random(2), np.random.default_rng(2)
    truth = draw.normal(size=FEATURES.dimensions) * 0.4
    for _ in range(outcomes):
        x: Vector = draw.normal(size=FEATURES.dimensions)
        x[0] = 1.0
        right = float(choose.random() < 1 / (1 + np.exp(-x @ truth)))
        yield model.chance(x), right
        model.learn(x, right, 1.0)


def _calibration_error(foretold: Vector, came: Vector) -> float:
    bins = (foretold * 10).astype(int)
    return sum(abs(foretold[bins == b].mean() - came[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins))


def test_before_anything_is_known_a_model_is_about_as_right_as_it_is_sure() -> None:
    confidence = Confidence()
    chances = [confidence.chance(sum_logprob) for sum_logprob in (0.0, -0.7, -3.0, -30.0)]
    assert chances == sorted(chances, reverse=True)
    assert chances[0] > 0.75
    assert chances[-1] < 0.2


@pytest.mark.parametrize(("constant", "slope"), [(0.0, 1.0), (-2.0, 2.0), (1.0, 0.0)])
def test_sureness_comes_to_count_for_what_it_tells(constant: float, slope: float) -> None:
    source, confidence = random.Random(3), Confidence()

    def truth(sum_logprob: float) -> float:
        return 1 / (1 + math.exp(-constant + slope * math.log(0.1 - sum_logprob)))

    for _ in range(1000):
        sum_logprob = -source.expovariate(0.5)
        confidence.learn(sum_logprob, float(source.random() < truth(sum_logprob)))
    for sum_logprob in (-0.1, -1.0, -5.0):
        assert confidence.chance(sum_logprob) == pytest.approx(truth(sum_logprob), abs=0.1)
