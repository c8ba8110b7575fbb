"""Which of the cleared models answers: bar, price, latency, exploration; and why each other one does not."""

import random
from collections import Counter

import pytest

from schemas.bundle import Routing
from schemas.events import Sensitivity
from services.router.domain.catalogue import Candidate
from services.router.domain.knowledge import NOTHING, Clearance
from services.router.domain.routing import UNEXPLORED, Decision, Estimate, decide

CANDIDATES = tuple(
    Candidate(name, name, name, "", tier, 64)
    for name, tier in (("tiny", "small"), ("small", "small"), ("big", "large"), ("huge", "frontier"))
)
ESTIMATES = (Estimate(0.4, 1.0, 0.5), Estimate(0.6, 2.0, 1.0), Estimate(0.8, 10.0, 4.0), Estimate(0.9, 50.0, None))
CLEARED = frozenset({"tiny", "small", "big", "huge"})


def chosen(
    routing: Routing,
    estimates: tuple[Estimate, ...] = ESTIMATES,
    draw: float = UNEXPLORED,
    cleared: frozenset[str] = CLEARED,
    asked_for: str = "",
) -> Decision:
    clearances = {Sensitivity.INTERNAL: Clearance(cleared)}
    return decide(CANDIDATES, estimates, routing, draw, asked_for, Sensitivity.INTERNAL, clearances, NOTHING)


def name(decision: Decision) -> str:
    assert decision.chosen is not None
    return decision.chosen.name


def reasons(decision: Decision) -> dict[str, str]:
    return {candidate.model: candidate.reason for candidate in decision.candidates}


def test_without_a_word_in_the_bundle_the_cheapest_cleared_model_answers() -> None:
    assert name(chosen(Routing(), (Estimate(),) * 4)) == "tiny"
    assert name(chosen(Routing(), (Estimate(),) * 4, cleared=frozenset({"huge", "big"}))) == "big"


def test_the_cheapest_is_told_by_price_before_tier() -> None:
    estimates = (Estimate(price=3.0), Estimate(price=2.0), Estimate(price=1.0), Estimate(price=1.0))
    decision = chosen(Routing(), estimates)
    assert name(decision) == "big"
    assert reasons(decision) == {
        "tiny": "dearer than big",
        "small": "dearer than big",
        "big": "cheapest cleared live model",
        "huge": "of a dearer tier than big",
    }


@pytest.mark.parametrize(("bar", "model"), [(0.3, "tiny"), (0.5, "small"), (0.6, "small"), (0.7, "big"), (0.9, "huge")])
def test_the_cheapest_above_the_bar_answers(bar: float, model: str) -> None:
    assert name(chosen(Routing(bar=bar))) == model


def test_where_none_clears_the_bar_the_likeliest_to_be_right_answers() -> None:
    decision = chosen(Routing(bar=0.95), cleared=CLEARED - {"huge"})
    assert name(decision) == "big"
    assert reasons(decision) == {
        "tiny": "chance 0.40 is below the bar 0.95",
        "small": "chance 0.60 is below the bar 0.95",
        "big": "likeliest to be right; none clears the bar 0.95",
        "huge": "not cleared for internal: no policy permits it",
    }


def test_each_candidate_is_on_record_with_its_chance_and_its_price() -> None:
    decision = chosen(Routing(bar=0.5))
    assert [(each.model, each.chance, each.price, each.seconds) for each in decision.estimates] == [
        ("tiny", 0.4, 1.0, 0.5),
        ("small", 0.6, 2.0, 1.0),
        ("big", 0.8, 10.0, 4.0),
        ("huge", 0.9, 50.0, None),
    ]


def test_a_model_over_the_latency_objective_loses_and_one_of_unknown_speed_does_not() -> None:
    decision = chosen(Routing(bar=0.7, latency_ms=2000))
    assert name(decision) == "huge"
    assert reasons(decision)["big"] == "answers in 4.0 s, objective 2.0 s"


def test_where_all_are_over_the_objective_the_bar_decides() -> None:
    assert name(chosen(Routing(bar=0.7, latency_ms=100), cleared=CLEARED - {"huge"})) == "big"


def test_a_model_asked_for_by_name_answers_whatever_is_expected_of_it() -> None:
    routing = Routing(bar=0.9, latency_ms=100, exploration=0.5, exploration_price=100.0)
    decision = chosen(routing, draw=0.0, asked_for="tiny")
    assert (name(decision), decision.propensity) == ("tiny", 1.0)


def test_propensities_are_the_shares_in_which_models_are_chosen() -> None:
    routing = Routing(bar=0.5, exploration=0.2, exploration_price=10.0)
    choose = random.Random(0)
    counts: Counter[str] = Counter()
    propensities: dict[str, float] = {}
    for _ in range(20_000):
        decision = chosen(routing, draw=choose.random())
        counts[name(decision)] += 1
        propensities.setdefault(name(decision), decision.propensity)
        assert decision.propensity == propensities[name(decision)]
    assert propensities == pytest.approx({"small": 0.8, "tiny": 0.1, "big": 0.1})
    for model, propensity in propensities.items():
        assert counts[model] / 20_000 == pytest.approx(propensity, abs=0.01)


def test_nothing_is_explored_that_is_not_cleared_or_dearer_than_was_stated() -> None:
    routing = Routing(exploration=0.5, exploration_price=5.0)
    for i in range(1000):
        assert name(chosen(routing, draw=i / 1000, cleared=CLEARED - {"tiny"})) == "small"
        assert name(chosen(routing, draw=i / 1000)) in ("tiny", "small")


def test_what_is_explored_says_so() -> None:
    decision = chosen(Routing(exploration=0.5, exploration_price=5.0), draw=0.1)
    assert reasons(decision)["small"] == "explored at random"
    assert reasons(decision)["tiny"] == "cheapest cleared live model; small is explored"


def test_where_nothing_else_may_be_explored_nothing_was_random() -> None:
    decision = chosen(Routing(exploration=0.5, exploration_price=0.0), draw=0.1)
    assert (name(decision), decision.propensity) == ("tiny", 1.0)
