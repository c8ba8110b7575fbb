"""Rankings made one, budgets shared."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Message, Sensitivity
from services.context.domain.memory import Turn
from services.context.domain.passages import Passage
from services.context.domain.stitching import fuse, share


def passage(name: str, tokens: int) -> Passage:
    return Passage(name, "", "x", Sensitivity.PUBLIC, tokens)


def turn(number: int, tokens: int) -> Turn:
    at = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    # A message costs four tokens beside its content, at four bytes a token.
    return Turn(at, str(number), (Message(role="user", content="x" * 4 * (tokens - 4)),), Sensitivity.PUBLIC)


def test_what_both_rankings_have_beats_the_best_of_one() -> None:
    assert [each for each, _ in fuse([(1, ["a", "b"]), (1, ["c", "b"])])] == ["b", "a", "c"]
    assert fuse([(1, ["a"]), (0.5, ["a"])]) == [("a", pytest.approx(1.5 / 11))]
    assert fuse([]) == []


def test_a_ranking_that_counts_less_gives_way() -> None:
    assert [each for each, _ in fuse([(1, ["a", "b"]), (0.2, ["b", "a"])])] == ["a", "b"]


def test_memory_takes_its_share_and_passages_the_rest() -> None:
    turns = [turn(number, 10) for number in range(10)]
    passages = [passage(name, 10) for name in "abcdefghij"]
    stitched = share(turns, passages, 60, 0.5)
    assert [each.request_id for each in stitched.turns] == ["7", "8", "9"]
    assert [each.document_id for each in stitched.passages] == ["a", "b", "c"]
    assert stitched.tokens == 60


def test_what_one_side_leaves_the_other_takes() -> None:
    turns = [turn(number, 10) for number in range(10)]
    passages = [passage(name, 10) for name in "abcdefghij"]
    assert len(share(turns, passages[:1], 60, 0.5).turns) == 5
    assert len(share(turns[:1], passages, 60, 0.5).passages) == 5


def test_a_passage_that_is_too_long_is_passed_over_for_the_next() -> None:
    chosen = share([], [passage("long", 50), passage("short", 10)], 20, 0.5).passages
    assert [each.document_id for each in chosen] == ["short"]


def test_turns_are_never_given_with_a_gap_between_them() -> None:
    turns = [turn(0, 10), turn(1, 100), turn(2, 10)]
    assert [each.request_id for each in share(turns, [], 60, 1).turns] == ["2"]


def test_where_not_all_fit_whole_earlier_turns_come_condensed_and_reach_further_back() -> None:
    said = [turn(number, 100) for number in range(10)]
    long = [replace(each, messages=(*each.messages, *each.messages)) for each in said]
    turns = share(long, [], 600, 1).turns
    assert [(each.request_id, each.is_condensed) for each in turns] == [
        *((str(number), True) for number in range(5, 8)),
        ("8", False),
        ("9", False),
    ]


@given(
    st.lists(st.integers(5, 500), max_size=8),
    st.lists(st.integers(1, 50), max_size=8),
    st.integers(0, 200),
    st.floats(0, 1),
)
def test_no_budget_is_ever_exceeded(turns: list[int], passages: list[int], budget: int, memory_share: float) -> None:
    stitched = share(
        [turn(i, tokens) for i, tokens in enumerate(turns)],
        [passage(str(i), tokens) for i, tokens in enumerate(passages)],
        budget,
        memory_share,
    )
    assert stitched.tokens <= budget
