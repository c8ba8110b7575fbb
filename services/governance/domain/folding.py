"""Texts in the form in which detectors read them: what looks the same becomes the same.

Letters lose their case and their Latin accents, full-width and other compatibility forms become plain, digits of every
script become ASCII digits, every dash is `-` and every space is ` `, and invisible characters vanish. What is written
as an escape of JSON, in whatever text, is the character that it says. Positions in the folded text lead back to the
text it came from.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_LINE_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")
# Shown as nothing although Unicode counts them as letters or symbols.
_BLANKS = frozenset("\u115f\u1160\u3164\uffa0\u2800")
# Accents of Latin, Greek and Cyrillic, and variation selectors. Marks of other scripts are vowels and stay.
_DROPPED_MARKS = (
    (0x0300, 0x036F),
    (0x1AB0, 0x1AFF),
    (0x1DC0, 0x1DFF),
    (0x20D0, 0x20FF),
    (0xFE00, 0xFE0F),
    (0xFE20, 0xFE2F),
    (0xE0100, 0xE01EF),
)
_PLAIN = {"\u2212": "-", "\u3002": ".", "\u2044": "/"}
_ASCII_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_ESCAPE = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\u([0-9a-f]{4})", re.IGNORECASE)
_NOT_PLAIN = re.compile(r"[^\t\n\x20-\x7e]")


@dataclass(frozen=True)
class Folded:
    """A folded text.

    Attributes:
        text: What detectors read.
        origin: For each of its characters the position (code points) in the original text; None when they are the same.
        length: Code points of the original text.
    """

    text: str
    origin: Sequence[int] | None
    length: int

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the original's span for a span of the folded text; invisible characters go with what precedes them."""
        if self.origin is None:
            return start, end
        begin, behind = (self.origin[each] if each < len(self.origin) else self.length for each in (start, end))
        return begin, behind


def fold(text: str) -> Folded:
    """Fold a text."""
    if "\\u" not in text and "\\U" not in text:
        return _fold_characters(text)
    read, places = _without_escapes(text)
    folded = _fold_characters(read)
    origin = [places[each] for each in (range(len(read)) if folded.origin is None else folded.origin)]
    return Folded(folded.text, origin, len(text))


def _without_escapes(text: str) -> tuple[str, list[int]]:
    """Return a text with characters in place of their escapes, and where in the text each of its characters begins."""
    pieces: list[str] = []
    places: list[int] = []
    done = 0
    for escape in _ESCAPE.finditer(text):
        high, low, one = escape.groups()
        code = int(one, 16) if one else 0x10000 + (int(high, 16) - 0xD800) * 0x400 + int(low, 16) - 0xDC00
        pieces += [text[done : escape.start()], "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)]
        places += [*range(done, escape.start()), escape.start()]
        done = escape.end()
    return "".join([*pieces, text[done:]]), [*places, *range(done, len(text))]


def _fold_characters(text: str) -> Folded:
    if text.isascii() and not _ASCII_CONTROL.search(text):
        return Folded(text.lower().replace("\t", " "), None, len(text))
    folds = {character: _fold_character(character) for character in set(text)}
    if all(len(folded) == 1 for folded in folds.values()):
        return Folded(text.translate({ord(character): folded for character, folded in folds.items()}), None, len(text))
    pieces: list[str] = []
    origin: list[int] = []
    done = 0
    for found in _NOT_PLAIN.finditer(text):
        position, piece = found.start(), folds[found.group()]
        pieces += [text[done:position].lower().replace("\t", " "), piece]
        origin.extend(range(done, position))
        origin.extend([position] * len(piece))
        done = found.end()
    pieces.append(text[done:].lower().replace("\t", " "))
    origin.extend(range(done, len(text)))
    return Folded("".join(pieces), origin, len(text))


@lru_cache(maxsize=8192)
def _fold_character(character: str) -> str:
    if character in _LINE_BREAKS:
        return "\n"
    if character.isspace():
        return " "
    if character in _BLANKS:
        return ""
    compatible = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", character).casefold())
    return "".join(_plain(each) for each in compatible)


def _plain(character: str) -> str:
    if character in _PLAIN:
        return _PLAIN[character]
    category = unicodedata.category(character)
    if category in ("Cf", "Cc"):
        return ""
    if category == "Nd":
        return str(unicodedata.digit(character))
    if category == "Pd":
        return "-"
    if category == "Mn" and any(first <= ord(character) <= last for first, last in _DROPPED_MARKS):
        return ""
    return character
