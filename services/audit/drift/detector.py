"""Finding a change in a stream of values, with false alarms as rare as promised whatever the values' distribution.

Three steps, each from the literature:

1. A value becomes a conformal p-value: its rank among all values since the reference began, ties broken by chance
   (Vovk, Nouretdinov and Gammerman 2003). While the values are exchangeable, p-values are independent and uniform.
2. Bets are placed against that. A bet is a density on [0, 1]: it multiplies its stake by its height at each p-value, so
   that without a change the stake is a martingale, and with one that has the bet's shape it grows (Volkhonskiy et al.
   2017; Vovk et al. 2021, "Retrain or not retrain").
3. Each value adds to the stakes, for a change may begin at any (Shiryaev 1963; Roberts 1966). After n values without a
   change all stakes together are n in expectation: an e-detector (Shin, Ramdas and Rinaldo 2023). Where they reach the
   threshold c, that is an alarm, and the detector begins anew with what is ordinary from then on.

So in n values without a change at most n / c false alarms are expected: exactly, for every n, whatever is observed.

Requests of one hour of the day need not be like those of another. A reference may therefore have parts, one for each
hour, and a value is ranked within its own (Vovk et al. 2003, "Mondrian confidence machine"): then the promise wants
exchangeable values only within each part, and a value says nothing until its part has others.
"""

from array import array
from dataclasses import dataclass

from services.runtime.conformal import SLOTS, Bets, Ranks, normal, tail

# Of so many of the latest values the shape is known, which one bet follows and an alarm tells of.
LATEST = 128

# By a change of less than half of the smallest shift all of these lose: so small a one hardly ever is an alarm.
_SHIFTS = (-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0)
_SPREADS = (0.6, 1.6)
_TAILS = ((0.003, 4.0), (0.01, 3.0), (0.03, 3.0), (0.1, 3.0), (0.2, 2.0), (0.4, 1.6))
_SHAPES = (
    *(normal(shift, 1.0) for shift in _SHIFTS),
    *(normal(0.0, spread) for spread in _SPREADS),
    *(tail(*each) for each in _TAILS),
)
_BETS = Bets(_SHAPES)
# One more bet follows the latest p-values: it tells so many cells apart, each with so many p-values to begin with.
_CELLS, _PRIOR = 10, 5.0
# How the stake that each value adds is shared out: to the one that follows, and to each of the others.
_FOLLOWING = 0.3
_EACH = (1 - _FOLLOWING) / len(_SHAPES)


@dataclass(frozen=True)
class Change:
    """What an alarm tells.

    Attributes:
        statistic: All stakes together; it has reached the threshold.
        values: Seen since the reference began.
        since: When the change began, probably: when the stakes were placed, on average; in seconds, and within the
            latest `LATEST` values.
        before: Mean of the values until then; of categories, the share of the one that moved most.
        after: The same of the values since then.
        slot: The category that moved most; of numbers none.
    """

    statistic: float
    values: int
    since: float
    before: float
    after: float
    slot: int | None = None


class Detector:
    """Watches one stream of values; its memory does not grow with their number."""

    def __init__(self, threshold: float, *, categorical: bool = False, parts: int = 1) -> None:
        """Say what is promised.

        Args:
            threshold: At most one false alarm in so many values is expected.
            categorical: Slots have no order: a value ranks by how rare its slot is.
            parts: Of the reference.
        """
        self._threshold = threshold
        self._categorical = categorical
        self._parts = parts
        self._begin()

    def _begin(self) -> None:
        self._seen = 0
        self._sum = 0.0
        self._counts: list[Ranks | None] = [None] * self._parts
        # Of each bet: its stakes together, and each times the number of values since it was placed.
        self._stakes = [0.0] * (len(_SHAPES) + 1)
        self._ages = [0.0] * (len(_SHAPES) + 1)
        # Of the latest values, in a ring: when, what, and in which cell its p-value was.
        self._times = array("d", bytes(8 * LATEST))
        self._values = array("d", bytes(8 * LATEST))
        self._cells = array("b", bytes(LATEST))
        self._shape = [_PRIOR] * _CELLS  # how many p-values each of the cells holds

    def observe(self, slot: int, value: float, at: float, chance: float, part: int = 0) -> Change | None:
        """Take the next value, and tell of a change when there is one.

        Args:
            slot: Which of the `SLOTS` it falls into; where they have an order, in that.
            value: Itself; of categories its slot.
            at: Its time, in seconds.
            chance: A fresh random number in [0, 1).
            part: Of the reference.
        """
        p = self._p_value(slot, chance, part)
        heights = [*_BETS.heights(p), self._followed(p)]
        self._ages = [
            (age + stake) * height for age, stake, height in zip(self._ages, self._stakes, heights, strict=True)
        ]
        self._stakes = [(stake + _EACH) * height for stake, height in zip(self._stakes, heights, strict=True)]
        self._stakes[-1] += (_FOLLOWING - _EACH) * heights[-1]
        place = self._seen % LATEST
        self._times[place], self._values[place] = at, value
        self._sum += value
        self._seen += 1
        statistic = sum(self._stakes)
        if statistic < self._threshold:
            return None
        change = self._change(statistic)
        self._begin()
        return change

    def _p_value(self, slot: int, chance: float, part: int) -> float:
        counts = self._counts[part]
        if counts is None:
            counts = self._counts[part] = Ranks()
        counts.add(slot)
        if not self._categorical:
            return counts.p_value(slot, chance)
        own = counts.slots[slot]
        above = sum([count for count in counts.slots if count < own])
        return (above + chance * own * counts.slots.count(own)) / counts.count

    def _followed(self, p: float) -> float:
        """Return the height of the bet that this p-value is like the latest ones; then it is one of them."""
        cell, place = min(int(p * _CELLS), _CELLS - 1), self._seen % LATEST
        height = self._shape[cell] * _CELLS / (min(self._seen, LATEST) + _PRIOR * _CELLS)
        if self._seen >= LATEST:
            self._shape[self._cells[place]] -= 1
        self._shape[cell] += 1
        self._cells[place] = cell
        return height

    def _change(self, statistic: float) -> Change:
        number = min(LATEST, self._seen, 1 + round(sum(self._ages) / statistic))
        latest = [(self._seen - 1 - back) % LATEST for back in range(number)]
        after, others = [self._values[place] for place in latest], max(1, self._seen - number)
        slot, means = None, ((self._sum - sum(after)) / others, sum(after) / number)
        if self._categorical:
            counts = [sum(each) for each in zip(*(each.slots for each in self._counts if each), strict=True)]
            now = [after.count(each) for each in range(SLOTS)]
            slot = max(range(SLOTS), key=lambda each: abs(now[each] / number - (counts[each] - now[each]) / others))
            means = (counts[slot] - now[slot]) / others, now[slot] / number
        return Change(statistic, self._seen, self._times[latest[-1]], *means, slot)
