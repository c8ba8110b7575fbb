"""Whether a text is about something that a tenant forbids, told by examples.

A topic is the direction in which the examples lie from what people ordinarily ask, weighed by how ordinary requests
differ among themselves (Fisher's linear discriminant, with a covariance that is shrunk towards a sphere). How far a
text lies in it is compared with how far ordinary requests do, so the threshold is a share of those.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from services.governance.domain.detectors import ANYTHING, Detector, Span

KIND = "topic"
BACKGROUND = Path(__file__).parents[1] / "background.npz"
# Share of ordinary requests that must lie less far in the topic's direction.
THRESHOLD = 0.995
# About as long as an example is.
WINDOW_WORDS = 40
_WORD = re.compile(r"\S+")

Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Background:
    """Ordinary requests as static embeddings of D dimensions.

    Attributes:
        mean: (D,).
        precision: Inverse of their covariance, (D, D).
        requests: (requests, D).
    """

    mean: npt.NDArray[np.float32]
    precision: npt.NDArray[np.float32]
    requests: npt.NDArray[np.float32]

    @classmethod
    def load(cls, path: Path = BACKGROUND) -> "Background":
        """Return the background that comes with governance."""
        with np.load(path) as arrays:
            return cls(*(arrays[name].astype(np.float32) for name in ("mean", "precision", "requests")))


@dataclass(frozen=True)
class Space:
    """Where texts lie, and where ordinary ones do."""

    embed: Embed
    background: Background

    def topic(self, name: str, examples: Sequence[str], threshold: float | None) -> Detector:
        """Return the detector of a topic, which finds at most one place in a text: the window that is most about it.

        Args:
            name: Of the topic; findings are of the kind `topic:<name>`.
            examples: Requests that are about it.
            threshold: Share of ordinary requests that are less about it; None for `THRESHOLD`.
        """
        direction = self.background.precision @ (self.embed(examples).mean(axis=0) - self.background.mean)
        ordinary = (self.background.requests - self.background.mean) @ direction
        limit = np.quantile(ordinary, THRESHOLD if threshold is None else threshold)

        def find(folded: str) -> Iterator[Span]:
            words = [match.span() for match in _WORD.finditer(folded)]
            windows = [words[first : first + WINDOW_WORDS] for first in range(0, len(words), WINDOW_WORDS)]
            places = [(window[0][0], window[-1][1]) for window in windows]
            if not places:
                return
            scores = (self.embed([folded[start:end] for start, end in places]) - self.background.mean) @ direction
            if scores.max() >= limit:
                yield Span(f"{KIND}:{name}", *places[int(scores.argmax())])

        return Detector(KIND, ANYTHING, find, reads_instructions=False)
