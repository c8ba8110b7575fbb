"""Whether an answer gives away what the model was told: its instructions, word for word."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from services.governance.domain.detectors import ANYTHING, Detector, Span
from services.governance.domain.folding import fold

KIND = "leak"
# Instructions of fewer words are too common to tell.
FEWEST_WORDS = 6
# The runs of longer instructions are not kept from one answer to the next: what is kept takes 60 MB at most.
KEPT_CHARACTERS = 20_000

_WORD = re.compile(r"[^\W_]+")
# Beside those by number, which are none any more in a folded text.
_ESCAPE = re.compile(r'\\["/bfnrt]')


def leaks(instructions: Sequence[str], words: int) -> Detector:
    """Return the detector of so many words of the instructions in a row, or of all the words of shorter ones.

    What stands between words does not matter, nor do case and accents.
    """
    runs = [(_kept_runs if len(text) <= KEPT_CHARACTERS else _runs)(text, words) for text in instructions]

    def find(folded: str) -> Iterator[Span]:
        text, origin = _unescaped(folded)
        found = [(match.group(), origin[match.start()], origin[match.end()]) for match in _WORD.finditer(text)]
        said = [word for word, _, _ in found]
        begin = end = -1
        for i in range(len(said)):
            length = max((_length_here(said, i, each) for each in runs), default=0)
            if not length:
                continue
            if i > end and end >= 0:
                yield Span(KIND, found[begin][1], found[end - 1][2])
            if i > end or end < 0:
                begin = i
            end = max(end, i + length)
        if end >= 0:
            yield Span(KIND, found[begin][1], found[end - 1][2])

    return Detector(KIND, ANYTHING, find)


def _unescaped(folded: str) -> tuple[str, Sequence[int]]:
    """Return a text with what JSON writes as escapes as it is, and where each character, and the end, was before."""
    if "\\" not in folded:
        return folded, range(len(folded) + 1)
    pieces, origin, done = [], list[int](), 0
    for escape in _ESCAPE.finditer(folded):
        pieces += [folded[done : escape.start()], " "]
        origin += [*range(done, escape.start()), escape.start()]
        done = escape.end()
    return "".join([*pieces, folded[done:]]), [*origin, *range(done, len(folded) + 1)]


def _length_here(said: Sequence[str], i: int, runs: tuple[int, frozenset[int]]) -> int:
    length, known = runs
    return length if hash(tuple(said[i : i + length])) in known else 0


def _runs(instructions: str, words: int) -> tuple[int, frozenset[int]]:
    """Return the runs of words that give instructions away, as hashes, and how many words each has."""
    told = _WORD.findall(fold(instructions).text)
    length = min(words, len(told))
    if length < FEWEST_WORDS:
        return 0, frozenset()
    return length, frozenset(hash(tuple(told[i : i + length])) for i in range(len(told) - length + 1))


_kept_runs = lru_cache(maxsize=256)(_runs)
