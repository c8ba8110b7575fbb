"""Whether a text is abusive: insults, threats, obscenities, in English.

A linear support vector machine over TF-IDF words, calibrated: alt-profanity-check's, trained on comments and tweets
that people had labelled. It is read over every window of a text. `recipes/toxicity` took its numbers out of that
package, whose own code takes some hundred times as long.
"""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.governance.domain.detectors import ANYTHING, Detector, Span

KIND = "toxicity"
MODEL = Path(__file__).parents[1] / "toxicity.npz"
THRESHOLD = 0.8

# About as long as what it was trained on.
WINDOW_WORDS = 40
_WORD = re.compile(r"\w\w+")


class Classifier:
    """The numbers, and how they are read.

    Attributes of the file, V words and F calibrated folds: words (V), idf (V), weights (V, F), bias (F), slope (F) and
    offset (F) of the calibration.
    """

    def __init__(self, path: Path) -> None:
        with np.load(path) as model:
            self._index = {word: position for position, word in enumerate(model["words"].tolist())}
            idf = model["idf"].astype(np.float64)
            # A word that is not known adds nothing.
            self._squares = np.append(idf**2, 0.0)
            self._evidence = np.vstack([model["weights"] * idf[:, None], np.zeros((1, len(model["bias"])))])
            self._bias, self._slope, self._offset = model["bias"], model["slope"], model["offset"]

    def windows(self, words: list[str]) -> NDArray[np.float64]:
        """Return the probability that each window of words is abusive; windows begin at each word, and one at least."""
        unknown = len(self._index)
        found = [self._index.get(word, unknown) for word in words]
        evidence = np.zeros((len(words) + 1, len(self._bias)))
        squares = np.zeros(len(words) + 1)
        np.cumsum(self._evidence[found], axis=0, out=evidence[1:])
        np.cumsum(self._squares[found], out=squares[1:])
        size = min(WINDOW_WORDS, len(words))
        norms = np.sqrt(np.maximum(squares[size:] - squares[: len(squares) - size], 1e-9))
        scores = (evidence[size:] - evidence[: len(evidence) - size]) / norms[:, None] + self._bias
        probabilities: NDArray[np.float64] = (1 / (1 + np.exp(self._slope * scores + self._offset))).mean(axis=1)
        return probabilities


@cache
def shipped() -> Classifier:
    """Return the classifier that comes with governance."""
    return Classifier(MODEL)


def toxicity(threshold: float | None) -> Detector:
    """Return the detector of abusive text, which finds at most one in a text: the worst window.

    Args:
        threshold: Probability from which it does; None for `THRESHOLD`.
    """
    classifier, limit = shipped(), THRESHOLD if threshold is None else threshold

    def find(folded: str) -> Iterator[Span]:
        words = _WORD.findall(folded)
        if not words:
            return
        probabilities = classifier.windows(words)
        worst = int(np.argmax(probabilities))
        if probabilities[worst] >= limit:
            places = list(_WORD.finditer(folded))[worst : worst + WINDOW_WORDS]
            yield Span(KIND, places[0].start(), places[-1].end())

    return Detector(KIND, ANYTHING, find)
