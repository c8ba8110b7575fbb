"""What governance and context answered, in the router's words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.events import Finding, Message, Sensitivity
from schemas.masks import PLACEHOLDER


@dataclass(frozen=True)
class Clearance:
    """Models that may see a request of one sensitivity, and the policies that decided so.

    `forbidden` names the policies that forbid each other model; none where no policy permits it.
    """

    models: frozenset[str]
    policies: tuple[str, ...] = ()
    forbidden: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Mask:
    """What stands in the texts of one verdict in place of a value: in one spelling, and as it was written."""

    placeholder: str
    value: str = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True)
class InputVerdict:
    """What governance says of a request. `verdict` is pass, mask or refuse; `texts` may be shown to a model.

    `clearances` holds the request's sensitivity and every level above it.
    """

    verdict: str
    texts: tuple[str, ...]
    sensitivity: Sensitivity
    clearances: Mapping[Sensitivity, Clearance]
    bundle_version: str
    findings: tuple[Finding, ...] = ()
    policy_us: int = 0
    masks: tuple[Mask, ...] = ()


@dataclass(frozen=True)
class OutputVerdict:
    """What governance says of an answer, or of a window of it; `text` may be released unless it is refused."""

    verdict: str
    text: str
    bundle_version: str
    findings: tuple[Finding, ...] = ()
    masks: tuple[Mask, ...] = ()


@dataclass(frozen=True)
class Passage:
    """A piece of a document."""

    document_id: str
    title: str
    text: str
    sensitivity: Sensitivity
    tokens: int
    score: float


@dataclass(frozen=True)
class Turn:
    """An earlier turn of the conversation."""

    message: Message
    sensitivity: Sensitivity
    tokens: int


@dataclass(frozen=True)
class Knowledge:
    """What context knows for a request: passages best first, turns oldest first, and which request it asks again."""

    passages: tuple[Passage, ...] = ()
    turns: tuple[Turn, ...] = ()
    asked_again: str = ""


NOTHING = Knowledge()


def without_said(knowledge: Knowledge, messages: Sequence[Message]) -> Knowledge:
    """Return the knowledge without the newest turns that the request tells again: a client may send its history itself.

    What is told again is the end of what is remembered, as one piece of the request; a turn that is merely worded like
    an earlier one stays. Which numbers masks had then does not matter.
    """
    remembered, told = [_said(turn.message) for turn in knowledge.turns], [_said(message) for message in messages]
    for start in range(len(remembered)):
        end = remembered[start:]
        if any(told[i : i + len(end)] == end for i in range(len(told) - len(end) + 1)):
            return Knowledge(knowledge.passages, knowledge.turns[:start])
    return knowledge


def _said(message: Message) -> tuple[object, ...]:
    calls = tuple((call.name, _unnumbered(call.arguments)) for call in message.tool_calls)
    return (message.role, _unnumbered(message.content), calls)


def _unnumbered(text: str) -> str:
    return PLACEHOLDER.sub(r"<\1>", text)
