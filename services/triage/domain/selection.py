"""Which interactions go to experts, held to a budget.

A budget is a share of the traffic, or of it so many items a day as that comes to at the pace of the latest requests.
Part of it is spent at random, so that what the score misses is seen too; the rest goes to the interactions whose score
lies in the upper quantile of the latest ones. Both are logged as a propensity, so that estimates from labels can be
weighted back to all traffic (inverse propensity, Horvitz-Thompson).
"""

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass

import msgspec
import numpy as np
from msgspec import structs

# Latest scores that a new one is ranked among.
WINDOW = 256
# A debt of this many interactions moves the share by all of it; the smaller, the closer the share is held.
GAIN = 20.0
# A debt beyond this is forgiven, so that an hour without a budget is not made up for in a minute.
DEBT_LIMIT = 50.0
# Latest requests by whose pace a budget of so much a day becomes a share, and the longest pause that counts in it.
PACE = 64
LONGEST_PAUSE_SECONDS = 24 * 3600.0
_FLOAT = struct.Struct("=f")


@dataclass(frozen=True)
class Budget:
    """What an operator decided for one (tenant, task).

    Attributes:
        share: Of the traffic that experts are asked about at most, in [0, 1].
        exploration: Part of that share that is picked at random, in [0, 1].
        per_second: Items that experts are asked about at most; none: no more than the share.
    """

    share: float
    exploration: float
    per_second: float | None = None


@dataclass(frozen=True)
class Decision:
    """Whether an interaction goes to experts.

    Attributes:
        flagged: It does.
        explored: It does, and was picked at random, not for its score.
        threshold: The score from which an interaction was picked for its score; 1 or more where none was.
        propensity: The chance that it had to be picked, one way or the other.
        share: Of the traffic that the budget came to.
    """

    flagged: bool
    explored: bool
    threshold: float
    propensity: float
    share: float


class Selector(msgspec.Struct, frozen=True):
    """What is remembered of one (tenant, task) between interactions: a few hundred numbers, whatever the traffic.

    The quantile is exact over the last `WINDOW` scores, so it follows a drift of the scores within that many
    interactions. Scores that tie at the threshold are picked by chance, with the probability that fills the share. What
    is then still owed or overdrawn (by a drift within the window, by late feedback) moves the share of the next ones.

    Attributes:
        scores: The latest scores, oldest first, as 32-bit floats.
        owed: Interactions that the budget would have allowed and that were not picked; negative when overdrawn.
        seen: Interactions decided about.
        flagged: Interactions picked.
        latest_at: When the latest of them came, in seconds since the epoch.
        pause_seconds: Between two of them, on average over the latest.
    """

    scores: bytes = b""
    owed: float = 0.0
    seen: int = 0
    flagged: int = 0
    latest_at: float = 0.0
    pause_seconds: float = 0.0

    def decide(self, score: float, budget: Budget, chance: float, at: float) -> tuple["Selector", Decision]:
        """Decide about a new interaction; return the selector that remembers it, and the decision.

        Args:
            score: In [0, 1].
            budget: To be held.
            chance: A fresh random number in [0, 1).
            at: When it came, in seconds since the epoch.
        """
        paced = self._paced(at)
        share = paced._share(budget)
        window, rank = _ranked(self.scores, score)
        wanted = _clamp(share + self.owed / GAIN) if share else 0.0
        explored_share = min(share * budget.exploration, wanted)
        by_score = (wanted - explored_share) / (1 - explored_share) if explored_share < 1 else 0.0
        threshold, picked = rank.pick(by_score)
        propensity = explored_share + (1 - explored_share) * picked
        flagged = chance < propensity
        # One draw serves both: below the score's own probability it counts as picked for its score.
        explored = flagged and chance >= picked
        return paced._after(window, share, seen=1, flagged=flagged), Decision(
            flagged, explored, threshold, propensity, share
        )

    def reconsider(self, score: float, budget: Budget, chance: float) -> tuple["Selector", Decision]:
        """Decide again about an interaction that was not picked, after feedback; nothing is explored here.

        It is part of the budget, so later interactions make room for it.
        """
        share = self._share(budget)
        window, rank = _ranked(self.scores, score)
        threshold, picked = rank.pick(_clamp(share + self.owed / GAIN) if share else 0.0)
        flagged = chance < picked
        return self._after(window, 0.0, seen=0, flagged=flagged), Decision(flagged, False, threshold, picked, share)

    def not_asked(self) -> "Selector":
        """Return it without the latest pick: experts were asked that before, so it costs them nothing."""
        return structs.replace(self, owed=min(DEBT_LIMIT, self.owed + 1), flagged=self.flagged - 1)

    def _share(self, budget: Budget) -> float:
        """Return the share of the traffic that a budget comes to at its present pace."""
        if budget.per_second is None:
            return budget.share
        return min(budget.share, budget.per_second * self.pause_seconds)

    def _paced(self, at: float) -> "Selector":
        if not self.seen:
            return structs.replace(self, latest_at=at)
        pause = min(max(0.0, at - self.latest_at), LONGEST_PAUSE_SECONDS)
        average = self.pause_seconds + (pause - self.pause_seconds) / min(self.seen, PACE)
        return structs.replace(self, latest_at=max(at, self.latest_at), pause_seconds=average)

    def _after(self, window: bytes, share: float, *, seen: int, flagged: bool) -> "Selector":
        owed = max(-DEBT_LIMIT, min(DEBT_LIMIT, self.owed + share - flagged))
        return structs.replace(self, scores=window, owed=owed, seen=self.seen + seen, flagged=self.flagged + flagged)


@dataclass(frozen=True)
class _Rank:
    """Where a score stands among the latest ones, itself included."""

    ordered: list[float]  # rising
    above: int
    equal: int

    def pick(self, share: float) -> tuple[float, float]:
        """Return the threshold that a share means here, and the probability with which this score is picked."""
        count = len(self.ordered)
        room = share * count
        threshold = self.ordered[max(count - 1 - int(room), 0)] if share > 0 else 1.0
        return threshold, _clamp((room - self.above) / self.equal)


def _ranked(scores: bytes, score: float) -> tuple[bytes, _Rank]:
    latest = _FLOAT.pack(score)
    (rounded,) = _FLOAT.unpack(latest)  # as its ties are kept
    window = (scores + latest)[-WINDOW * len(latest) :]
    ordered: list[float] = np.sort(np.frombuffer(window, np.float32)).tolist()
    upto = bisect_right(ordered, rounded)
    return window, _Rank(ordered, len(ordered) - upto, upto - bisect_left(ordered, rounded))


def _clamp(value: float) -> float:
    return max(0.0, min(1.0, value))
