"""What people read of a gate: one page of HTML that needs nothing else. Pure."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from schemas.events import Candidate, GateAnswer
from services.runtime.shares import Share
from services.trainer.gate import by_slice, surer_when_right, won_and_lost

# How likely a model may find its answer, from above; the last holds all that is less likely.
_LIKELIHOODS = ((0.9, "> 90 %"), (0.7, "70 to 90 %"), (0.5, "50 to 70 %"), (0.3, "30 to 50 %"), (0.1, "10 to 30 %"))
_REST = "< 10 %"
_NOT_MET = "not met: "


class Slice(NamedTuple):
    """Held-out requests of one kind, and how both models did on them."""

    name: str
    own: Share
    other: Share
    won: int
    lost: int


class Bin(NamedTuple):
    """Answers that the candidate found about as likely."""

    name: str
    right: int
    wrong: int


_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["percent"] = lambda share: f"{100 * share:.1f} %"


def report(candidate: Candidate, slices: Sequence[Collection[str]]) -> str:
    """Return the report of a gate.

    Args:
        candidate: What was judged, with the verdict on it.
        slices: Of each held-out request, in the order of the candidate's answers, the slices that it is in.
    """
    own = [answer.right for answer in candidate.candidate_answers]
    other = [answer.right for answer in candidate.incumbent_answers]
    bins = _bins(candidate.candidate_answers)
    return _TEMPLATES.get_template("report.html").render(
        candidate=candidate,
        own=Share(sum(own), len(own)),
        other=Share(sum(other), len(other)),
        conditions=[
            (not reason.startswith(_NOT_MET), reason.partition(": ")[2].capitalize()) for reason in candidate.reasons
        ],
        slices=[
            Slice(name, Share(sum(ours), len(ours)), Share(sum(theirs), len(theirs)), *won_and_lost(ours, theirs))
            for name, (ours, theirs) in sorted(by_slice(own, other, slices).items(), key=lambda each: -len(each[1][0]))
        ],
        bins=bins,
        highest=max(1, *(each.right + each.wrong for each in bins)),
        surer=surer_when_right(candidate.candidate_answers),
    )


def _bins(answers: Sequence[GateAnswer]) -> list[Bin]:
    found: dict[str, list[bool]] = {name: [] for name in (*(name for _, name in _LIKELIHOODS), _REST)}
    for answer in answers:
        if answer.sum_logprob is not None:
            likelihood = math.exp(answer.sum_logprob)
            found[next((name for least, name in _LIKELIHOODS if likelihood > least), _REST)].append(answer.right)
    return [Bin(name, sum(right), len(right) - sum(right)) for name, right in found.items()]
