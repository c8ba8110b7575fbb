"""How often something was right, how sure that is, and whether it is less often than before."""

from dataclasses import dataclass
from math import comb, sqrt

# Of the normal distribution, for intervals of 95 %.
_QUANTILE = 1.959964
# Fewer on either side say nothing of a change.
FEWEST = 20


@dataclass(frozen=True)
class Share:
    """So many of so many."""

    right: int
    of: int

    @property
    def value(self) -> float:
        """The share, from 0 to 1; of nothing 0."""
        return self.right / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Its interval of 95 % (Wilson, 1927), from 0 to 1."""
        if not self.of:
            return 0.0, 1.0
        spread = _QUANTILE**2 / self.of
        middle = self.value + spread / 2
        reach = sqrt(spread * (self.value * (1 - self.value) + spread / 4))
        return max(0.0, (middle - reach) / (1 + spread)), min(1.0, (middle + reach) / (1 + spread))


def chance_of_fall(before: Share, latest: Share) -> float | None:
    """Return how often so few of the latest would be right by chance alone; None of too few to say.

    Source: Fisher's exact test, one-sided ("Statistical Methods for Research Workers", 5th edition, 1934).
    """
    if min(before.of, latest.of) < FEWEST:
        return None
    right, of = before.right + latest.right, before.of + latest.of
    fewer = sum(comb(right, n) * comb(of - right, latest.of - n) for n in range(latest.right + 1))
    return fewer / comb(of, latest.of)
