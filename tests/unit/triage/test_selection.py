import random
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.triage.domain.selection import WINDOW, Budget, Selector


def _play(scores: list[float], budget: Budget, seed: int = 1) -> tuple[Selector, list[bool]]:
    chance, selector, flags = random.Random(seed), Selector(), []
    for score in scores:
        selector, decision = selector.decide(score, budget, chance.random(), 0.0)
        flags.append(decision.flagged)
    return selector, flags


@settings(max_examples=30)
@given(st.sampled_from([0.05, 0.2, 0.5, 0.95]), st.integers(0, 10_000))
def test_the_share_is_held_from_the_first_hundred_on(share: float, seed: int) -> None:
    scores = [random.Random(seed + 1).random() for _ in range(100)]
    _, flags = _play(scores, Budget(share, 0.1), seed)
    # Chance moves it: by 1.3 of 100 as a rule, by 6 in the worst of all these seeds.
    assert sum(flags) / 100 == pytest.approx(share, abs=0.065)


@pytest.mark.parametrize(
    "drift",
    [
        pytest.param(lambda i, r: r * i / 5000, id="growing"),
        pytest.param(lambda i, r: r * (1 - i / 5000), id="shrinking"),
        pytest.param(lambda i, r: i / 5000, id="always the highest yet"),
        pytest.param(lambda i, r: 0.9 + r / 10 if i > 2500 else r / 10, id="a step"),
        pytest.param(lambda i, r: 0.0, id="all the same"),
        pytest.param(lambda i, r: round(r), id="two values"),
    ],
)
@pytest.mark.parametrize("share", [0.05, 0.2, 0.95])
def test_the_share_is_held_in_every_thousand_while_the_scores_drift(
    drift: Callable[[int, float], float], share: float
) -> None:
    source = random.Random(3)
    _, flags = _play([drift(i, source.random()) for i in range(5000)], Budget(share, 0.1))
    for start in range(0, 5000, 1000):
        assert sum(flags[start : start + 1000]) / 1000 == pytest.approx(share, abs=0.02)


def test_the_highest_scores_are_the_ones_that_are_picked() -> None:
    source = random.Random(5)
    scores = [source.random() for _ in range(3000)]
    _, flags = _play(scores, Budget(0.2, 0.0))
    late = [(score, flag) for score, flag in zip(scores, flags, strict=True)][500:]
    assert sum(score for score, flag in late if flag) / sum(flag for _, flag in late) > 0.85


def test_exploration_picks_its_part_of_the_share_with_the_propensity_it_logs() -> None:
    source, selector, budget = random.Random(7), Selector(), Budget(0.2, 0.25)
    explored, weighted = 0, 0.0
    for _ in range(20_000):
        selector, decision = selector.decide(source.random(), budget, source.random(), 0.0)
        explored += decision.explored
        if decision.flagged:
            assert 0 < decision.propensity <= 1
            weighted += 1 / decision.propensity
    # Of 0.05 of all traffic, what lies above the threshold anyway counts as picked for its score.
    assert explored / 20_000 == pytest.approx(0.05 * (1 - 0.2), abs=0.01)
    # Horvitz-Thompson: the weights of what was picked add up to all there was.
    assert weighted == pytest.approx(20_000, rel=0.05)


def test_nothing_is_picked_without_a_budget_and_everything_with_all_of_it() -> None:
    scores = [random.Random(9).random() for _ in range(200)]
    assert not any(_play(scores, Budget(0.0, 0.5))[1])
    assert all(_play(scores, Budget(1.0, 0.5))[1])


def test_late_feedback_is_paid_from_the_same_budget() -> None:
    source, selector, budget = random.Random(11), Selector(), Budget(0.2, 0.1)
    for i in range(4000):
        selector, _ = selector.decide(source.random() / 2, budget, source.random(), 0.0)
        if i % 4 == 0:
            selector, _ = selector.reconsider(0.9, budget, source.random())
    assert selector.seen == 4000
    assert selector.flagged / selector.seen == pytest.approx(0.2, abs=0.02)


def test_memory_is_bounded_and_survives_the_table() -> None:
    selector, _ = _play([0.5] * (3 * WINDOW), Budget(0.2, 0.1))
    assert len(selector.scores) == 4 * WINDOW
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(selector), type=Selector) == selector


def test_a_budget_of_items_a_day_is_held_through_nights_and_rushes() -> None:
    source, selector = random.Random(13), Selector()
    budget = Budget(share=1.0, exploration=0.1, per_second=100 / 86400)
    asked = []
    for day in range(6):
        flagged = selector.flagged
        # Nothing by night, an hour in which five times as many come as in the others.
        hours = [*(source.uniform(8, 20) for _ in range(1500)), *(source.uniform(20, 21) for _ in range(625))]
        for hour in sorted(hours):
            selector, _ = selector.decide(source.random(), budget, source.random(), day * 86400 + hour * 3600)
        asked.append(selector.flagged - flagged)
    assert asked[1:] == pytest.approx([100] * 5, abs=15)


def test_of_a_share_and_so_much_a_day_the_lesser_holds() -> None:
    def flagged(budget: Budget) -> int:
        source, selector = random.Random(17), Selector()
        for second in range(0, 86400, 43):
            selector, _ = selector.decide(source.random(), budget, source.random(), float(second))
        return selector.flagged

    assert flagged(Budget(0.2, 0.1, per_second=50 / 86400)) == pytest.approx(50, abs=10)
    assert flagged(Budget(0.01, 0.1, per_second=500 / 86400)) == pytest.approx(20, abs=6)


def test_what_was_asked_before_costs_nothing() -> None:
    source, selector, budget, asked = random.Random(19), Selector(), Budget(0.2, 0.1), 0
    for number in range(5000):
        selector, decision = selector.decide(source.random(), budget, source.random(), 0.0)
        if decision.flagged and number % 2:
            selector = selector.not_asked()
        else:
            asked += decision.flagged
    assert selector.flagged == asked
    assert asked / 5000 == pytest.approx(0.2, abs=0.02)
