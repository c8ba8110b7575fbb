"""Where in an answer the guardrails found something."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec

from schemas.events import Finding
from schemas.masks import PLACEHOLDER


def on_record(findings: Sequence[Finding], answer: str) -> tuple[Finding, ...]:
    """Return findings of an answer as the model wrote it with the places that they have in the answer on record.

    There, what was masked is a placeholder of another length. Where the two cannot be brought together findings have no
    place: they begin and end at 0.
    """
    replaced: list[tuple[int, int, int, int]] = []  # from where to where, before and after
    shift = 0
    for finding in sorted((each for each in findings if each.action == "mask"), key=lambda each: each.start):
        placeholder = PLACEHOLDER.match(answer, finding.start + shift)
        if placeholder is None:
            return tuple(msgspec.structs.replace(each, start=0, end=0) for each in findings)
        replaced.append((finding.start, finding.end, *placeholder.span()))
        shift = placeholder.end() - finding.end

    def place(position: int, *, is_end: bool) -> int:
        shift = 0
        for start, end, start_after, end_after in replaced:
            if position <= start:
                break
            if position < end:  # in the middle of what was masked
                return end_after if is_end else start_after
            shift = end_after - end
        return min(position + shift, len(answer))

    return tuple(
        msgspec.structs.replace(each, start=place(each.start, is_end=False), end=place(each.end, is_end=True))
        for each in findings
    )


@dataclass(frozen=True)
class Part:
    """A part of a text, and what was found in it: kind and action, as they are read."""

    text: str
    found: tuple[str, ...] = ()


def parts(text: str, findings: Iterable[Finding]) -> tuple[Part, ...]:
    """Return a text in parts, in order; findings that overlap share what they have in common."""
    placed = [each for each in findings if each.start < each.end <= len(text) and each.end - each.start < len(text)]
    edges = sorted({0, len(text), *(each.start for each in placed), *(each.end for each in placed)})
    return tuple(
        Part(
            text[start:end],
            tuple(dict.fromkeys(_named(each) for each in placed if each.start <= start and end <= each.end)),
        )
        for start, end in pairwise(edges)
    )


def elsewhere(text: str, findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return what was found that no part shows: what is of the whole text, or has no place."""
    return tuple(dict.fromkeys(_named(each) for each in findings if each.end - each.start in (0, len(text))))


def _named(finding: Finding) -> str:
    return f"{finding.kind}: {_ACTIONS.get(finding.action, finding.action)}"


_ACTIONS = {"mask": "masked", "flag": "flagged", "refuse": "refused"}
