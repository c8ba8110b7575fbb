"""How far experts agree, beyond chance, and how sure that is.

What is compared is each expert's own outcome: whether the model's answer was right, wrong or unsafe. How a wrong answer
is corrected is free text, of which nobody can say how often two would write the same by chance; that it is not the same
makes a request disputed (`schemas.labels`).

Intervals are of 95 %, by the percentile bootstrap over items. Where all agree, no resample can differ; there the lower
end is that of the exact binomial interval of the observed agreement (Clopper and Pearson, 1934).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

# Of fewer items no number is given: its interval would be as wide as the scale.
MINIMUM_ITEMS = 20
RESAMPLES = 2000
TAIL = 0.025  # on each side of an interval of 95 %

Ratings: TypeAlias = Mapping[str, Mapping[str, str]]  # by item, then by rater
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Agreement:
    """Agreement beyond chance: 1 full, 0 as much as by chance, below 0 less.

    Attributes:
        items: That two or more have judged.
        value: None of too few items, and where all judgements are the same one, so that chance alone would agree.
        low: Lower end of its interval; None where there is no value.
        high: Upper end.
    """

    items: int
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class TaskAgreement:
    """How far the experts of a task agree.

    Attributes:
        all_experts: Krippendorff's alpha of all.
        experts: Of each expert the alpha over the items that they judged, with whoever else judged them.
        pairs: Cohen's kappa of each two who have judged an item both, in the order of their names.
    """

    all_experts: Agreement
    experts: dict[str, Agreement]
    pairs: dict[tuple[str, str], Agreement]


def agreement(ratings: Ratings) -> TaskAgreement:
    """Return how far the experts of one task agree.

    Args:
        ratings: What each found of the requests that two or more have judged by themselves.
    """
    experts = sorted({expert for of_item in ratings.values() for expert in of_item})
    pairs = {pair: cohens_kappa(ratings, *pair) for pair in combinations(experts, 2)}
    return TaskAgreement(
        all_experts=krippendorffs_alpha(ratings),
        experts={
            expert: krippendorffs_alpha({item: of_item for item, of_item in ratings.items() if expert in of_item})
            for expert in experts
        },
        pairs={pair: found for pair, found in pairs.items() if found.items},
    )


def cohens_kappa(ratings: Ratings, one: str, other: str, *, minimum_items: int = MINIMUM_ITEMS) -> Agreement:
    """Return the kappa of two raters, over the items that both have rated.

    Source: Cohen, "A coefficient of agreement for nominal scales", Educational and Psychological Measurement 20 (1960).
    """
    units = [(of_item[one], of_item[other]) for of_item in ratings.values() if one in of_item and other in of_item]
    return _agreement(units, _paired, _kappa, minimum_items)


def krippendorffs_alpha(ratings: Ratings, *, minimum_items: int = MINIMUM_ITEMS) -> Agreement:
    """Return the nominal alpha of any number of raters, of whom each may have rated some items only.

    Source: Krippendorff, "Content Analysis: An Introduction to Its Methodology", 4th edition (2018), chapter 12.
    """
    units = [tuple(sorted(of_item.values())) for of_item in ratings.values() if len(of_item) > 1]
    return _agreement(units, _coincidences, _alpha, minimum_items)


def _agreement(
    units: Sequence[tuple[str, ...]],
    table_of: Callable[[Sequence[int], int], Floats],
    measure: Callable[[Floats], tuple[Any, Any]],
    minimum_items: int,
) -> Agreement:
    items = len(units)
    if items < minimum_items:
        return Agreement(items)
    # Items with the same ratings are the same to the bootstrap, which is then quick however many there are.
    patterns = Counter(units)
    values = {value: number for number, value in enumerate(sorted({value for unit in units for value in unit}))}
    tables = np.array([table_of([values[value] for value in unit], len(values)) for unit in patterns])
    counts = np.array(list(patterns.values()))
    observed, by_chance = measure(np.tensordot(counts, tables, 1))
    if by_chance == 1:
        return Agreement(items)
    value = float(_beyond_chance(observed, by_chance))
    if observed == 1:
        return Agreement(items, value, float(_beyond_chance(TAIL ** (1 / items), by_chance)), value)
    draws = np.random.default_rng(0).multinomial(items, counts / items, size=RESAMPLES)
    resampled = _beyond_chance(*measure(np.tensordot(draws, tables, 1)))
    low, high = np.nanquantile(resampled, [TAIL, 1 - TAIL])
    return Agreement(items, value, float(low), float(high))


def _beyond_chance(observed: Any, by_chance: Any) -> Any:
    """Return agreement beyond chance; not a number where chance alone would agree."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance == 1, np.nan, (observed - by_chance) / (1 - by_chance))


def _paired(unit: Sequence[int], size: int) -> Floats:
    """Return the table of one item: a 1 where the row of one's value meets the column of the other's."""
    table = np.zeros((size, size))
    table[unit[0], unit[1]] = 1
    return table


def _kappa(table: Floats) -> tuple[Any, Any]:
    """Return the observed agreement, and that by chance, of tables of shape (..., values, values)."""
    total = table.sum((-2, -1))
    observed = np.trace(table, axis1=-2, axis2=-1) / total
    return observed, (table.sum(-1) * table.sum(-2)).sum(-1) / total**2


def _coincidences(unit: Sequence[int], size: int) -> Floats:
    """Return the coincidences of one item: its ordered pairs of ratings, each item weighing as its raters are many."""
    counts = np.bincount(unit, minlength=size).astype(float)
    return (np.outer(counts, counts) - np.diag(counts)) / (len(unit) - 1)


def _alpha(coincidences: Floats) -> tuple[Any, Any]:
    """Return the observed agreement, and that by chance, of coincidences of shape (..., values, values)."""
    of_value = coincidences.sum(-1)
    total = of_value.sum(-1)
    observed = np.trace(coincidences, axis1=-2, axis2=-1) / total
    return observed, (of_value * (of_value - 1)).sum(-1) / (total * (total - 1))
