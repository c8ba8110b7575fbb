"""What of experts' labels is fit to learn from, and what is said of the rest."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas.labels import State
from services.trainer.dataset import (
    DatasetPolicy,
    LabelledRow,
    LeftOut,
    Message,
    Reason,
    build_dataset,
    erase_rows,
    read_left_out,
    read_manifest,
    read_rows,
)
from services.trainer.dataset.refinement import allowed_by_tools, settle

ANY_SIZE = DatasetPolicy(holdout_share=0.5, minimum_train_rows=1, minimum_holdout_rows=1)
FILM = {
    "type": "object",
    "required": ["title"],
    "properties": {"title": {"type": "string"}, "genre": {"enum": ["comedy", "drama"]}, "year": {"type": "integer"}},
}


def _row(number: int, text: str = "", **changes: Any) -> LabelledRow:
    fields = {
        "request_id": f"request-{number:02}",
        "label_id": f"label-{number:02}",
        "labelled_at_ms": number,
        "tenant": "retail",
        "task": "films",
        "sensitivity": "internal",
        "source": "expert-1",
        "messages": (Message("system", "Answer."), Message("user", text or f"Find film {number}")),
        "completion": json.dumps({"name": "find", "arguments": {"title": f"Film {number}"}}),
        "tools": ({"name": "find", "parameters": FILM},),
    }
    return LabelledRow(**{**fields, **changes})


def _reasons(out: list[LeftOut]) -> dict[str, Reason]:
    return {each.label_id: each.reason for each in out}


@pytest.mark.parametrize(
    ("call", "allowed"),
    [
        ({"name": "find", "arguments": {"title": "Alien", "genre": "drama", "year": 1979}}, True),
        ({"name": "seek", "arguments": {"title": "Alien"}}, False),
        ({"name": "find", "arguments": {"year": 1979}}, False),
        ({"name": "find", "arguments": {"title": "Alien", "director": "Scott"}}, False),
        ({"name": "find", "arguments": {"title": "Alien", "genre": "horror"}}, False),
        ({"name": "find", "arguments": {"title": "Alien", "year": "1979"}}, False),
    ],
)
@pytest.mark.parametrize("openai", [False, True])
@pytest.mark.parametrize("function_call", [False, True])
def test_a_call_must_be_one_that_the_request_allows(
    call: dict[str, Any], allowed: bool, openai: bool, function_call: bool
) -> None:
    tool: dict[str, Any] = {"name": "find", "parameters": FILM}
    row = _row(1, completion=json.dumps(call), tools=({"type": "function", "function": tool} if openai else tool,))
    assert allowed_by_tools(row, function_call=function_call) is allowed


def test_text_is_an_answer_but_where_calls_are_wanted() -> None:
    row = _row(1, completion="We have no such film.")
    assert allowed_by_tools(row, function_call=False)
    assert not allowed_by_tools(row, function_call=True)
    assert allowed_by_tools(_row(1, tools=()), function_call=True), "nothing is known of what is allowed"


def _said(number: int, title: str, state: State, text: str = "Find that film") -> LabelledRow:
    return _row(number, text, completion=json.dumps({"name": "find", "arguments": {"title": title}}), state=state)


def test_of_answers_that_differ_the_one_on_which_more_stands_is_learned() -> None:
    rows = [
        _said(1, "Alien", State.AGREED),
        _said(2, "Aliens", State.PROVISIONAL, "find that film!"),
        _said(3, "ALIEN", State.PROVISIONAL, "Find that film."),
        _said(4, "Alien", State.PROVISIONAL),
    ]
    kept, out = settle(rows)
    assert sorted(row.label_id for row in kept) == ["label-01", "label-03"]
    assert _reasons(out) == {"label-02": Reason.CONTRADICTED, "label-04": Reason.REPEATED}
    decided = _said(5, "Aliens", State.ADJUDICATED)
    kept, out = settle([*rows, decided])
    assert sorted(row.label_id for row in kept) == ["label-02", "label-05"]
    assert set(_reasons(out).values()) == {Reason.CONTRADICTED}


@pytest.mark.parametrize("state", [State.PROVISIONAL, State.AGREED, State.ADJUDICATED])
def test_where_as_much_stands_on_both_nobody_knows(state: State) -> None:
    kept, out = settle([_said(1, "Alien", state), _said(2, "Aliens", state), _said(3, "Alien", State.PROVISIONAL)])
    assert kept == []
    assert set(_reasons(out).values()) == {Reason.CONTRADICTION}


def test_the_same_words_in_other_turns_are_another_request() -> None:
    before = _row(1, messages=(Message("user", "Aliens?"), Message("user", "Yes, please")))
    at_once = _row(2, messages=(Message("user", "Aliens? Yes, please"),))
    assert settle([before, at_once]) == ([before, at_once], [])


def test_every_label_is_in_a_dataset_or_left_out_of_it_with_its_reason(tmp_path: Path) -> None:
    rows = [_row(number) for number in range(20)]
    rows += [
        _row(20, completion="No."),
        _said(21, "a", State.AGREED),
        _said(22, "b", State.AGREED),
        _row(23, "Find film 3"),
    ]
    rows[23] = _row(23, "Find film 3", completion=rows[3].completion)
    unsafe = LeftOut("request-99", "label-99", Reason.UNSAFE)
    policy = DatasetPolicy(holdout_share=0.5, minimum_train_rows=1, minimum_holdout_rows=1, function_call=True)
    dataset = build_dataset(rows, policy, tmp_path, created_at_ms=0, not_learned=[unsafe])
    manifest = read_manifest(dataset)
    assert _reasons(read_left_out(dataset)) == {
        "label-03": Reason.REPEATED,
        "label-20": Reason.TOOL_SCHEMA,
        "label-21": Reason.CONTRADICTION,
        "label-22": Reason.CONTRADICTION,
        "label-99": Reason.UNSAFE,
    }
    assert manifest.left_out == {
        Reason.UNSAFE: 1,
        Reason.TOOL_SCHEMA: 1,
        Reason.CONTRADICTION: 2,
        Reason.REPEATED: 1,
    }
    given = {row.label_id for row in rows}
    assert {*manifest.label_ids, *manifest.refused_label_ids} == given, "what had no row could come back with one"


def test_of_what_is_erased_no_more_is_said_than_that_it_is(tmp_path: Path) -> None:
    rows = [_row(number) for number in range(20)]
    refused = _row(20, completion='{"name": "secret", "arguments": {}}')
    dataset = build_dataset([*rows, refused], ANY_SIZE, tmp_path, created_at_ms=0)
    assert erase_rows(dataset, {"request-20"}) == 0
    assert erase_rows(dataset, {"request-03", "request-20"}) == 1
    for _ in range(2):
        assert read_left_out(dataset) == [
            LeftOut("request-03", "label-03", Reason.ERASED),
            LeftOut("request-20", "label-20", Reason.ERASED),
        ]
        assert read_manifest(dataset).left_out == {Reason.ERASED: 2}
        assert (read_manifest(dataset).erased, len(read_rows(dataset))) == (1, 19)
        assert erase_rows(dataset, {"request-03", "request-20"}) == 0
    following = build_dataset(rows[4:], ANY_SIZE, tmp_path, created_at_ms=1, previous=dataset)
    assert {each.reason for each in read_left_out(following)} == {Reason.ERASED}


def test_a_near_twin_stays_on_the_side_of_the_request_that_was_there_first(tmp_path: Path) -> None:
    first = build_dataset(
        [_row(n, " ".join(f"word{n}-{m}" for m in range(15))) for n in range(40)], ANY_SIZE, tmp_path, created_at_ms=0
    )
    rows = read_rows(first)
    twins = [
        _row(100 + n, row.messages[-1].content.replace("-7", "-another"), completion=row.completion)
        for n, row in enumerate(rows)
    ]
    everything = DatasetPolicy(holdout_share=0.99, minimum_train_rows=1, minimum_holdout_rows=1)
    second = build_dataset([*rows, *twins], everything, tmp_path, created_at_ms=1, previous=first)
    for split in ("train", "holdout"):
        before = {row.completion for row in read_rows(first, split)}  # type: ignore[arg-type]  # either split
        now = [row.completion for row in read_rows(second, split)]  # type: ignore[arg-type]  # either split
        assert set(now) == before
        assert len(now) == 2 * len(before)
    assert read_manifest(second).clusters == 40


def test_a_request_that_is_near_to_both_sides_is_left_out(tmp_path: Path) -> None:
    one, other = "a b c d e f g h i j k l m n", "e f g h i j k l m n o p q r"
    both = "c d e f g h i j k l m n o p"
    first = build_dataset([_row(n) for n in range(40)], ANY_SIZE, tmp_path, created_at_ms=0)
    rows = [*read_rows(first), _row(41, one), _row(42, other)]
    sides = DatasetPolicy(holdout_share=0.5, minimum_train_rows=1, minimum_holdout_rows=1)
    second = build_dataset(rows, sides, tmp_path, created_at_ms=1, previous=first)
    held = {row.label_id for row in read_rows(second, "holdout")}
    assert len(held & {"label-41", "label-42"}) == 1, "these texts fall on different sides"
    third = build_dataset([*rows, _row(43, both), _row(44)], sides, tmp_path, created_at_ms=2, previous=second)
    assert read_left_out(third) == [LeftOut("request-43", "label-43", Reason.NEAR_HOLDOUT)]
    assert len(read_rows(third)) == 43


def test_a_version_of_before_rows_were_refined_can_be_read_and_gone_on_from(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(40)]
    again = _row(40, "Find film 3", completion=rows[3].completion)
    new = build_dataset([*rows, again], ANY_SIZE, tmp_path, created_at_ms=0)
    old = tmp_path / "old" / new.name
    old.mkdir(parents=True)
    table = pq.read_table(new / "rows.parquet")
    pq.write_table(table.drop_columns(["state", "outcome", "origin", "rejected"]), old / "rows.parquet")
    pq.write_table(pq.read_table(new / "assignments.parquet"), old / "assignments.parquet")
    manifest = json.loads((new / "manifest.json").read_bytes())
    manifest["superseded_label_ids"] = manifest.pop("refused_label_ids")
    for name in ("left_out", "clusters", "replayed", "personal_data"):
        del manifest[name]
    (old / "manifest.json").write_text(json.dumps(manifest))
    assert read_rows(old) == read_rows(new)
    assert read_left_out(old) == []
    assert read_manifest(old).refused_label_ids == ("label-03",)
    following = build_dataset(rows, ANY_SIZE, tmp_path / "following", created_at_ms=0, previous=old)
    assert read_manifest(following).splits == read_manifest(new).splits
    assert erase_rows(old, {"request-05"}) == 1
    assert read_left_out(old) == [LeftOut("request-05", "label-05", Reason.ERASED)]
    assert len(read_rows(old)) == 39
