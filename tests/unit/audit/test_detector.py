import math
import pickle
from collections.abc import Callable
from random import Random

import pytest

from services.audit.drift.detector import LATEST, Change, Detector
from services.runtime.conformal import SLOTS

Draw = Callable[[Random], int]


def normal(random: Random, shift: float = 0.0) -> int:
    """Return a slot of a normal value; 12 slots are a standard deviation."""
    return max(0, min(SLOTS - 1, round(12 * (random.gauss() + shift) + 64)))


def heavy_tailed(random: Random) -> int:
    return min(SLOTS - 1, int(8 * math.log(random.paretovariate(0.8))))


def rare(random: Random, share: float = 0.01) -> int:
    return int(random.random() < share)


def tied(random: Random) -> int:
    return random.randrange(3)


def named(random: Random) -> int:
    return random.choices(range(6), (40, 25, 15, 10, 7, 3))[0]


def alarms(detector: Detector, random: Random, draw: Draw, count: int, parts: int = 1) -> list[tuple[int, Change]]:
    found = []
    for number in range(count):
        slot = draw(random)
        change = detector.observe(slot, float(slot), float(number), random.random(), number % parts)
        if change is not None:
            found.append((number, change))
    return found


@pytest.mark.parametrize("parts", [1, 24])
@pytest.mark.parametrize(
    ("draw", "categorical"),
    [(normal, False), (heavy_tailed, False), (rare, False), (tied, False), (named, True)],
    ids=["normal", "heavy-tailed", "1 in 100", "ties", "names"],
)
def test_false_alarms_are_as_rare_as_promised_whatever_the_distribution(
    draw: Draw, categorical: bool, parts: int
) -> None:
    threshold, count = 200, 10_000
    found = alarms(Detector(threshold, categorical=categorical, parts=parts), Random(5), draw, count, parts)
    promised = count / threshold
    # Their number is at most that in expectation; so many more come by chance in 1 of 1,000 tries, were they Poisson's.
    assert len(found) <= promised + 3.1 * math.sqrt(promised)
    assert found, "a test that never raises an alarm promises nothing of this threshold"


@pytest.mark.parametrize(
    ("before", "after", "categorical", "within"),
    [
        (normal, lambda random: normal(random, 1.0), False, 60),
        (normal, lambda random: normal(random, -0.5), False, 250),
        (normal, lambda random: max(0, min(SLOTS - 1, round(24 * random.gauss() + 64))), False, 100),
        (rare, lambda random: rare(random, 0.1), False, 500),
        (named, lambda random: 9 if random.random() < 0.1 else named(random), True, 250),
        (named, lambda random: random.choices(range(6), (20, 45, 15, 10, 7, 3))[0], True, 400),
    ],
    ids=["1 sd higher", "half a sd lower", "twice as wide", "1 to 10 in 100", "a new name", "names change places"],
)
def test_a_change_is_found_and_told(before: Draw, after: Draw, categorical: bool, within: int) -> None:
    detector, random = Detector(1e6, categorical=categorical), Random(7)
    assert not alarms(detector, random, before, 3000)

    (number, change), *_ = alarms(detector, random, after, within)

    assert change.statistic >= 1e6
    assert change.values == 3000 + number + 1
    assert change.after != pytest.approx(change.before, rel=0.05)


def test_it_is_told_from_when_on_and_what_the_means_were() -> None:
    detector, random = Detector(1e6), Random(11)
    assert not alarms(detector, random, normal, 3000)
    for number in range(100):
        slot = normal(random, 1.0)
        change = detector.observe(slot, float(slot), 3000.0 + number, random.random())
        if change is not None:
            break
    assert change is not None
    assert change.since == pytest.approx(3000, abs=15)
    assert change.before == pytest.approx(64, abs=1)
    assert change.after == pytest.approx(76, abs=4)


def test_of_names_it_is_told_which_moved_most() -> None:
    detector, random = Detector(1e6, categorical=True), Random(3)
    assert not alarms(detector, random, named, 2000)
    (_, change), *_ = alarms(detector, random, lambda r: 5 if r.random() < 0.3 else named(r), 300)
    assert change.slot == 5
    assert change.before == pytest.approx(0.03, abs=0.02)
    assert change.after > 3 * change.before


def test_after_an_alarm_what_is_new_is_ordinary() -> None:
    detector, random = Detector(1e6), Random(2)
    alarms(detector, random, normal, 2000)
    found = alarms(detector, random, lambda r: normal(r, 1.0), 10_000)
    assert len(found) == 1


def test_what_differs_by_the_hour_is_no_change_where_each_hour_is_compared_with_itself() -> None:
    def day(parts: int, days: int, shift: float = 0.0) -> int:
        random, detector, found = Random(4), Detector(1e6, parts=parts), 0
        for number in range(days * 1200):
            hour = number // 50 % 24
            slot = normal(random, math.sin(math.pi * hour / 12) + (shift if number >= (days - 1) * 1200 else 0))
            found += detector.observe(slot, 0.0, float(number), random.random(), hour % parts) is not None
        return found

    assert day(parts=1, days=5) > 5
    assert day(parts=24, days=5) == 0
    assert day(parts=24, days=5, shift=1.0) >= 1


def test_memory_does_not_grow() -> None:
    detector, random = Detector(1e9, parts=24), Random(1)
    alarms(detector, random, normal, 24 * LATEST, parts=24)
    before = len(pickle.dumps(detector))
    alarms(detector, random, normal, 24 * LATEST, parts=24)
    assert len(pickle.dumps(detector)) == pytest.approx(before, rel=0.01)
