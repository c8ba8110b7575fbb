"""What a page of the console shows of an item."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from schemas.bundle import Bundle
from schemas.events import Citation, EdgeCase, Label, Message, Tool
from schemas.labels import Outcome
from services.triage.alike import Answered
from services.triage.desk import Claimed
from services.triage.domain.spans import Part, elsewhere, parts

# Of a longer text the beginning is shown, and the rest on demand.
LONGEST_TEXT = 1_200
HEAD = 600
# Of a longer conversation what comes before the last turns is shown on demand.
LATEST_TURNS = 6
# Keys of what an answer may begin with: 0 is the model's own, templates have 1 to 6.
FIRST_NEIGHBOUR_KEY = 7
NEIGHBOURS = 3
_FOUND: Mapping[str, str] = {
    Outcome.CONFIRMED: "found it right",
    Outcome.CORRECTED: "corrected it",
    Outcome.UNSAFE: "found it unsafe",
    Outcome.ESCALATED: "handed it on",
}


@dataclass(frozen=True)
class Turn:
    """One message of the conversation: its beginning, and the rest where it is long."""

    role: str
    head: str
    rest: str = ""


@dataclass(frozen=True)
class Argument:
    """One argument of a function."""

    name: str
    type: str
    required: bool
    description: str


@dataclass(frozen=True)
class Function:
    """A tool as a person reads it."""

    name: str
    description: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Start:
    """Something an answer may begin with, and its key.

    Attributes:
        key: A digit.
        name: What it is.
        note: Where it comes from.
        text: The answer.
    """

    key: int
    name: str
    note: str
    text: str


@dataclass(frozen=True)
class Said:
    """What another expert said of an item.

    Attributes:
        expert: Who.
        what: Their finding, in words.
        answer: The right one by them, where it is not the model's.
        comment: In their words.
    """

    expert: str
    what: str
    answer: str
    comment: str


@dataclass(frozen=True)
class ItemPage:
    """An item as a person reads it.

    Attributes:
        claimed: The item and its lease.
        claimed_at: Seconds since the epoch.
        seconds_left: Of the lease.
        earlier: Turns before the latest, where there are many.
        turns: The latest turns.
        cited: Documents that the model was given.
        withheld: How many it was not given, since no cleared live model may see them.
        functions: The tools.
        tools: The same for the form, as JSON.
        why: Why it was chosen, in a sentence.
        said: What others said of it, where it is to be decided between them.
        answer: The model's answer, in parts that say what guardrails found there.
        found: What they found that is of the whole answer.
        starts: What an answer may begin with.
        function_call: Whether a function call is wanted.
    """

    claimed: Claimed
    claimed_at: float
    seconds_left: float
    earlier: tuple[Turn, ...]
    turns: tuple[Turn, ...]
    cited: tuple[Citation, ...]
    withheld: int
    functions: tuple[Function, ...]
    tools: str
    why: str
    said: tuple[Said, ...]
    answer: tuple[Part, ...]
    found: tuple[str, ...]
    starts: tuple[Start, ...]
    function_call: bool


def item_page(claimed: Claimed, neighbours: Sequence[Answered], bundle: Bundle, now: datetime) -> ItemPage:
    """Return what is shown of an item to the expert who holds it.

    Args:
        claimed: The item.
        neighbours: Labelled items that are alike, best first.
        bundle: Has the task's templates.
        now: The time.
    """
    item, task = claimed.item, bundle.tasks.get(claimed.item.task)
    turns = tuple(_turn(message) for message in item.messages)
    templates = [
        Start(key, each.name, "template", each.text) for key, each in enumerate(task.templates if task else (), 1)
    ]
    others = [
        Start(key, f"What {each.expert} wrote", _FOUND.get(each.outcome, ""), each.answer)
        for key, each in enumerate(claimed.labels[:NEIGHBOURS], FIRST_NEIGHBOUR_KEY)
        if each.answer
    ]
    alike = [
        Start(key, each.question, f"{each.outcome}, {each.likeness:.0%} alike", each.answer)
        for key, each in enumerate(neighbours[:NEIGHBOURS], FIRST_NEIGHBOUR_KEY)
    ]
    return ItemPage(
        claimed=claimed,
        claimed_at=claimed.claimed_at.timestamp(),
        seconds_left=(claimed.expires_at - now).total_seconds(),
        earlier=turns[:-LATEST_TURNS],
        turns=turns[-LATEST_TURNS:],
        cited=tuple(each for each in item.citations if not each.dropped),
        withheld=sum(each.dropped for each in item.citations),
        functions=tuple(_function(tool) for tool in item.tools),
        tools=json.dumps([{"name": tool.name, "parameters": _schema(tool)} for tool in item.tools]),
        why=_why(item),
        said=tuple(_said(each, item) for each in claimed.labels),
        answer=parts(item.answer, item.findings),
        found=elsewhere(item.answer, item.findings),
        starts=(*templates, *(others or alike)),
        function_call=bundle.wants_call(item.task),
    )


def _said(label: Label, item: EdgeCase) -> Said:
    return Said(
        label.expert,
        _FOUND.get(label.outcome, label.outcome),
        label.answer if label.answer != item.answer else "",
        label.comment,
    )


def _why(item: EdgeCase) -> str:
    if item.explored:
        return "Picked at random, to see what the score misses."
    return f"Its chance of being wrong is put at {item.score:.0%}; experts are asked from {item.threshold:.0%} on."


def _turn(message: Message) -> Turn:
    calls = [f"{call.name}({call.arguments})" for call in message.tool_calls]
    text = "\n".join([*([message.content] if message.content else []), *calls])
    if len(text) <= LONGEST_TEXT:
        return Turn(message.role, text)
    # At white space, if there is some not too far away.
    cut = max(text.rfind(" ", HEAD // 2, HEAD), text.rfind("\n", HEAD // 2, HEAD)) + 1 or HEAD
    return Turn(message.role, text[:cut], text[cut:])


def _function(tool: Tool) -> Function:
    schema = _schema(tool)
    properties, required = schema.get("properties"), schema.get("required")
    return Function(
        name=tool.name,
        description=tool.description,
        arguments=tuple(
            _argument(name, known, name in (required if isinstance(required, list) else ()))
            for name, known in (properties.items() if isinstance(properties, dict) else ())
        ),
    )


def _schema(tool: Tool) -> dict[str, object]:
    try:
        schema = json.loads(tool.parameters or "{}")
    except (ValueError, RecursionError):
        schema = {}
    return schema if isinstance(schema, dict) else {}


def _argument(name: str, schema: object, required: bool) -> Argument:
    known = schema if isinstance(schema, dict) else {}
    values = known.get("enum")
    kind = " | ".join(map(str, values)) if isinstance(values, list) else str(known.get("type", "any"))
    return Argument(name, kind, required, str(known.get("description", "")))
