"""How likely a model answers a request rightly, learned from how it did before.

Each model of a task has a Bayesian logistic regression over what a request looks like. It is calibrated as it comes:
scaling what was foretold by what came of it (Platt 1999) made it no better in `benchmarks.routing`.
"""

import math
import string

import numpy as np

from services.runtime.embeddings import Space
from services.runtime.logistic import Logistic, Vector, log_odds

# How much of a question is looked at: more costs time and tells little.
CHARACTERS = 256
# Directions in which ordinary requests differ most. It, and the variances, were chosen by the held-out likelihood of
# subjects left out of the fitting half of `benchmarks.routing`, and of rows left out.
DIRECTIONS = 24
# How far the weights may lie from nought before anything is known: of the constant, of a surface feature (which are of
# the order of one), of a direction (of which an ordinary request has one).
CONSTANT_VARIANCE, SURFACE_VARIANCE, DIRECTION_VARIANCE = 1.0, 0.1, 0.01
# How far what sureness counts for may lie from what it says.
SURENESS_VARIANCE = 0.5
# The chance of a model of which nothing is known.
PRIOR = {"specialist": 0.7, "small": 0.5, "large": 0.7, "frontier": 0.8}

_LETTER, _UPPER, _DIGIT, _SYMBOL, _SPACE, _LINE, _FOREIGN = range(7)
_KINDS = np.full(256, _LETTER)
for _kind, _characters in {
    _UPPER: string.ascii_uppercase, _DIGIT: string.digits, _SYMBOL: string.punctuation, _SPACE: " \t", _LINE: "\n"
}.items():  # fmt: skip
    _KINDS[list(_characters.encode())] = _kind
_KINDS[128:] = _FOREIGN
SURFACE = 9


class Features:
    """What a request looks like, as numbers: what it is about, and its surface."""

    def __init__(self, space: Space) -> None:
        """Take the directions from how ordinary requests differ: their principal components, each scaled to one."""
        variances, directions = np.linalg.eigh(np.linalg.inv(space.background.precision.astype(np.float64)))
        self._space = space
        scaled = (directions / np.sqrt(variances))[:, ::-1][:, :DIRECTIONS]
        self._middle = space.background.mean @ scaled
        self._directions = np.ascontiguousarray(scaled, np.float32)
        self.dimensions = 1 + SURFACE + self._directions.shape[1]

    def of(self, question: str, turns: int, tools: int) -> Vector:
        """Return the features of a request, (dimensions,); the first is 1.

        Args:
            question: What the user said last, masked.
            turns: Messages in all.
            tools: Functions that it offers.
        """
        text = question[:CHARACTERS]
        vector = self._space.embed([text])[0]
        return np.concatenate((_surface(text, turns, tools), vector.dot(self._directions) - self._middle))


def _surface(text: str, turns: int, tools: int) -> list[float]:
    counts = np.bincount(_KINDS[np.frombuffer(text.encode(errors="replace"), np.uint8)], minlength=7).tolist()
    size = sum(counts) + 1
    # Shares spread over orders of magnitude; the constants bring each to about nought for a request of one sentence.
    return [
        1.0,
        math.log(size) - 5,
        math.log(size / (1 + counts[_SPACE] + counts[_LINE])) - 2,
        math.log1p(counts[_LINE]),
        *(math.log1p(100 * counts[kind] / size) - 1 for kind in (_UPPER, _DIGIT, _SYMBOL)),
        math.log1p(100 * counts[_FOREIGN] / size),
        math.log(turns),
        math.log1p(tools),
    ]


class Success:
    """What is known of one model's success at one task."""

    def __init__(self, dimensions: int, prior: float) -> None:
        """Begin with the chance that is expected of it before anything is known."""
        self._ordinary = np.zeros(dimensions)
        self._ordinary[0] = 1.0
        variances = np.full(dimensions, DIRECTION_VARIANCE)
        variances[: 1 + SURFACE] = CONSTANT_VARIANCE, *[SURFACE_VARIANCE] * SURFACE
        self._model = Logistic(log_odds(prior) * self._ordinary, variances)

    def learn_rate(self, rate: float, outcomes: int) -> None:
        """Take in that it was right at this rate on so many ordinary requests, as a gate found."""
        self._model.learn(self._ordinary, rate, outcomes)

    def learn(self, x: Vector, right: float, weight: float) -> None:
        """Take in what came of an answer.

        Args:
            x: Features of the request, (dimensions,).
            right: From 0, wrong, to 1.
            weight: As how many outcomes it counts.
        """
        self._model.learn(x, right, weight)

    def chance(self, x: Vector) -> float:
        """Return the chance that it answers a request of these features rightly."""
        return self._model.chance(x)


class Confidence:
    """How likely an answer is right by how likely its model found it: a logistic regression over the latter.

    Before anything is known, that a model finds an answer likely counts for about what it says.
    """

    def __init__(self) -> None:
        self._model = Logistic(np.array([0.0, 1.0]), np.array([CONSTANT_VARIANCE, SURENESS_VARIANCE]))

    def learn(self, sum_logprob: float, right: float, weight: float = 1.0) -> None:
        """Take in what came of an answer whose tokens' log-probabilities sum up to this, as `Success.learn` does."""
        self._model.learn(_sureness(sum_logprob), right, weight)

    def chance(self, sum_logprob: float) -> float:
        """Return the chance that such an answer is right."""
        return self._model.chance(_sureness(sum_logprob))


def _sureness(sum_logprob: float) -> Vector:
    # From 2.3, certain, over 0, where it finds another answer likelier, to -4 of one in which every word was doubtful.
    return np.array([1.0, -math.log(0.1 - min(sum_logprob, 0.0))])
