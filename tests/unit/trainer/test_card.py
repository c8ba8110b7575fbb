"""A dataset's card tells people what is in it, and nothing of any row."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.trainer.dataset import DatasetPolicy, LabelledRow, LeftOut, Message, Reason, build_dataset, erase_rows

POLICY = DatasetPolicy(holdout_share=0.3, minimum_train_rows=1, minimum_holdout_rows=1)


def _row(number: int, **changes: Any) -> LabelledRow:
    fields = {
        "request_id": f"request-{number}",
        "label_id": f"label-{number}",
        "labelled_at_ms": 1_790_000_000_000 + number * 86_400_000,
        "tenant": "retail",
        "task": "orders",
        "sensitivity": "internal",
        "source": "expert-1",
        "messages": (Message("user", f"Where is order marker{number}?"),),
        "completion": f'{{"name": "track", "arguments": {{"order": "marker{number}"}}}}',
        "tools": ({"name": "track", "parameters": {}},),
    }
    return LabelledRow(**{**fields, **changes})


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    rows = [_row(n, origin="explored", outcome="confirmed") for n in range(10)]
    rows += [_row(n, sensitivity="confidential") for n in range(10, 40)]
    rows += [
        _row(40, completion="marker40 is $lost$."),
        _row(41, completion='{"name": "marker41", "arguments": {}}', tools=()),
    ]
    unsafe = LeftOut("request-50", "label-50", Reason.UNSAFE)
    return build_dataset(rows, POLICY, tmp_path, created_at_ms=1_800_000_000_000, not_learned=[unsafe])


def _counted(text: str, name: str) -> int:
    """What a table's line adds up to."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return sum(int(cell) for cell in line.split("|")[2:-1])


def test_a_card_says_in_numbers_what_is_in_it(dataset: Path) -> None:
    _, head, text = (dataset / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(head)
    assert card["pretty_name"] == "retail/orders"
    assert (dataset / card["configs"][0]["data_files"]).exists()
    assert _counted(text, "rows") == 42
    assert _counted(text, "`track`") == 40
    assert _counted(text, "confidential") == 30
    assert _counted(text, "drawn at random; confirmed") == 10
    assert _counted(text, "unsafe") == 1
    assert f"`{dataset.name}`" in text
    assert b"<svg" in (dataset / "rows.svg").read_bytes()


def test_no_content_is_in_it(dataset: Path) -> None:
    assert "marker" not in (dataset / "README.md").read_text() + (dataset / "rows.svg").read_text()


def test_what_is_erased_is_no_longer_counted_in_it(dataset: Path) -> None:
    erase_rows(dataset, {"request-40", "request-41"})
    text = (dataset / "README.md").read_text()
    assert "leave out 2 rows that have been erased" in text
    assert _counted(text, "`track`") == 40
    assert "not offered" not in text
    erase_rows(dataset, {f"request-{n}" for n in range(60)})
    assert "`track`" not in (dataset / "README.md").read_text()


def test_names_with_signs_of_formulas_are_drawn_as_they_are(tmp_path: Path) -> None:
    called = '{"name": "a$b_{$", "arguments": {}}'
    rows = [_row(n, completion=called, tools=({"name": "a$b_{$", "parameters": {}},)) for n in range(20)]
    assert "a$b_{$" in (build_dataset(rows, POLICY, tmp_path, created_at_ms=0) / "README.md").read_text()
