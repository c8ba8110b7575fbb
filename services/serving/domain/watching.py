"""Whether a specialist is worse than it was measured, or than what it replaced: a test that may be read at any time.

Each signal of quality is a stream of values, the higher the worse, and has a reference: what the gate measured of the
same specialist, or the values of what it replaced. A signal's evidence is made in four steps:

1. A value of the specialist's is ranked among the reference and its own earlier ones: a conformal p-value (Vovk,
   Nouretdinov and Gammerman 2003). While it is as good as the reference, p-values are independent and uniform. Where it
   is better, in distribution, each of them is only higher.
2. Bets are placed on low p-values: their heights fall with p. So while it is as good or better, stakes are no more than
   martingales (Volkhonskiy et al. 2017). All shapes lose by a slight change: what is hardly worse is not bad.
3. A specialist may become bad later. With each block of its values stakes are placed anew, 6 / (pi n)^2 in all with the
   n-th, which adds up to 1. So all stakes together are an e-process, which in all time reaches a bound with a chance of
   at most one in that bound (Ville 1939; Ramdas et al. 2023, "Game-theoretic statistics").
4. Of values that are alike chance says which is the higher, and it might seem to find what the values do not show. So
   the same stakes are also counted with the mean height over all that chance might have said, and there is no more
   evidence than by either. That takes nothing of the promise, and hardly any power.

Each of the signals may spend as much of the chance of a false alarm: so one that is as good as its references is called
bad with a chance of at most `alpha`, however long and often one looks, and however the signals hang together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.runtime.conformal import Bets, Ranks, normal, tail
from services.serving.domain.signals import SIGNALS, Signal

# Values of a signal after which stakes are placed anew.
BLOCK = 100
_BETS = Bets(
    [
        *(normal(shift, 1.0) for shift in (0.7, 1.4, 2.5)),
        *(
            tail(*each)
            for each in ((0.003, 30.0), (0.01, 15.0), (0.03, 8.0), (0.08, 4.0), (0.2, 2.2), (0.4, 1.6), (0.6, 1.4))
        ),
    ]
)
_SHAPES = len(_BETS.heights(0.0))


@dataclass
class _Mean:
    """The mean of values, and how many there are."""

    count: int = 0
    sum: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self.sum += value

    def __str__(self) -> str:
        return f"{self.sum / self.count:.3g} (mean of {self.count:,})" if self.count else "unknown"


@dataclass
class _Evidence:
    """What speaks against a specialist by one signal."""

    ranks: Ranks = field(default_factory=Ranks)
    stakes: Sequence[float] = (0.0,) * _SHAPES
    mean_stakes: Sequence[float] = (0.0,) * _SHAPES
    reference: _Mean = field(default_factory=_Mean)
    own: _Mean = field(default_factory=_Mean)

    def observe(self, slot: int, value: float, chance: float) -> float:
        """Take a value of the specialist's, and return how much evidence there is."""
        block, begun = divmod(self.own.count, BLOCK)
        placed = 6 / (math.pi * (block + 1)) ** 2 / _SHAPES if not begun else 0.0
        self.own.add(value)
        self.ranks.add(slot)
        low, high = self.ranks.ranks(slot)
        self.stakes = _grown(self.stakes, placed, _BETS.heights(low + chance * (high - low)))
        self.mean_stakes = _grown(self.mean_stakes, placed, _BETS.mean_heights(low, high))
        return min(sum(self.stakes), sum(self.mean_stakes))


def _grown(stakes: Sequence[float], placed: float, heights: Sequence[float]) -> list[float]:
    return [(stake + placed) * height for stake, height in zip(stakes, heights, strict=True)]


@dataclass(frozen=True)
class Alarm:
    """Why a specialist is bad.

    Attributes:
        signal: By which it is.
        evidence: Against it by this signal; it has reached the bound.
        bound: What one that is as good reaches with a chance of one in that.
        own: The signal's mean, in words.
        reference: The same of what it is held against.
        alpha: Chance of an alarm by any signal, were it as good.
    """

    signal: Signal
    evidence: float
    bound: float
    own: str
    reference: str
    alpha: float

    def __str__(self) -> str:
        """Why, for the record."""
        of = "of its gate" if self.signal.of_gate else "of what it replaced"
        return (
            f"{self.signal.name}: {self.own}, {of} {self.reference}; evidence {self.evidence:,.0f}, and one as good "
            f"reaches {self.bound:,.0f} with a chance of {1 / self.bound:.2g}, of any signal {self.alpha:.2g}"
        )


class Watch:
    """Watches one specialist; its memory does not grow with the number of its answers."""

    def __init__(self, alpha: float) -> None:
        """Say what is promised: one as good is called bad with a chance of at most alpha, in (0, 1)."""
        self._alpha = alpha
        self._bound = len(SIGNALS) / alpha
        self._evidence = {signal: _Evidence() for signal in SIGNALS}
        self.alarm: Alarm | None = None

    def count(self, signal: Signal) -> int:
        """Return how many values of a signal there are of the specialist."""
        return self._evidence[signal].own.count

    def learn(self, signal: Signal, value: float) -> None:
        """Take a value of a signal's reference."""
        evidence = self._evidence[signal]
        evidence.ranks.add(signal.slot(value))
        evidence.reference.add(value)

    def observe(self, signal: Signal, value: float, chance: float) -> None:
        """Take a value of the specialist's; the first alarm that there is stays.

        Args:
            signal: Of which.
            value: The higher, the worse.
            chance: A random number in [0, 1) that nothing depends on.
        """
        if self.alarm is not None:
            return
        each = self._evidence[signal]
        evidence = each.observe(signal.slot(value), value, chance)
        if evidence >= self._bound:
            self.alarm = Alarm(signal, evidence, self._bound, str(each.own), str(each.reference), self._alpha)
