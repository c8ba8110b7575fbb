"""What the labels of a request come to: the state of the request, and which of its labels counts. Pure.

Records repeat and come in any order, so all this is of the set of a request's records, told apart by `label_id`. A
label is taken back by a record with its id and the outcome `retracted`; then it is as if it had never been.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import msgspec

from schemas.answers import same_answer
from schemas.events import Label


class Outcome(StrEnum):
    """What a label says."""

    CONFIRMED = "confirmed"
    CORRECTED = "corrected"
    UNSAFE = "unsafe"
    SKIPPED = "skipped"
    ESCALATED = "escalated"
    RETRACTED = "retracted"


class Kind(StrEnum):
    """Why an expert was asked."""

    FIRST = "first"
    OVERLAP = "overlap"
    ADJUDICATION = "adjudication"
    GOLD = "gold"
    IMPORTED = "imported"


class State(StrEnum):
    """What the labels of a request come to."""

    OPEN = "open"  # nobody's judgement stands
    PROVISIONAL = "provisional"  # one expert's does
    AGREED = "agreed"  # two experts or more said the same
    DISPUTED = "disputed"  # they did not
    ADJUDICATED = "adjudicated"  # a lead decided
    ESCALATED = "escalated"  # an expert handed it to a lead, who has not decided yet


# More than one person's word: what is right is known.
SETTLED = frozenset({State.AGREED, State.ADJUDICATED})
JUDGEMENTS = frozenset({Outcome.CONFIRMED, Outcome.CORRECTED, Outcome.UNSAFE})
# Of these there is an answer to learn: `unsafe` says which must not be given, and not which should.
LEARNABLE = frozenset({Outcome.CONFIRMED, Outcome.CORRECTED})


@dataclass(frozen=True)
class Standing:
    """What the labels of a request come to.

    Attributes:
        state: Of the request.
        label: The one that counts; None where none does: open, disputed, escalated.
        experts: Whose judgements and escalations stand, sorted.
    """

    state: State
    label: Label | None = None
    experts: tuple[str, ...] = ()


def standing(records: Collection[Label]) -> Standing:
    """Return what the labels of one request come to.

    The newest adjudication counts, whatever others say. Without one, an escalation waits for it. Of an expert the
    newest label counts; of experts who agree the first, so that another one's agreeing makes nothing new to learn.
    """
    labels = _standing_labels(records)
    decisions = [each for each in labels if each.kind == Kind.ADJUDICATION and each.outcome in JUDGEMENTS]
    said = _of_each_expert(labels)
    experts = tuple(sorted({each.expert for each in (*said, *decisions)}))
    if decisions:
        return Standing(State.ADJUDICATED, decisions[-1], experts)
    if any(each.outcome == Outcome.ESCALATED for each in said):
        return Standing(State.ESCALATED, None, experts)
    if not said:
        return Standing(State.OPEN)
    first, *others = said
    if not others:
        return Standing(State.PROVISIONAL, first, experts)
    if all(each.outcome == first.outcome and same_answer(each.answer, first.answer) for each in others):
        return Standing(State.AGREED, first, experts)
    return Standing(State.DISPUTED, None, experts)


def opinions(records: Collection[Label]) -> tuple[Label, ...]:
    """Return what each expert said of one request, also who handed it on, oldest first: a lead decides by that."""
    return tuple(_of_each_expert(_standing_labels(records)))


def _standing_labels(records: Collection[Label]) -> list[Label]:
    """Return the labels that say something of the model and were not taken back, each once, oldest first."""
    taken_back = {each.label_id for each in records if each.outcome == Outcome.RETRACTED}
    found: dict[str, Label] = {}
    for each in records:
        says_something = each.kind != Kind.GOLD and each.outcome in {*JUDGEMENTS, Outcome.ESCALATED}
        if says_something and each.label_id not in taken_back:
            found[each.label_id] = max(found.get(each.label_id, each), each, key=_age)
    return sorted(found.values(), key=_age)


def _of_each_expert(labels: Iterable[Label]) -> list[Label]:
    newest = {each.expert: each for each in labels if each.kind != Kind.ADJUDICATION}
    return sorted(newest.values(), key=_age)


def _age(label: Label) -> tuple[datetime, str, bytes]:
    """Return what puts labels in one order, in which no two that differ are equal."""
    return label.labelled_at, label.label_id, msgspec.json.encode(label)
