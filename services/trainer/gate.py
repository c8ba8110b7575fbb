"""Whether a candidate is better than what is live: the paired comparison on the hold-out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class GateRule:
    """What a candidate must show to be promoted.

    Attributes:
        minimum_items: Hold-out requests that both models must have answered.
        minimum_gain: The lower end of the interval of the gain in accuracy must lie above this (0.02 is two points).
        minimum_accuracy: The candidate's own accuracy must reach this, however poor the incumbent.
        confidence: Mass of the two-sided interval.
        resamples: Bootstrap resamples.
        seed: Makes the interval repeatable.
    """

    minimum_items: int = 50
    minimum_gain: float = 0.0
    minimum_accuracy: float = 0.0
    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses rules that no comparison could be held to."""
        if self.minimum_items < 1:
            raise ValueError(f"minimum_items must be at least 1, got {self.minimum_items}")
        if not -1 <= self.minimum_gain < 1:
            raise ValueError(f"minimum_gain must lie in [-1, 1), got {self.minimum_gain}")
        if not 0 <= self.minimum_accuracy <= 1:
            raise ValueError(f"minimum_accuracy must lie in [0, 1], got {self.minimum_accuracy}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie in (0, 1), got {self.confidence}")
        if self.resamples < 1:
            raise ValueError(f"resamples must be at least 1, got {self.resamples}")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The gate's decision and what it rests on. Accuracies, difference and interval are shares, not percent.

    Attributes:
        promote: Whether the candidate may go live.
        reasons: One plain sentence for every condition, met or not.
        candidate_accuracy: Share of hold-out requests that the candidate got right.
        incumbent_accuracy: Share that the incumbent got right.
        difference: Candidate minus incumbent.
        interval: (lower, upper) of the difference at the rule's confidence.
        items: Requests compared.
    """

    promote: bool
    reasons: tuple[str, ...]
    candidate_accuracy: float
    incumbent_accuracy: float
    difference: float
    interval: tuple[float, float]
    items: int


def paired_bootstrap(
    candidate: Sequence[bool], incumbent: Sequence[bool], *, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Percentile interval of the difference in accuracy of two models on the same items (Efron & Tibshirani 1993).

    An item's difference is -1, 0 or 1, so drawing n items with replacement is one multinomial draw over three counts:
    the same distribution as resampling the items themselves, in memory that does not grow with them.

    Args:
        candidate: Correctness per item.
        incumbent: Correctness per item, in the same order.
        confidence: Mass of the interval, in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: The two are not over the same, non-empty list of items.
    """
    if len(candidate) != len(incumbent) or not candidate:
        raise ValueError(
            "candidate and incumbent must be judged on the same items, at least one; "
            f"got {len(candidate)} and {len(incumbent)}"
        )
    items = len(candidate)
    difference = np.asarray(candidate, dtype=np.int8) - np.asarray(incumbent, dtype=np.int8)
    shares = np.array([(difference == value).mean() for value in (-1, 0, 1)])
    counts = np.random.default_rng(seed).multinomial(items, shares, size=resamples)
    tail = (1 - confidence) / 2
    lower, upper = np.quantile((counts[:, 2] - counts[:, 0]) / items, [tail, 1 - tail])
    return float(lower), float(upper)


def judge(candidate: Sequence[bool], incumbent: Sequence[bool], rule: GateRule) -> Verdict:
    """Holds a candidate against the incumbent on the same hold-out requests.

    Args:
        candidate: Whether the candidate's answer was right, per request.
        incumbent: Whether the incumbent's was, in the same order.
        rule: What promotion takes.

    Raises:
        ValueError: The two are not over the same, non-empty list of requests.
    """
    items = len(candidate)
    lower, upper = paired_bootstrap(
        candidate, incumbent, confidence=rule.confidence, resamples=rule.resamples, seed=rule.seed
    )
    candidate_accuracy, incumbent_accuracy = sum(candidate) / items, sum(incumbent) / items
    difference = candidate_accuracy - incumbent_accuracy
    missing = rule.minimum_items - items
    conditions = [
        (
            missing <= 0,
            f"{items} requests were compared; at least {rule.minimum_items} are needed"
            + (f", {missing} more" if missing > 0 else ""),
        ),
        (
            lower > rule.minimum_gain,
            f"accuracy changed by {_points(difference)} ({rule.confidence:.0%} interval {_points(lower)} to "
            f"{_points(upper)}); the lower end must be above {_points(rule.minimum_gain)}",
        ),
        (
            candidate_accuracy >= rule.minimum_accuracy,
            f"the candidate is right on {candidate_accuracy:.1%}; at least {rule.minimum_accuracy:.1%} is needed",
        ),
    ]
    return Verdict(
        promote=all(met for met, _ in conditions),
        reasons=tuple(f"{'met' if met else 'not met'}: {text}" for met, text in conditions),
        candidate_accuracy=candidate_accuracy,
        incumbent_accuracy=incumbent_accuracy,
        difference=difference,
        interval=(lower, upper),
        items=items,
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"
