"""Documents cut into passages, and what a text costs of a budget."""

import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from schemas.events import Sensitivity

# UTF-8 bytes that one token covers, about: English prose has 4 to 5 in byte-pair vocabularies of 50,000 and more.
# Models differ in their tokenizers; the router estimates in the same way.
BYTES_PER_TOKEN = 4

# From coarse to fine, each with what joins its pieces again.
Separators = Sequence[tuple[re.Pattern[str], str]]
SEPARATORS: Separators = (
    (re.compile(r"\n\s*\n"), "\n\n"),
    # Items of a list part before their lines do.
    (re.compile(r"\n(?=[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t])"), "\n"),
    (re.compile(r"\n"), "\n"),
    (re.compile(r"(?<=[.!?。！？])\s+"), " "),  # noqa: RUF001 - full stops of other scripts are meant
    (re.compile(r"\s+"), " "),
)
CUT = " […]"
# What governance puts in the place of a value. One that is cut in two stands for nothing any more.
_LONGEST_MASK = 48
_MASK = re.compile(r"<[A-Z][A-Z_]*_\d+>")


class Passage(msgspec.Struct, frozen=True):
    """A part of a document.

    Attributes:
        document_id: Of the document, unique within its tenant.
        title: Of the document, with the headings that the part lies under.
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


def beginning(text: str, tokens: int) -> str:
    """Return a text, or of a longer one the beginning, at most so many tokens with the mark that it was cut.

    It ends between two words where one ends near, and never within a mask.
    """
    if estimated_tokens(text) <= tokens:
        return text
    room = max(0, tokens * BYTES_PER_TOKEN - len(CUT.encode()))
    kept = text.encode()[:room].decode(errors="ignore")
    mask = kept.rfind("<", -_LONGEST_MASK)
    found = _MASK.match(text, mask) if mask >= 0 else None
    if found and found.end() > len(kept):
        kept = kept[:mask]
    elif kept and not text[len(kept)].isspace():
        space = max(kept.rfind(" "), kept.rfind("\n"))
        kept = kept[:space] if space > len(kept) / 2 else kept
    return kept.rstrip() + CUT


def packed(parts: Iterable[tuple[str, str]], tokens: int) -> list[str]:
    """Return pieces joined to as few texts as fit, in order; each comes with what joins it to the one before."""
    texts: list[str] = []
    for joint, piece in parts:
        longer = f"{texts[-1]}{joint}{piece}" if texts else piece
        if texts and estimated_tokens(longer) <= tokens:
            texts[-1] = longer
        else:
            texts.append(piece)
    return texts


def pieces(text: str, tokens: int, separators: Separators = SEPARATORS) -> Iterator[tuple[str, str]]:
    """Yield pieces of at most so many tokens, each with what joins it to the one before.

    They are paragraphs where those fit, then list items, lines, sentences, words, characters. Nothing but white space
    between them is left out.
    """
    if not separators:
        # A part may have as many bytes as four times its tokens, and no character has more than four.
        yield from (("", text[start : start + tokens]) for start in range(0, len(text), tokens))
        return
    (separator, joint), *finer = separators
    for piece in filter(None, map(str.strip, separator.split(text))):
        if estimated_tokens(piece) <= tokens:
            yield joint, piece
            continue
        for position, (finer_joint, part) in enumerate(pieces(piece, tokens, finer)):
            yield joint if position == 0 else finer_joint, part
