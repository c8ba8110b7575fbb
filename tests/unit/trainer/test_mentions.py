"""Requests about other things."""

import json
import random
from typing import Any

import pytest

from services.trainer.dataset import LabelledRow, Message
from services.trainer.training.mentions import Mentions

JIM, KATHRYN = "Jim Henson", "Kathryn Bigelow"


def _row(
    *asked: str, completion: str | None = None, rejected: str = "", function: str = "find_films", **arguments: Any
) -> LabelledRow:
    return LabelledRow(
        request_id="r",
        label_id=asked[-1],
        labelled_at_ms=0,
        tenant="retail",
        task="films",
        sensitivity="internal",
        source="expert",
        messages=(Message("system", "Answer."), *(Message("user", turn) for turn in asked)),
        completion=completion or json.dumps({"name": function, "arguments": arguments}),
        rejected=rejected,
    )


def _replaced(row: LabelledRow, *others: LabelledRow, share: float = 1.0, seed: int = 0) -> tuple[str, Any]:
    replaced = Mentions((row, *others)).replace(row, share, random.Random(seed))
    return replaced.messages[-1].content, json.loads(replaced.completion)["arguments"]


def test_a_value_said_in_the_request_gives_way_in_both_to_another_labels() -> None:
    row = _row(f"Something by {JIM}, please.", director=JIM)
    other = _row(f"What did {KATHRYN} make?", director=KATHRYN)
    seen = {_replaced(row, other, seed=seed)[0]: _replaced(row, other, seed=seed)[1] for seed in range(20)}
    assert seen == {
        f"Something by {JIM}, please.": {"director": JIM},
        f"Something by {KATHRYN}, please.": {"director": KATHRYN},
    }


@pytest.mark.parametrize(
    ("rejected", "then"),
    [
        (
            json.dumps({"name": "find_actors", "arguments": {"name": JIM, "born": 1936}}),
            json.dumps({"name": "find_actors", "arguments": {"name": KATHRYN, "born": 1936}}),
        ),
        (f"I do not know {JIM}.", f"I do not know {JIM}."),
    ],
    ids=["a call", "a plain-text answer"],
)
def test_what_was_corrected_is_about_the_other_thing_too(rejected: str, then: str) -> None:
    row = _row(f"Something by {JIM}, please.", director=JIM, rejected=rejected)
    mentions = Mentions((row, _row(f"What did {KATHRYN} make?", director=KATHRYN)))
    replaced = [mentions.replace(row, 1.0, random.Random(seed)) for seed in range(20)]
    assert {each.rejected for each in replaced if KATHRYN in each.completion} == {then}


def test_several_are_replaced_each_where_it_stood() -> None:
    row = _row("A comedy by Jo, of 1999", genre="comedy", director="Jo", year="1999")
    other = _row("The thriller Alfred made in 2001", genre="thriller", director="Alfred", year="2001")
    for seed in range(20):
        asked, arguments = _replaced(row, other, seed=seed)
        assert asked == f"A {arguments['genre']} by {arguments['director']}, of {arguments['year']}"


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(_row(f"{JIM}! By {JIM}!", director=JIM), id="said twice"),
        pytest.param(_row(f"By {JIM}.", "And that other one?", director=JIM), id="said in an earlier turn"),
        pytest.param(_row("A show on popular things", genre="pop"), id="within a word"),
        pytest.param(_row("In New York City", city="New York", place="New York City"), id="overlapping"),
        pytest.param(_row("Two seats", seats=2, genre=""), id="not a text"),
        pytest.param(_row("Thanks!", completion="You are welcome."), id="a plain-text answer"),
    ],
)
def test_what_is_not_said_once_and_for_one_argument_stays(row: LabelledRow) -> None:
    others = [_row(f"{name}: only this", **{name: "only this"}) for name in ("director", "genre", "city", "place")]
    assert all(Mentions((row, *others)).replace(row, 1.0, random.Random(seed)) is row for seed in range(20))


def test_values_are_those_of_the_same_function() -> None:
    row = _row("Weather in Bonn", function="weather", city="Bonn")
    other = _row("A film in Lisbon", city="Lisbon")
    assert all(_replaced(row, other, seed=seed)[0] == "Weather in Bonn" for seed in range(20))


def test_a_share_of_nothing_changes_nothing() -> None:
    row, other = _row(f"By {JIM}", director=JIM), _row(f"By {KATHRYN}", director=KATHRYN)
    assert Mentions((row, other)).replace(row, 0.0, random.Random(0)) is row
