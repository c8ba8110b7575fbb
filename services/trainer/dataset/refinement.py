"""What of the labels is fit to learn from: rows one by one, then those of the same words beside one another. Pure."""

import json
from collections import defaultdict
from collections.abc import Iterable

from schemas.answers import parse_call, same_answer
from schemas.events import Tool
from schemas.labels import State
from services.runtime.calls import call_error
from services.trainer.dataset.near_duplicates import words
from services.trainer.dataset.rows import LabelledRow, LeftOut, Reason, asked, left_out, stable_key

# From what least to what most stands behind an answer.
_STATES = (State.PROVISIONAL, State.AGREED, State.ADJUDICATED)


def allowed_by_tools(row: LabelledRow, *, function_call: bool) -> bool:
    """Say whether an answer that is a call, or is to be one, is a call of one of the tools that the request offered."""
    if not function_call and parse_call(row.completion) is None:
        return True
    functions = [tool.get("function", tool) for tool in row.tools]
    tools = [Tool(name=each["name"], parameters=json.dumps(each.get("parameters") or {})) for each in functions]
    return call_error(row.completion, tools) is None


def settle(rows: Iterable[LabelledRow]) -> tuple[list[LabelledRow], list[LeftOut]]:
    """Return one row for each distinct request, and what is left out for it.

    Where requests of the same words have different answers, the one on which most stands is right: a lead's decision
    before experts' agreement before one expert's word. Where two of the same standing differ, nobody knows, and all of
    them are left out.
    """
    same_words = defaultdict(list)
    for row in rows:
        same_words[tuple((turn.role, words(turn.content)) for turn in asked(row.messages))].append(row)
    kept, out = list[LabelledRow](), list[LeftOut]()
    for alike in same_words.values():
        alike.sort(key=_standing)
        best = alike[-1]
        other = [each for each in alike if not same_answer(each.completion, best.completion)]
        if any(each.state == best.state for each in other):
            out += [left_out(each, Reason.CONTRADICTION) for each in alike]
            continue
        out += [left_out(each, Reason.CONTRADICTED) for each in other]
        chosen: dict[str, LabelledRow] = {}
        for each in alike:
            if same_answer(each.completion, best.completion):
                key = stable_key(each.messages)
                if key in chosen:  # of each request the last is kept, on which most stands
                    out.append(left_out(chosen[key], Reason.REPEATED))
                chosen[key] = each
        kept += chosen.values()
    return kept, out


def _standing(row: LabelledRow) -> tuple[int, int, str]:
    return _STATES.index(row.state), row.labelled_at_ms, row.label_id
