"""Ranks as p-values, and bets against them: what tests of a stream of values are made of, whatever its distribution.

A value's rank among others, ties broken by chance, is a p-value (Vovk, Nouretdinov and Gammerman 2003): while the
values are exchangeable, p-values are independent and uniform. A bet is a density on [0, 1]: it multiplies its stake by
its height at each p-value, so that without a change the stake is a martingale, and with one that has the bet's shape it
grows (Volkhonskiy et al. 2017).
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import NormalDist

# Values are told apart as far as these many slots do. That loses power, never the promise.
SLOTS = 128

# Cells of [0, 1], finer towards the ends. A bet is constant within each.
_TAIL = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.055, 0.075, 0.1, 0.13, 0.16)
_EDGES = (0.0, *_TAIL, *(n / 20 for n in range(4, 17)), *(1 - each for each in reversed(_TAIL)), 1.0)

# The chance that a bet gives a p-value to lie below a bound.
Shape = Callable[[float], float]


def normal(shift: float, spread: float) -> Shape:
    """Were the values normal: they are so many standard deviations higher, and spread so many times as wide."""
    normal = NormalDist()
    return lambda bound: bound if bound in (0, 1) else normal.cdf((normal.inv_cdf(bound) + shift) / spread)


def tail(share: float, times: float) -> Shape:
    """The highest values, so large a share of all, come so many times as often: as errors do."""
    rest = (1 - share * times) / (1 - share)
    return lambda bound: min(bound, share) * times + max(bound - share, 0) * rest


class Bets:
    """Bets of several shapes."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._shapes = shapes
        of_shapes = ([(below(high) - below(low)) / (high - low) for low, high in pairwise(_EDGES)] for below in shapes)
        self._heights = [list(cell) for cell in zip(*of_shapes, strict=True)]

    def heights(self, p: float) -> list[float]:
        """Return the height of each at a p-value."""
        return self._heights[bisect_right(_EDGES, p, 1, len(_EDGES) - 1) - 1]

    def mean_heights(self, low: float, high: float) -> list[float]:
        """Return the mean height of each over p-values from one to another that is higher."""
        return [(below(high) - below(low)) / (high - low) for below in self._shapes]


class Ranks:
    """How many values fell into each slot."""

    _BLOCK = 8

    def __init__(self) -> None:
        self.slots = array("I", bytes(4 * SLOTS))
        self._blocks = array("I", bytes(4 * SLOTS // self._BLOCK))  # the same by so many slots

    def add(self, slot: int) -> None:
        """Count a value."""
        self.slots[slot] += 1
        self._blocks[slot // self._BLOCK] += 1

    @property
    def count(self) -> int:
        """How many values there are."""
        return sum(self._blocks)

    def ranks(self, slot: int) -> tuple[float, float]:
        """Return the rank of one of the values, from the highest, 0, to the lowest, 1: between which and which it is.

        Args:
            slot: Which it fell into.
        """
        block, count = slot // self._BLOCK + 1, self.count
        above = sum(self.slots[slot + 1 : block * self._BLOCK]) + sum(self._blocks[block:])
        return above / count, (above + self.slots[slot]) / count

    def p_value(self, slot: int, chance: float) -> float:
        """Return the rank of one of the values, by a fresh random number in [0, 1) among those that are like it."""
        low, high = self.ranks(slot)
        return low + chance * (high - low)
