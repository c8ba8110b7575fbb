"""How likely an answer is wrong, learned from what experts said of others.

Each model of a task has a Bayesian logistic regression (`services.runtime.logistic`) over what the signals of its
answers say, as log-odds. Before anything is labelled a signal counts for about that, so that the first chances are
sensible; each label then moves the weights a little.

Experts see doubtful answers more often than others, so what they say of them is not what they would say of all. What a
signal means is learned from every label alike, for that is the same wherever it is found; but how high chances lie is
set right (Platt 1999) by labels that count by the share of the traffic that experts see divided by the chance that this
answer had to be seen (inverse propensity).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from schemas.events import Signal
from services.runtime.logistic import Logistic, Vector, log_odds
from services.triage.domain.signals import NAMES

# No signal is taken for more certain than this, either way.
SUREST = 0.98
CONSTANT_VARIANCE = 1.0
# By which the constant is in doubt again when another version of the model answers.
VERSION_VARIANCE = 0.5
# The weight of one label lies between these: a rare one must not drown all others, nor a common one count for nothing.
LEAST_WEIGHT, GREATEST_WEIGHT = 0.1, 10.0
# Of how far chances lie too low or too high, and of how far apart: were that turned round, so would be who is asked.
SCALE_VARIANCES = (0.5, 0.02)


@dataclass(frozen=True)
class Weight:
    """How a signal counts before anything is known.

    Attributes:
        neutral: The value at which it says nothing.
        mean: By how much of what it says the log-odds rise.
        variance: How far the mean may be wrong.
    """

    neutral: float
    mean: float
    variance: float = 0.25


# Of signals that most answers have.
WEIGHTS = {
    "unlikely": Weight(0.5, 0.7),
    "other-function": Weight(0.2, 0.5),
    "improbable": Weight(0.3, 1.0),
    "doubtful": Weight(0.4, 0.0),
    "similar": Weight(0.5, 0.5),
    "called": Weight(0.5, 0.5),
    "new": Weight(0.5, 0.1),
}
# Of all others. That one is there at all may mean more or less than it says: by so much.
OTHER = Weight(0.3, 1.0)
PRESENCE_VARIANCE = 1.0

_WEIGHTS = [WEIGHTS.get(name, OTHER) for name in NAMES]
_PLACES = {name: place for place, name in enumerate(NAMES, 1)}
_PRESENCES = {name: place for place, name in enumerate((n for n in NAMES if n not in WEIGHTS), 1 + len(NAMES))}
_NEUTRAL = {name: log_odds(weight.neutral) for name, weight in zip(NAMES, _WEIGHTS, strict=True)}
_MEAN = np.array([0.0, *(weight.mean for weight in _WEIGHTS), *[0.0] * len(_PRESENCES)])
_VARIANCES = np.array(
    [CONSTANT_VARIANCE, *(weight.variance for weight in _WEIGHTS), *[PRESENCE_VARIANCE] * len(_PRESENCES)]
)
_NOTHING = (0.0,) * (len(_MEAN) - 1)


class Estimator:
    """What is known of when one model's answers to one task are wrong."""

    def __init__(self) -> None:
        """Begin with what is believed of every signal."""
        self._model = Logistic(_MEAN, _VARIANCES)
        self._scale = Logistic(np.array([0.0, 1.0]), np.array(SCALE_VARIANCES))
        self._versions: set[str] = set()

    def chance(self, found: Iterable[Signal]) -> float:
        """Return the chance that an answer with these signals is wrong."""
        return self._scale.chance(self._raw(self._features(found)))

    def learn(self, found: Iterable[Signal], failed: bool, weight: float, version: str = "") -> None:
        """Take in what an expert said of an answer.

        Args:
            found: Its signals, when it was picked.
            failed: It was wrong.
            weight: As how many it counts in how high chances lie.
            version: Of the model. How often a new one fails is in doubt; what its signals mean is much the same.
        """
        if self._versions and version not in self._versions:
            self._model.loosen(0, VERSION_VARIANCE)
        self._versions.add(version)
        features = self._features(found)
        self._scale.learn(self._raw(features), float(failed), min(max(weight, LEAST_WEIGHT), GREATEST_WEIGHT))
        self._model.learn(features, float(failed), 1.0)

    def _raw(self, features: Vector) -> Vector:
        return np.array([1.0, log_odds(self._model.chance(features))])

    def _features(self, found: Iterable[Signal]) -> Vector:
        features = [1.0, *_NOTHING]
        for signal in found:
            name, value = signal.name, min(max(signal.value, 1 - SUREST), SUREST)
            if name in _PLACES:  # one that is told by a later version of triage is not
                features[_PLACES[name]] = log_odds(value) - _NEUTRAL[name]
            if name in _PRESENCES:
                features[_PRESENCES[name]] = 1.0
        return np.array(features)
