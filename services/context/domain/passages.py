"""Documents cut into passages, and what a text costs of a budget."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.events import Sensitivity

# UTF-8 bytes that one token covers, about: English prose has 4 to 5 in byte-pair vocabularies of 50,000 and more.
# Models differ in their tokenizers; the router estimates in the same way.
BYTES_PER_TOKEN = 4

# From coarse to fine, each with what joins its pieces again.
_SEPARATORS = (
    (re.compile(r"\n\s*\n"), "\n\n"),
    (re.compile(r"\n"), "\n"),
    (re.compile(r"(?<=[.!?。！？])\s+"), " "),  # noqa: RUF001 - full stops of other scripts are meant
    (re.compile(r"\s+"), " "),
)


@dataclass(frozen=True)
class Passage:
    """A part of a document.

    Attributes:
        document_id: Of the document, unique within its tenant.
        title: Of the document.
        text: The part.
        sensitivity: Of the document.
        tokens: What title and text cost, by estimate.
        score: How well it fits a query; greater is better, and only comparable within one answer.
    """

    document_id: str
    title: str
    text: str
    sensitivity: Sensitivity
    tokens: int
    score: float = 0.0


def estimated_tokens(text: str) -> int:
    """Return about how many tokens a text has: its UTF-8 bytes by four, rounded up."""
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def split(text: str, tokens: int) -> list[str]:
    """Cut a text into parts of at most so many tokens: paragraphs where they fit, then sentences, words, characters.

    Nothing but white space between the parts is left out.
    """
    parts: list[str] = []
    for joint, piece in _pieces(text, tokens, _SEPARATORS):
        longer = f"{parts[-1]}{joint}{piece}" if parts else piece
        if parts and estimated_tokens(longer) <= tokens:
            parts[-1] = longer
        else:
            parts.append(piece)
    return parts


def _pieces(text: str, tokens: int, separators: Sequence[tuple[re.Pattern[str], str]]) -> Iterator[tuple[str, str]]:
    """Yield pieces that fit, each with what joins it to the one before."""
    if not separators:
        # A part may have as many bytes as four times its tokens, and no character has more than four.
        yield from (("", text[start : start + tokens]) for start in range(0, len(text), tokens))
        return
    (separator, joint), *finer = separators
    for piece in filter(None, map(str.strip, separator.split(text))):
        if estimated_tokens(piece) <= tokens:
            yield joint, piece
            continue
        for position, (finer_joint, part) in enumerate(_pieces(piece, tokens, finer)):
            yield joint if position == 0 else finer_joint, part
