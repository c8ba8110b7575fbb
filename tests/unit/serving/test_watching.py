from collections.abc import Callable, Iterable
from itertools import islice, repeat
from random import Random

import numpy as np
import pytest

from services.serving.domain.signals import (
    COMPLAINTS,
    CORRECTIONS,
    DOUBT,
    FORM,
    GUARDRAILS,
    RATINGS,
    SIGNALS,
    Signal,
)
from services.serving.domain.watching import _BETS, Alarm, Watch

ALPHA = 0.01
Draw = Callable[[Random], float]


def rate(share: float) -> Draw:
    return lambda random: float(random.random() < share)


def doubt(sd_more: float = 0.0) -> Draw:
    """Minus the log-probability of answers, spread over orders of magnitude as real ones are."""
    return lambda random: 10 ** (0.7 * (random.gauss() + sd_more) - 0.5)


def rating(mean: float) -> Draw:
    return lambda random: max(0.0, min(1.0, random.gauss(mean, 0.2)))


def answers_until_alarm(
    watch: Watch, random: Random, signals: dict[Signal, tuple[Draw, Draw]], references: int, answers: int
) -> int | None:
    """Watch a specialist's answers, each of which has every signal, against so many of each signal's reference."""
    for signal, (before, _) in signals.items():
        for _ in range(references):
            watch.learn(signal, before(random))
    for number in range(1, answers + 1):
        for signal, (_, after) in signals.items():
            watch.observe(signal, after(random), random.random())
        if watch.alarm is not None:
            return number
    return None


EVERY_SIGNAL = {
    DOUBT: doubt(),
    RATINGS: rating(0.3),
    CORRECTIONS: rate(0.25),
    COMPLAINTS: rate(0.05),
    FORM: rate(0.02),
    GUARDRAILS: rate(0.004),
}


@pytest.mark.parametrize("references", [0, 8, 60, 500])
def test_one_as_good_is_called_bad_as_rarely_as_promised_with_few_references_and_many(references: int) -> None:
    alpha, runs = 0.2, 150
    alike = {signal: (draw, draw) for signal, draw in EVERY_SIGNAL.items()}
    random = Random(references)
    alarms = sum(answers_until_alarm(Watch(alpha), random, alike, references, 400) is not None for _ in range(runs))
    # At most 30 are promised in expectation; these six of nine signals may spend two thirds of that.
    assert alarms <= 30


def test_the_promise_is_not_empty() -> None:
    """Its bound is not so far away that nothing ever reaches it: evidence of an equal is spread up to near it."""
    alike = {signal: (draw, draw) for signal, draw in EVERY_SIGNAL.items()}
    random = Random(1)
    alarms = sum(answers_until_alarm(Watch(0.5), random, alike, 60, 400) is not None for _ in range(60))
    assert 0 < alarms <= 30


def test_no_bet_stakes_more_than_it_may_and_each_falls_so_that_a_better_one_only_loses_by_it() -> None:
    heights = np.array([_BETS.heights(p) for p in (np.arange(10_000) + 0.5) / 10_000])
    assert heights.mean(axis=0) == pytest.approx(1.0, abs=1e-6)
    assert (np.diff(heights, axis=0) < 1e-9).all()


def test_one_that_is_better_is_never_called_bad() -> None:
    better: dict[Signal, tuple[Draw, Draw]] = {
        DOUBT: (doubt(), doubt(-0.7)),
        COMPLAINTS: (rate(0.3), rate(0.1)),
        CORRECTIONS: (rate(0.6), rate(0.2)),
    }
    random = Random(2)
    assert all(answers_until_alarm(Watch(ALPHA), random, better, 300, 600) is None for _ in range(40))


@pytest.mark.parametrize(
    ("signal", "before", "after", "references", "within"),
    [
        (CORRECTIONS, rate(0.3), rate(0.7), 200, 150),
        (COMPLAINTS, rate(0.05), rate(0.35), 500, 150),
        (RATINGS, rating(0.3), rating(0.7), 100, 60),
        (FORM, rate(0.0), rate(0.15), 500, 150),
        (DOUBT, doubt(), doubt(2.0), 40, 60),
    ],
    ids=["wrong", "complained of", "rated badly", "malformed", "unsure"],
)
def test_a_bad_one_is_found_within_300_answers_and_its_alarm_says_why(
    signal: Signal, before: Draw, after: Draw, references: int, within: int
) -> None:
    taken = []
    for seed in range(20):
        watch = Watch(ALPHA)
        answers = answers_until_alarm(watch, Random(seed), {signal: (before, after)}, references, 300)
        assert answers is not None
        assert watch.alarm is not None
        assert watch.alarm.signal is signal
        assert watch.alarm.evidence >= watch.alarm.bound == len(SIGNALS) / ALPHA
        taken.append(answers)
    assert sorted(taken)[len(taken) // 2] <= within


def test_one_that_becomes_bad_later_is_found_too() -> None:
    watch, random = Watch(ALPHA), Random(3)
    assert answers_until_alarm(watch, random, {COMPLAINTS: (rate(0.05), rate(0.05))}, 500, 3000) is None
    assert answers_until_alarm(watch, random, {COMPLAINTS: (rate(0.05), rate(0.5))}, 0, 300) is not None


def test_without_a_reference_nothing_is_bad() -> None:
    watch, random = Watch(ALPHA), Random(4)
    assert (
        answers_until_alarm(watch, random, {COMPLAINTS: (rate(0), rate(1.0)), DOUBT: (rate(0), doubt(3))}, 0, 1000)
        is None
    )


def test_chance_finds_nothing_where_all_values_are_alike() -> None:
    watch, luck = Watch(ALPHA), repeat(0.0, 1000)
    for _ in range(500):
        watch.learn(GUARDRAILS, 0.0)
    for chance in luck:
        watch.observe(GUARDRAILS, 0.0, chance)
    assert watch.alarm is None


def test_what_is_hardly_worse_is_not_bad() -> None:
    watch, random = Watch(ALPHA), Random(5)
    assert answers_until_alarm(watch, random, {CORRECTIONS: (rate(0.25), rate(0.28))}, 500, 3000) is None


def test_the_first_alarm_stays_and_says_what_was_measured() -> None:
    watch = Watch(ALPHA)
    feed(watch, repeat(0.0, 100), repeat(1.0, 100))
    first = watch.alarm
    assert isinstance(first, Alarm)
    feed(watch, (), repeat(1.0, 100))
    assert watch.alarm is first
    assert watch.count(FORM) < 100
    assert str(first).startswith(
        f"answers in a wrong form: 1 (mean of {watch.count(FORM)}), of what it replaced 0 (mean"
    )
    assert "and one as good reaches 900 with a chance of 0.0011, of any signal 0.01" in str(first)


def feed(watch: Watch, references: Iterable[float], values: Iterable[float]) -> None:
    for value in references:
        watch.learn(FORM, value)
    for value in islice(values, 100):
        watch.observe(FORM, value, 0.5)


@pytest.mark.parametrize("value", [-1e9, -1.0, 0.0, 1e-9, 0.5, 1.0, 7.0, 1e300, float("inf")])
def test_every_value_has_a_slot(value: float) -> None:
    for signal in SIGNALS:
        if value != float("inf") or signal is DOUBT:
            assert 0 <= signal.slot(value) < 128
