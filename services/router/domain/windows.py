"""How much of an answer that is still being written may leave.

A pattern may be cut in two by the end of what was written so far. So the last letters and digits are held back, as many
as the longest pattern that governance looks for has, and back from there to white space, which no e-mail address spans.
What is held back is looked at again together with what follows it: nothing leaves but what a verdict covers whole.
"""

import json
import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from schemas.bundle import Guardrail
from schemas.events import Finding

# Letters and digits of the longest card, phone, account and identity number, and of the words that name one.
HELD = 48
# Beyond this no word is an e-mail address (RFC 5321: 64 + 1 + 255 characters); such text is cut anywhere.
LONGEST_WORD = 320
# Behind which longer text is rather cut: no address, number, token or name of a mask goes on after these.
_PARTS = frozenset(',;"()>[]{}|')
# New characters that are worth another look.
STEP_CHARACTERS = 64

# What may be the beginning of a mask's name: it leaves whole, or it could not be told from other text.
_BEGUN_NAME = re.compile(r"<[A-Z]*_?[0-9]*\Z")

# Letters to Unicode that show as nothing: governance passes over them, so they must not count as held back.
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"


class Window:
    """The part of an answer that has not been released yet.

    Attributes:
        text: That part.
        start: Characters released before it.
    """

    def __init__(self, guardrails: Sequence[Guardrail], instructions: Sequence[str]) -> None:
        """Begin an answer.

        Args:
            guardrails: What is looked for in it.
            instructions: What the model was told, of which runs of words are looked for too.
        """
        denied = [
            _letters_and_digits(text)
            for guardrail in guardrails
            if "denied" in guardrail.detect
            for text in guardrail.texts
        ]
        leaks = [guardrail.words for guardrail in guardrails if "leak" in guardrail.detect]
        runs = [_longest_run(text, words) for words in leaks for text in instructions]
        self._held = max([HELD, *denied, *runs])
        self._looked_at = 0
        self.text = ""
        self.start = 0

    def add(self, piece: str) -> None:
        """Take in what the model wrote."""
        self.text += piece

    def due(self) -> str:
        """Return the beginning of the text that is worth asking governance about, empty when none is yet.

        It ends with a whole word: a denied word must not be seen in the beginning of another.
        """
        if len(self.text) - self._looked_at < STEP_CHARACTERS:
            return ""
        self._looked_at = len(self.text)
        whole = self.text[: _space_before(self.text, len(self.text))]
        return whole if self._releasable_end(whole) else ""

    def releasable(self, looked_at: str, findings: Sequence[Finding]) -> int:
        """Return how many characters may leave, given what was found in what `due` returned.

        A finding that reaches into what is held back may still grow, so it is held back whole. What a number is may be
        said by the words before it ("social security"): they leave together, or the number would be looked at alone.
        """
        end = self._releasable_end(looked_at)
        for finding in sorted(findings, key=lambda finding: -finding.start):
            if end < finding.end:
                end = min(end, self._releasable_end(looked_at[: finding.start]))
        return end

    def release(self, characters: int) -> None:
        """Let go of the first characters."""
        self.text = self.text[characters:]
        self.start += characters
        self._looked_at -= characters

    def _releasable_end(self, text: str) -> int:
        held = 0
        for position in range(len(text), 0, -1):
            held += _letters_and_digits(text[position - 1])
            if held > self._held:
                return _space_before(text, position)
        return 0


def _longest_run(text: str, words: int) -> int:
    """Return the most letters and digits that so many words of a text in a row have, escaped as in JSON too."""
    counts = [_letters_and_digits(json.dumps(f"{word} \n")) for word in unicodedata.normalize("NFKD", text).split()]
    ends = [0, *accumulate(counts)]
    return max(end - begin for begin, end in zip(ends, ends[words:] or ends[-1:], strict=False))


def _letters_and_digits(text: str) -> int:
    if text.isascii():
        return sum(map(str.isalnum, text))
    return sum(
        character.isalnum() and character not in _BLANK_LETTERS and _has_letters(character) for character in text
    )


@lru_cache(maxsize=8192)
def _has_letters(character: str) -> bool:
    """Return whether governance reads a letter or digit where Unicode counts one; not in an Arabic mark by itself."""
    return any(each.isalnum() for each in unicodedata.normalize("NFKD", character))


def _space_before(text: str, position: int) -> int:
    """Return the position after the last white space before a position; without any, 0, or the position itself."""
    for end in range(position, max(0, position - LONGEST_WORD), -1):
        if text[end - 1].isspace():
            return end
    if position <= LONGEST_WORD:
        return 0
    for end in range(position, position - LONGEST_WORD, -1):
        if text[end - 1] in _PARTS:
            return end
    begun = _BEGUN_NAME.search(text, position - LONGEST_WORD, position)
    return begun.start() if begun else position
