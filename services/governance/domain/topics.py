"""Whether a text is about something that a tenant forbids, told by examples."""

import re
from collections.abc import Iterator, Sequence

from services.governance.domain.detectors import ANYTHING, Detector, Span
from services.runtime.embeddings import Space

KIND = "topic"
# Share of ordinary requests that must be less about it.
THRESHOLD = 0.995
# About as long as an example is.
WINDOW_WORDS = 40
_WORD = re.compile(r"\S+")


def topic(name: str, examples: Sequence[str], threshold: float | None, space: Space) -> Detector:
    """Return the detector of a topic, which finds at most one place in a text: the window that is most about it.

    Args:
        name: Of the topic; findings are of the kind `topic:<name>`.
        examples: Requests that are about it.
        threshold: Share of ordinary requests that must be less about it; None for `THRESHOLD`.
        space: Where texts lie.
    """
    likeness, limit = space.likeness(examples), THRESHOLD if threshold is None else threshold

    def find(folded: str) -> Iterator[Span]:
        words = [match.span() for match in _WORD.finditer(folded)]
        windows = [words[first : first + WINDOW_WORDS] for first in range(0, len(words), WINDOW_WORDS)]
        places = [(window[0][0], window[-1][1]) for window in windows]
        if not places:
            return
        shares = likeness.shares(space.embed([folded[start:end] for start, end in places]))
        if shares.max() >= limit:
            yield Span(f"{KIND}:{name}", *places[int(shares.argmax())])

    return Detector(KIND, ANYTHING, find, reads_instructions=False)
