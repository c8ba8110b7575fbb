"""Dataset versions and the hold-out that never moves."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.labels import State
from services.trainer.dataset import (
    DatasetCorruptError,
    DatasetPolicy,
    DatasetTooSmallError,
    LabelledRow,
    LeftOut,
    Message,
    Reason,
    build_dataset,
    erase_rows,
    read_left_out,
    read_manifest,
    read_rows,
    stable_key,
)

POLICY = DatasetPolicy(holdout_share=0.3, minimum_train_rows=10, minimum_holdout_rows=5)


def _row(number: int, text: str | None = None, **changes: Any) -> LabelledRow:
    fields = {
        "request_id": f"request-{number}",
        "label_id": f"label-{number}",
        "labelled_at_ms": number,
        "tenant": "retail",
        "task": "orders",
        "sensitivity": "internal",
        "source": "expert-1",
        "messages": (Message("system", "Answer."), Message("user", text or f"Where is order {number}?")),
        "completion": '{"name": "track", "arguments": {"order": 1}}',
        "tools": ({"name": "track", "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}}},),
    }
    return LabelledRow(**{**fields, **changes})


def _build(rows: list[LabelledRow], root: Path, policy: DatasetPolicy = POLICY, previous: Path | None = None) -> Path:
    return build_dataset(rows, policy, root, created_at_ms=1_700_000_000_000, previous=previous)


def _keys(dataset: Path, split: str) -> set[str]:
    return {stable_key(row.messages) for row in read_rows(dataset, split)}  # type: ignore[arg-type]  # either split


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(60)]
    dataset = _build(rows, tmp_path)
    read = read_rows(dataset, "train") + read_rows(dataset, "holdout")
    assert sorted(read, key=lambda row: row.labelled_at_ms) == rows


def test_the_manifest_says_what_is_in_it_and_where_it_comes_from(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(60)] + [_row(60, sensitivity="confidential", source="expert-2")]
    dataset = _build(rows, tmp_path)
    manifest = read_manifest(dataset)
    assert dataset.name == manifest.dataset_id
    assert len(manifest.dataset_id) == 64
    assert manifest.rows == 61 == sum(manifest.splits.values())
    assert manifest.splits["holdout"] == len(read_rows(dataset, "holdout"))
    assert manifest.label_ids == tuple(sorted(row.label_id for row in rows))
    assert manifest.sources == {"expert-1": 60, "expert-2": 1}
    assert (manifest.tenant, manifest.task, manifest.sensitivity) == ("retail", "orders", "confidential")


def test_the_identity_follows_content_and_not_order(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(60)]
    dataset = _build(rows, tmp_path / "a")
    assert _build(rows[::-1], tmp_path / "b").name == dataset.name
    more_stand_behind_it = [msgspec.structs.replace(row, state=State.AGREED, outcome="confirmed") for row in rows]
    assert _build(more_stand_behind_it, tmp_path / "c").name == dataset.name
    changed = [msgspec.structs.replace(rows[0], completion="It has shipped."), *rows[1:]]
    assert _build(changed, tmp_path / "a").name != dataset.name


def test_what_was_corrected_is_a_part_of_the_identity(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(60)]
    others = [_row(0, rejected="No idea."), *rows[1:]]
    assert _build(rows, tmp_path).name != _build(others, tmp_path).name


def test_an_existing_version_is_left_alone(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(60)]
    dataset = _build(rows, tmp_path)
    written = (dataset / "rows.parquet").stat().st_mtime_ns
    assert _build(rows, tmp_path) == dataset
    assert (dataset / "rows.parquet").stat().st_mtime_ns == written
    assert [path.name for path in tmp_path.iterdir()] == [dataset.name]


def test_of_two_labels_that_say_the_same_the_later_is_learned_and_the_other_named(
    tmp_path: Path,
) -> None:
    rows = [_row(n) for n in range(60)]
    later = _row(100, "  WHERE is order\n7? ", completion='{"name": "track", "arguments": {"order": 1.0}}')
    for given_rows in ([*rows, later], [later, *rows]):
        dataset = _build(given_rows, tmp_path)
        manifest = read_manifest(dataset)
        assert manifest.rows == 60
        assert manifest.refused_label_ids == ("label-7",)
        assert "label-100" in manifest.label_ids
        assert read_left_out(dataset) == [LeftOut("request-7", "label-7", Reason.REPEATED)]
        assert manifest.left_out == {Reason.REPEATED: 1}


def test_the_holdout_takes_its_share_and_shares_nothing_with_training(tmp_path: Path) -> None:
    dataset = _build([_row(n) for n in range(2000)], tmp_path)
    train, holdout = _keys(dataset, "train"), _keys(dataset, "holdout")
    assert not train & holdout
    assert len(holdout) / 2000 == pytest.approx(0.3, abs=0.03)


@given(st.text(min_size=1), st.sampled_from([" ", "\n\t", "\u00a0"]))
def test_case_and_space_and_system_prompt_do_not_make_another_request(text: str, space: str) -> None:
    plain = (Message("system", "a"), Message("user", f"where is {text}"))
    other = (Message("system", "b"), Message("user", f"{space}WHERE{space}is{space} {text}{space}"))
    assert stable_key(plain) == stable_key(other)


def test_another_turn_before_makes_another_request() -> None:
    last = Message("user", "yes, please")
    assert stable_key((Message("user", "Refund?"), last)) != stable_key((Message("user", "Resend?"), last))
    assert stable_key((Message("user", "Refund?"), last)) != stable_key((Message("user", "Refund? yes, please"),))


def test_what_was_held_out_once_is_never_trained_on(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(200)]
    first = _build(rows, tmp_path)
    held_out = _keys(first, "holdout")
    without = _build([row for row in rows if stable_key(row.messages) not in list(held_out)[:5]], tmp_path,
                     previous=first)  # fmt: skip
    smaller_share = DatasetPolicy(holdout_share=0.01, minimum_train_rows=1, minimum_holdout_rows=1)
    back_again = _build([*rows, *(_row(n) for n in range(200, 300))], tmp_path, smaller_share, previous=without)
    assert held_out <= _keys(back_again, "holdout")
    assert not held_out & _keys(back_again, "train")
    assert read_manifest(back_again).parent == without.name


def test_what_was_trained_on_once_is_not_gated_with_when_the_share_grows(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(200)]
    first = _build(rows, tmp_path)
    larger_share = DatasetPolicy(holdout_share=0.9, minimum_train_rows=1, minimum_holdout_rows=1)
    assert _keys(_build(rows, tmp_path, larger_share, previous=first), "train") == _keys(first, "train")


@pytest.mark.parametrize("count", [0, 1, 12])
def test_too_few_labels_say_about_how_many_more(tmp_path: Path, count: int) -> None:
    with pytest.raises(DatasetTooSmallError, match="more labels of new requests are needed") as caught:
        _build([_row(n) for n in range(count)], tmp_path)
    assert caught.value.train_rows + caught.value.holdout_rows == count
    assert _build([_row(n) for n in range(count + 2 * caught.value.more_labels)], tmp_path).is_dir()
    assert f"about {caught.value.more_labels} more" in str(caught.value)


def test_rows_of_two_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one tenant's task"):
        _build([*(_row(n) for n in range(60)), _row(61, task="returns")], tmp_path)


def test_a_row_without_a_turn_to_answer_is_refused_by_its_label(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label label-3: messages must end .* got assistant"):
        _build([_row(3, messages=(Message("user", "Hi"), Message("assistant", "Hello")))], tmp_path)


@pytest.mark.parametrize(
    ("field", "value"),
    [("request_id", ""), ("sensitivity", "secret"), ("labelled_at_ms", -1), ("messages", []), ("completion", "")],
)
def test_rows_from_outside_are_checked_field_by_field(field: str, value: object) -> None:
    raw = {**json.loads(msgspec.json.encode(_row(1))), field: value}
    with pytest.raises(msgspec.ValidationError, match=field):
        msgspec.convert(raw, type=LabelledRow)


def test_a_call_is_written_as_constrained_decoding_will_write_it(tmp_path: Path) -> None:
    tool = {"name": "track", "parameters": {"required": ["b"], "properties": {"a": {}, "b": {}}, "type": "object"}}
    said = {
        "completion": '{"name":"track","arguments":{"a":1,"b":2}}',
        "rejected": '{"name":"track","arguments":{"b":3}}',
    }
    dataset = _build([_row(n, tools=(tool,), **said) for n in range(60)], tmp_path)
    assert {(row.completion, row.rejected) for row in read_rows(dataset, "train")} == {
        ('{"name": "track", "arguments": {"b": 2, "a": 1}}', '{"name": "track", "arguments": {"b": 3}}')
    }


def test_an_altered_version_is_noticed(tmp_path: Path) -> None:
    dataset = _build([_row(n) for n in range(60)], tmp_path)
    table = pq.read_table(dataset / "rows.parquet")
    pq.write_table(table.slice(1), dataset / "rows.parquet")
    with pytest.raises(DatasetCorruptError, match="the rows are not those"):
        read_rows(dataset, "train")
    (dataset / "rows.parquet").write_bytes(b"junk")
    with pytest.raises(DatasetCorruptError, match=r"rows\.parquet"):
        read_rows(dataset, "train")
    (dataset / "manifest.json").unlink()
    with pytest.raises(DatasetCorruptError, match=r"manifest\.json"):
        read_manifest(dataset)


def test_rows_that_are_erased_are_nowhere_in_the_version_and_it_can_be_read_on(tmp_path: Path) -> None:
    dataset = _build([_row(n, text=f"I am marker{n}x, where is it?") for n in range(60)], tmp_path)
    before = {row.request_id for row in read_rows(dataset)}
    assert erase_rows(dataset, {"request-3", "request-7", "no-such-request"}) == 2
    assert erase_rows(dataset, {"request-3"}) == 0
    assert erase_rows(dataset, {"request-9"}) == 1
    left = {row.request_id for row in read_rows(dataset)}
    assert before - left == {"request-3", "request-7", "request-9"}
    manifest = read_manifest(dataset)
    assert (manifest.dataset_id, manifest.rows, manifest.erased) == (dataset.name, 60, 3)
    assert sorted(path.name for path in dataset.iterdir()) == [
        "README.md",
        "assignments.parquet",
        "left_out.parquet",
        "manifest.json",
        "rows.parquet",
        "rows.svg",
    ]
    assert not [
        key
        for key in pq.read_table(dataset / "assignments.parquet")["stable_key"].to_pylist()
        if key in {stable_key(_row(n, text=f"I am marker{n}x, where is it?").messages) for n in (3, 7, 9)}
    ]

    following = _build(
        [_row(n, text=f"I am marker{n}x, where is it?") for n in range(10, 60)], tmp_path, previous=dataset
    )
    assert _keys(following, "holdout") <= _keys(dataset, "holdout")


@pytest.mark.parametrize("share", [0, 1, 1.5])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="holdout_share"):
        DatasetPolicy(holdout_share=share)


@pytest.mark.parametrize("files", range(7))
def test_an_erasure_that_was_killed_is_done_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: int
) -> None:
    dataset = _build([_row(n) for n in range(60)], tmp_path)
    assert erase_rows(dataset, {"request-9"}) == 1
    replace, done = Path.replace, 0

    def killed(self: Path, target: Path) -> Path:
        nonlocal done
        if done == files:
            raise KeyboardInterrupt
        done += 1
        return replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        if files < 6:
            with pytest.raises(KeyboardInterrupt):
                erase_rows(dataset, {"request-3", "request-7"})
        else:
            erase_rows(dataset, {"request-3", "request-7"})
    erase_rows(dataset, {"request-3", "request-7", "request-9"})
    left = {row.request_id for row in read_rows(dataset)}
    assert left == {f"request-{n}" for n in range(60)} - {"request-3", "request-7", "request-9"}
    assert read_manifest(dataset).erased == 3
    kept = set(pq.read_table(dataset / "assignments.parquet")["stable_key"].to_pylist())
    assert not kept & {stable_key(_row(n).messages) for n in (3, 7, 9)}
