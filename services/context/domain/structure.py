"""Documents cut into parts by their structure: Markdown's where there is any, else paragraphs.

Only lines are looked at, each once, so that the time is linear in the text whatever stands in it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from services.context.domain.passages import beginning, estimated_tokens, packed, pieces

HEADING_TOKENS = 24
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(?:(=+)|-{2,})[ \t]*")
_FENCE = re.compile(r"[ \t]*(`{3,}|~{3,})")
_ITEM = re.compile(r"[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]")


@dataclass(frozen=True)
class Part:
    """A part of a document.

    Attributes:
        headings: That it lies under, outermost first; of a long one the beginning.
        text: At most so many tokens as were asked for.
    """

    headings: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class _Heading:
    level: int
    text: str


@dataclass(frozen=True)
class _Block:
    """Lines that belong together.

    Attributes:
        lines: Those that it may be cut between.
        head: Those that each part begins with: a table's header, the fence of code. Without, it is prose.
        foot: Those that each part ends with: the fence of code.
    """

    lines: Sequence[str]
    head: Sequence[str] = ()
    foot: Sequence[str] = ()

    def pieces(self, tokens: int) -> Iterator[tuple[str, str]]:
        """Yield what fits, each with what joins it to the one before."""
        whole = "\n".join((*self.head, *self.lines, *self.foot))
        room = tokens - estimated_tokens("\n".join((*self.head, *self.foot, "")))
        if self.head and estimated_tokens(whole) <= tokens:
            yield "\n\n", whole
        elif self.head and room > tokens / 2:
            fitting = (
                piece
                for line in self.lines
                for piece in ([("\n", line)] if estimated_tokens(line) <= room else pieces(line, room))
            )
            for part in filter(str.strip, packed(fitting, room)):
                yield "\n\n", "\n".join((*self.head, part.strip("\n"), *self.foot))
        else:
            yield from pieces(whole, tokens)


def cut(text: str, tokens: int) -> list[Part]:
    """Cut a document into parts of at most so many tokens.

    No part reaches from one section into another. Paragraphs, list items, tables and fenced code stay whole where they
    fit; of a table that is cut each part begins with its header, of code with its fence. Nothing but white space and
    the marks of headings is left out.

    Args:
        text: Markdown or plain.
        tokens: Of a part, its headings not counted.
    """
    parts: list[Part] = []
    for headings, blocks in _sections(_blocks(text.split("\n"))):
        found = (piece for block in blocks for piece in block.pieces(tokens))
        parts += [Part(headings, part) for part in packed(found, tokens) if part.strip()]
    return parts


def _sections(blocks: Iterable[_Heading | _Block]) -> Iterator[tuple[tuple[str, ...], list[_Block]]]:
    """Yield what stands between two headings, with the headings that it lies under."""
    above: list[_Heading] = []
    inside: list[_Block] = []
    for block in (*blocks, _Heading(0, "")):
        if isinstance(block, _Block):
            inside.append(block)
            continue
        if not inside and above and block.level <= above[-1].level:
            inside = [_Block([above[-1].text])]  # nothing lies under it, and what it says is not to be lost
        if inside:
            yield tuple(beginning(each.text, HEADING_TOKENS) for each in above if each.text), inside
        inside = []
        above = [*(each for each in above if each.level < block.level), block]


def _blocks(lines: Sequence[str]) -> Iterator[_Heading | _Block]:
    prose: list[str] = []
    at = 0
    while at < len(lines):
        found, end = _block_at(lines, at, is_first=not prose or not prose[-1].strip())
        if found is None:
            prose.append(lines[at])
        else:
            if any(map(str.strip, prose)):
                yield _Block(prose)
            prose = []
            yield found
        at = end
    if any(map(str.strip, prose)):
        yield _Block(prose)


def _block_at(lines: Sequence[str], at: int, is_first: bool) -> tuple[_Heading | _Block | None, int]:
    """Return the heading, table or code that begins at a line, and where it ends; None: the line is prose."""
    line, following = lines[at], lines[at + 1] if at + 1 < len(lines) else ""
    if heading := _HEADING.match(line):
        return _Heading(len(heading[1]), line[heading.end() :].strip().rstrip("#").strip()), at + 1
    if fence := _FENCE.match(line):
        end = next((i for i in range(at + 1, len(lines)) if _closes(lines[i], fence[1])), len(lines))
        return _Block(lines[at + 1 : end], head=(line,), foot=(fence[1],)), end + 1
    if "|" in line and _is_delimiter(following):
        end = next((i for i in range(at + 2, len(lines)) if "|" not in lines[i]), len(lines))
        return _Block(lines[at + 2 : end], head=(line, following)), end
    if is_first and line.strip() and not _ITEM.match(line) and (underline := _UNDERLINE.fullmatch(following)):
        return _Heading(1 if underline[1] else 2, line.strip()), at + 2
    return None, at + 1


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and set(mark) == {fence[0]}


def _is_delimiter(line: str) -> bool:
    """Return whether a line parts a table's header from its rows."""
    return "|" in line and "-" in line and set(line) <= set("|-: \t\r")
