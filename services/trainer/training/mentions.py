"""Mention replacement: the same request about another thing.

What a labelled call took over from the request word for word ("Jim Henson") gives way, in both, to what another label
of the same function took over for the same argument. A model of few rows then learns to take over what it reads, where
it would otherwise learn the names by heart (Dai and Adel, "An Analysis of Simple Data Augmentation for Named Entity
Recognition", COLING 2020).
"""

import json
import random
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.answers import parse_call
from services.trainer.dataset import LabelledRow, Message


class Mention(NamedTuple):
    """Where the turn to answer says an argument's value."""

    start: int
    end: int
    argument: str


class Mentions:
    """What labels took over from their requests, by function and argument."""

    def __init__(self, rows: Sequence[LabelledRow]) -> None:
        """Collects them; a value is as often among them as labels have it."""
        self._values: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for row in rows:
            function, arguments, found = _call_and_mentions(row)
            for mention in found:
                self._values[function, mention.argument].append(arguments[mention.argument])

    def replace(self, row: LabelledRow, share: float, rng: random.Random) -> LabelledRow:
        """The row with each of its mentions replaced with a probability of `share`.

        Args:
            row: One of those that were collected.
            share: In [0, 1].
            rng: Which are replaced, and by what.
        """
        function, arguments, found = _call_and_mentions(row)
        asked = row.messages[-1].content
        instead: dict[str, str] = {}
        for mention in reversed(found):  # from the end, so that what lies before stays where it is
            if rng.random() < share:
                value = rng.choice(self._values[function, mention.argument])
                asked = asked[: mention.start] + value + asked[mention.end :]
                instead[arguments[mention.argument]] = value
        if asked == row.messages[-1].content:
            return row
        return msgspec.structs.replace(
            row,
            messages=(*row.messages[:-1], Message(row.messages[-1].role, asked)),
            completion=_with(row.completion, instead),
            rejected=_with(row.rejected, instead),
        )


def _with(answer: str, instead: Mapping[str, str]) -> str:
    """An answer with other values for arguments that have these; one that is no call as it is."""
    called = parse_call(answer)
    if called is None:
        return answer
    name, arguments = called
    new = {key: instead.get(value, value) if isinstance(value, str) else value for key, value in arguments.items()}
    return json.dumps({"name": name, "arguments": new}, ensure_ascii=False)


def _call_and_mentions(row: LabelledRow) -> tuple[str, dict[str, Any], list[Mention]]:
    """The call that was the answer, and its mentions in their order; of a plain-text answer there are none.

    A value that is said twice is left alone, whichever was meant; so are two that are said with the same words.
    """
    called = parse_call(row.completion)
    if called is None:
        return "", {}, []
    function, arguments = called
    turns = "\n".join(turn.content for turn in row.messages if turn.role != "system")
    offset = len(turns) - len(row.messages[-1].content)
    found = []
    for argument, value in arguments.items():
        if not isinstance(value, str) or not value:
            continue
        places = list(re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", turns))
        if len(places) == 1 and places[0].start() >= offset:
            found.append(Mention(places[0].start() - offset, places[0].end() - offset, argument))
    found.sort()
    apart = [
        mention
        for mention in found
        if not any(mention.start < other.end and other.start < mention.end for other in found if other is not mention)
    ]
    return function, arguments, apart
