"""Whether a candidate is better than what is live, and no worse at what may not fall. Pure.

The same hold-out judges one candidate after another until one is promoted, and who tries often enough is lucky once. So
what lies outside of the interval, 1 - confidence, is shared out among all candidates that will ever be held against the
same incumbent: the n-th gets 6 / (pi n)^2 of it, which adds up to the whole (alpha spending, Lan and DeMets 1983). Half
of it is on the side of being better: with 95 %, all together have a chance of 2.5 % to promote one that is no better.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.events import GateAnswer


@dataclass(frozen=True, kw_only=True)
class GateRule:
    """What a candidate must show to be promoted.

    Attributes:
        minimum_items: Hold-out requests that both models must have answered.
        minimum_gain: The lower end of the interval of the gain in accuracy must lie above this (0.02 is two points).
            Where it is not negative, wins over losses must be more than chance brings, too.
        confidence: Mass of the two-sided interval, over all candidates that are held against the same incumbent.
        attempt: Which of these this one is, from 1.
    """

    minimum_items: int = 50
    minimum_gain: float = 0.0
    confidence: float = 0.95
    attempt: int = 1

    @property
    def alpha(self) -> float:
        """The part of 1 - confidence that this attempt may spend."""
        return (1 - self.confidence) * 6 / (math.pi * self.attempt) ** 2

    def __post_init__(self) -> None:
        """Refuses rules that no comparison could be held to."""
        if self.minimum_items < 1:
            raise ValueError(f"minimum_items must be at least 1, got {self.minimum_items}")
        if not -1 <= self.minimum_gain < 1:
            raise ValueError(f"minimum_gain must lie in [-1, 1), got {self.minimum_gain}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie in (0, 1), got {self.confidence}")
        if self.attempt < 1:
            raise ValueError(f"attempt must be at least 1, got {self.attempt}")


@dataclass(frozen=True)
class Condition:
    """What a candidate must meet, as a plain sentence with the figures that it rests on."""

    met: bool
    text: str

    def __str__(self) -> str:
        return f"{'met' if self.met else 'not met'}: {self.text}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the paired comparison came to. Accuracies, difference and interval are shares, not percent.

    Attributes:
        conditions: All that it takes to be promoted.
        candidate_accuracy: Share of hold-out requests that the candidate got right.
        incumbent_accuracy: Share that the incumbent got right.
        difference: Candidate minus incumbent.
        interval: (lower, upper) of the difference.
        confidence: Of the interval.
        items: Requests compared.
    """

    conditions: tuple[Condition, ...]
    candidate_accuracy: float
    incumbent_accuracy: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    items: int

    @property
    def promote(self) -> bool:
        """Whether every condition is met."""
        return all(condition.met for condition in self.conditions)


def paired_bootstrap(candidate: Sequence[bool], incumbent: Sequence[bool], *, confidence: float) -> tuple[float, float]:
    """Percentile interval of the difference in accuracy of two models on the same items (Efron & Tibshirani 1993).

    An item's difference is -1, 0 or 1, so what n items drawn with replacement add up to has a distribution that can be
    worked out, the n-th convolution of theirs, and nothing has to be drawn: however little is in a tail, it is there.

    Args:
        candidate: Correctness per item.
        incumbent: Correctness per item, in the same order.
        confidence: Mass of the interval, in (0, 1).

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
    shares = [(difference == value).mean() for value in (-1, 0, 1)]
    size = 2 * items + 1  # sums from -items to items
    chances = np.fft.irfft(np.fft.rfft(shares, size) ** items, size)
    below = np.cumsum(np.clip(chances, 0, None))
    tail = (1 - confidence) / 2
    lower, upper = np.searchsorted(below, [tail, 1 - tail])
    return (int(lower) - items) / items, (min(int(upper), 2 * items) - items) / items


def mcnemar(won: int, lost: int) -> float:
    """Return how often chance alone would bring as many wins or more: the exact test of McNemar (1947), one-sided."""
    return float(sum(math.comb(won + lost, count) for count in range(won, won + lost + 1)) / 2 ** (won + lost))


def fallen(slices: Mapping[str, tuple[int, int]], alpha: float) -> list[str]:
    """Return the slices that a candidate is surely worse on, corrected for how many there are (Holm 1979).

    Args:
        slices: Of each, how many requests only the candidate got right, and how many only the incumbent.
        alpha: Chance of naming any where it is as good on all.
    """
    chances = sorted((mcnemar(lost, won), name) for name, (won, lost) in slices.items())
    found: list[str] = []
    for place, (chance, name) in enumerate(chances):
        if chance > alpha / (len(chances) - place):
            break
        found.append(name)
    return sorted(found)


def judge(
    candidate: Sequence[bool], incumbent: Sequence[bool], rule: GateRule, slices: Sequence[Collection[str]] = ()
) -> Verdict:
    """Holds a candidate against the incumbent on the same hold-out requests.

    Args:
        candidate: Whether the candidate's answer was right, per request.
        incumbent: Whether the incumbent's was, in the same order.
        rule: What promotion takes.
        slices: Of each request, the slices that it is in; none: no slices are looked at.

    Raises:
        ValueError: The two are not over the same, non-empty list of requests.
    """
    items, confidence = len(candidate), 1 - rule.alpha
    lower, upper = paired_bootstrap(candidate, incumbent, confidence=confidence)
    candidate_accuracy, incumbent_accuracy = sum(candidate) / items, sum(incumbent) / items
    difference = candidate_accuracy - incumbent_accuracy
    missing = rule.minimum_items - items
    won, lost = won_and_lost(candidate, incumbent)
    chance = mcnemar(won, lost)
    by_name = {name: won_and_lost(*pair) for name, pair in by_slice(candidate, incumbent, slices).items()}
    worse = fallen(by_name, 1 - rule.confidence)
    conditions = (
        Condition(
            missing <= 0,
            f"{items} requests were compared; at least {rule.minimum_items} are needed"
            + (f", {missing} more" if missing > 0 else ""),
        ),
        Condition(
            lower > rule.minimum_gain,
            f"accuracy changed by {_points(difference)} ({100 * confidence:.6g} % interval {_points(lower)} to "
            f"{_points(upper)}); the lower end must be above {_points(rule.minimum_gain)}",
        ),
        Condition(
            rule.minimum_gain < 0 or chance <= rule.alpha / 2,
            f"{won} requests were won and {lost} lost, which chance alone would bring {chance:.2%} of the times; "
            f"{rule.alpha / 2:.2%} are allowed to candidate {rule.attempt} against this incumbent",
        ),
        Condition(
            not worse,
            f"surely worse on {', '.join(worse)}" if worse else "surely worse on none of the slices",
        ),
    )
    return Verdict(
        conditions=conditions,
        candidate_accuracy=candidate_accuracy,
        incumbent_accuracy=incumbent_accuracy,
        difference=difference,
        interval=(lower, upper),
        confidence=confidence,
        items=items,
    )


def retains(candidate: Sequence[bool], incumbent: Sequence[bool], share: float) -> Condition:
    """Hold a candidate to what the incumbent gets right of the operator's cases, but for a share of it."""
    held, (_, lost) = sum(incumbent), won_and_lost(candidate, incumbent)
    return Condition(
        not lost or lost / held <= share,
        f"{held} of {len(incumbent)} cases of the bundle are answered rightly now, and {lost} of these would be lost; "
        f"{share:.0%} may be",
    )


def keeps_silent(said: Sequence[bool]) -> Condition:
    """Hold a candidate to what it may never say, given whether it said so, case by case."""
    return Condition(
        not any(said), f"{sum(said)} of {len(said)} answers held what the bundle wants in none; not one may"
    )


def is_prompt(seconds: Sequence[float], limit_ms: int) -> Condition:
    """Hold a candidate to the time in which 95 of 100 of its answers are to be complete."""
    taken = 1000 * percentile(seconds, 0.95)
    return Condition(
        taken <= limit_ms, f"95 of 100 answers were complete within {taken:,.0f} ms; {limit_ms:,} ms are allowed"
    )


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that such a share of some values does not exceed, 0 of none."""
    return float(np.quantile(values, share, method="inverted_cdf")) if values else 0.0


def surer_when_right(answers: Sequence[GateAnswer]) -> float | None:
    """Return how often a right answer was found likelier than a wrong one: the area under the ROC curve.

    As Mann and Whitney (1947) count it, ties by half; 0.5 says that being sure means nothing. None where there are no
    right or no wrong answers whose log-probability is known.
    """
    known = [(answer.sum_logprob, answer.right) for answer in answers if answer.sum_logprob is not None]
    right = np.array([logprob for logprob, is_right in known if is_right])
    wrong = np.array([logprob for logprob, is_right in known if not is_right])
    if not right.size or not wrong.size:
        return None
    return float((right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2)


def won_and_lost(candidate: Sequence[bool], incumbent: Sequence[bool]) -> tuple[int, int]:
    """Return how many only the candidate got right, and how many only the incumbent."""
    pairs = list(zip(candidate, incumbent, strict=True))
    return sum(own and not other for own, other in pairs), sum(other and not own for own, other in pairs)


def by_slice(
    candidate: Sequence[bool], incumbent: Sequence[bool], slices: Sequence[Collection[str]]
) -> dict[str, tuple[list[bool], list[bool]]]:
    """Return what the candidate and the incumbent got right, slice by slice."""
    found: defaultdict[str, tuple[list[bool], list[bool]]] = defaultdict(lambda: ([], []))
    for own, other, names in zip(candidate, incumbent, slices or [()] * len(candidate), strict=True):
        for name in names:
            found[name][0].append(own)
            found[name][1].append(other)
    return found


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"
