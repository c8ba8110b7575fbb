"""Logistic regression that learns outcome by outcome, and knows what it does not know.

An extended Kalman filter with a drift (West, Harrison and Migon 1985; Spiegelhalter and Lauritzen 1990). What is not
known yet pulls a chance towards one half (MacKay 1992).
"""

import math

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

# By how much of its first variance each weight's grows with each outcome, so that the last few thousand count most.
DRIFT = 1e-5


class Logistic:
    """A logistic regression whose weights are known as a mean and a covariance."""

    def __init__(self, mean: Vector, variances: Vector) -> None:
        """Take what is believed before anything is seen, (D,) each."""
        self._mean = mean
        self._covariance = np.diag(variances)
        self._drift = DRIFT * variances

    def chance(self, x: Vector) -> float:
        """Return the chance that is expected of features (D,)."""
        score = float(x.dot(self._mean))
        variance = float(x.dot(self._covariance).dot(x))
        return logistic(score / math.sqrt(1 + math.pi * variance / 8))

    def learn(self, x: Vector, right: float, weight: float) -> None:
        """Take in an outcome, from 0 to 1, that counts as so many: Laplace's approximation around the new mode.

        Given one outcome the mode moves along one line, and is found there by halving.
        """
        spread = self._covariance @ x
        variance, score = float(x @ spread), float(x @ self._mean)
        low, high = sorted((0.0, variance * weight * (right - logistic(score))))
        for _ in range(40):
            step = (low + high) / 2
            if step < variance * weight * (right - logistic(score + step)):
                low = step
            else:
                high = step
        chance = logistic(score + low)
        self._mean = self._mean + spread * (weight * (right - chance))
        information = weight * chance * (1 - chance)
        self._covariance -= np.outer(spread, spread) * (information / (1 + information * variance))
        self._covariance[np.diag_indices_from(self._covariance)] += self._drift

    def loosen(self, place: int, variance: float) -> None:
        """Be less sure of one weight."""
        self._covariance[place, place] += variance


def logistic(score: float) -> float:
    """Return the chance of log-odds."""
    if score < 0:
        return 1 - logistic(-score)
    return 1 / (1 + math.exp(-score))


def log_odds(chance: float) -> float:
    """Return the log-odds of a chance in (0, 1)."""
    return math.log(chance / (1 - chance))
