"""What holds personal data or secrets in the clear is not learned from, and is told nowhere."""

from pathlib import Path

import pytest

from schemas.bundle import Learning, Rescanned
from services.trainer.dataset import (
    DatasetPolicy,
    DetectorsFailedError,
    LabelledRow,
    LeftOut,
    Message,
    Reason,
    build_dataset,
    building,
    read_left_out,
    read_manifest,
    read_rows,
)

EVERY_KIND: tuple[Rescanned, ...] = ("secret", "iban", "card", "id", "email", "ip", "phone")
IN_THE_CLEAR = [
    "My card is 4111 1111 1111 1111.",
    "Pay it to GB82 WEST 1234 5698 7654 32",
    "Write to jo.smith@example.com",
    "Call me on (212) 555-0187 or not at all",
    "Ring +44 20 7946 0958",
    "My social security number is 536-90-4399",
    "The key is AKIAIOSFODNN7EXAMPLE",
    "password: Tr0ub4dor&3",
    "Add the server 192.168.0.5",
]
NOT_IN_THE_CLEAR = [
    "Write to <EMAIL_1>, call <PHONE_1>, and charge <CARD_1>: the password is <SECRET_1>",
    "Where is order 4155552671?",
    "Find a film of 1979 in Leeds for 4 on 2026-03-01 at 18:30",
    "The password is wrong, so I cannot log in to version 1.20.3",
    "Charge card 4111 1111 1111 1112",
]


def _row(number: int, text: str, completion: str = "Yes.", rejected: str = "") -> LabelledRow:
    return LabelledRow(
        request_id=f"request-{number:02}",
        label_id=f"label-{number:02}",
        labelled_at_ms=number,
        tenant="retail",
        task="orders",
        sensitivity="internal",
        source="expert-1",
        messages=(Message("system", "Our address is shop@example.com."), Message("user", text)),
        completion=completion,
        rejected=rejected,
    )


def _build(rows: list[LabelledRow], kinds: tuple[Rescanned, ...], root: Path) -> Path:
    policy = DatasetPolicy(holdout_share=0.5, minimum_train_rows=1, minimum_holdout_rows=1, personal_data=kinds)
    return build_dataset(rows, policy, root, created_at_ms=0)


def test_what_holds_it_in_the_clear_is_left_out_of_request_and_answer(tmp_path: Path) -> None:
    rows = [_row(n, text) for n, text in enumerate(IN_THE_CLEAR)]
    rows.append(_row(20, "Whom do I write to?", "Write to jo.smith@example.com."))
    clean = [_row(n, text) for n, text in enumerate(NOT_IN_THE_CLEAR, 30)]
    dataset = _build([*rows, *clean], EVERY_KIND, tmp_path)
    assert read_left_out(dataset) == [LeftOut(row.request_id, row.label_id, Reason.PERSONAL_DATA) for row in rows]
    assert {row.label_id for row in read_rows(dataset)} == {row.label_id for row in clean}
    assert read_manifest(dataset).personal_data == EVERY_KIND
    assert not [path for path in dataset.iterdir() if b"jo.smith" in path.read_bytes()]


def test_a_row_is_learned_without_what_was_corrected_where_that_holds_it(tmp_path: Path) -> None:
    rows = [_row(n, f"Where is order {n}?", rejected="Ask Ann.") for n in range(19)]
    rows.append(_row(19, "Whom do I write to?", rejected="Write to jo.smith@example.com."))
    dataset = _build(rows, ("email",), tmp_path)
    assert read_left_out(dataset) == []
    assert {row.label_id: row.rejected for row in read_rows(dataset)} == {
        row.label_id: "" if row is rows[19] else "Ask Ann." for row in rows
    }
    assert not [path for path in dataset.iterdir() if b"jo.smith" in path.read_bytes()]


def test_kinds_that_the_bundle_does_not_name_may_be_learned(tmp_path: Path) -> None:
    assert "ip" not in Learning(labels_needed=1).personal_data, "calls are made of them"
    rows = [_row(0, "Add the server 192.168.0.5"), *(_row(n, text) for n, text in enumerate(NOT_IN_THE_CLEAR, 30))]
    dataset = _build(rows, Learning(labels_needed=1).personal_data, tmp_path)
    assert read_left_out(dataset) == []
    assert "label-00" in read_manifest(dataset).label_ids


def test_nothing_is_learned_where_it_could_not_be_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building.sys, "executable", "/bin/false")
    with pytest.raises(DetectorsFailedError, match="ended with status 1"):
        _build([_row(n, f"Where is order {n}?") for n in range(20)], ("email",), tmp_path)
    assert list(tmp_path.iterdir()) == []
