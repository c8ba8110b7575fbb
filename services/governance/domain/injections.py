"""Whether a text tries to take a model over: prompt injections and jailbreaks.

A logistic regression over hashed character n-grams, as in fastText (Joulin et al. 2016) without words. Its evidence is
added up over every window of a text, so that an attack is seen in a long one too.
`recipes/injection` made the weights.
"""

import math
import re
import string
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.governance.domain.detectors import ANYTHING, Detector, Span

KIND = "injection"
MODEL = Path(__file__).parents[1] / "injections.npz"

# Characters of a window, some thirty words.
WINDOW = 200
GRAMS = (3, 5, 7)
BUCKETS_LOG2 = 17

_BETWEEN_WORDS = f"{string.punctuation}“”„«»…¡¿、。"
_SPACED = str.maketrans(dict.fromkeys(_BETWEEN_WORDS, " "))
_WORD = re.compile(rf"[^\s{re.escape(_BETWEEN_WORDS)}]+")
# FNV's prime (Fowler, Noll, Vo) takes in a character, Fibonacci hashing (Knuth, volume 3, 6.4) spreads over buckets.
_PRIME = np.uint32(16777619)
_SPREAD = np.uint32(2654435769)
_SHIFT = np.uint32(32 - BUCKETS_LOG2)


def words_of(text: str) -> str:
    """Return the words of a folded text with one space before and after each."""
    return f" {' '.join(text.translate(_SPACED).split())} "


def buckets(words: str) -> list[NDArray[np.uint32]]:
    """Return, for each length in `GRAMS`, the bucket of the n-gram that begins at each character."""
    codes = np.frombuffer(words.encode("utf-32-le", "surrogatepass"), np.uint32)
    hashes, found = np.zeros(len(codes), np.uint32), []
    for length in range(1, min(max(GRAMS), len(codes)) + 1):
        hashes = hashes[: len(codes) - length + 1] * _PRIME + codes[length - 1 :]
        if length in GRAMS:
            found.append((hashes * _SPREAD) >> _SHIFT)
    return found


class Classifier:
    """The weights, and how they are read."""

    def __init__(self, weights: NDArray[np.float32], bias: float, threshold: float) -> None:
        """Take a model.

        Args:
            weights: Of shape (2 ** BUCKETS_LOG2,), log-odds that an n-gram in the bucket adds.
            bias: Log-odds of a window without any.
            threshold: Probability from which a text counts as an attack if nothing else is said.
        """
        self._weights, self._bias, self.threshold = weights, bias, threshold

    def strongest(self, words: str) -> tuple[float, int]:
        """Return the probability that `words_of` a text hold an attack, and where its window begins in them."""
        evidence = np.zeros(len(words) + 1)
        for found in buckets(words):
            evidence[1 : len(found) + 1] += self._weights[found]
        total = np.cumsum(evidence)
        windows = total[WINDOW:] - total[:-WINDOW] if len(words) > WINDOW else total[-1:]
        start = int(np.argmax(windows))
        log_odds = max(-700.0, self._bias + float(windows[start]))
        return 1 / (1 + math.exp(-log_odds)), start

    def save(self, path: Path, phrases: str) -> None:
        """Write the model, and of which phrases it was made, as the digest of their file."""
        np.savez_compressed(
            path, weights=self._weights.astype(np.float16), bias=self._bias, threshold=self.threshold, phrases=phrases
        )


@cache
def shipped() -> Classifier:
    """Return the classifier that comes with governance."""
    with np.load(MODEL) as model:
        return Classifier(model["weights"].astype(np.float32), float(model["bias"]), float(model["threshold"]))


def injection(threshold: float | None) -> Detector:
    """Return the detector of injections, which finds at most one in a text: the window that looks most like one.

    Args:
        threshold: Probability from which it does; None for the shipped one.
    """
    classifier = shipped()
    limit = classifier.threshold if threshold is None else threshold

    def find(folded: str) -> Iterator[Span]:
        words = words_of(folded)
        probability, start = classifier.strongest(words)
        if probability >= limit and words.strip():
            yield Span(KIND, *_place(folded, start, start + WINDOW))

    return Detector(KIND, ANYTHING, find, reads_instructions=False)


def _place(folded: str, start: int, end: int) -> tuple[int, int]:
    """Return where the words that stand in a window of `words_of` a text stand in the text."""
    first, last, position = 0, 0, 1
    for word in _WORD.finditer(folded):
        after = position + len(word.group())
        if after <= start:
            first = word.end()
        if position < end:
            last = word.end()
        position = after + 1
    return first, last
