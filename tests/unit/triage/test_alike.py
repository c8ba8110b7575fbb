from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from schemas.events import Erasure, Label, Sensitivity
from services.runtime.embeddings import Vectors
from services.triage.alike import LONGEST_ANSWER, Alike
from tests.unit.triage.builders import NOW, TASK, TENANT

WORDS = ["film", "song", "hotel", "rome"]
ALL = Sensitivity.RESTRICTED


def _embed(texts: Sequence[str]) -> Vectors:
    """Which of four words a text has, as a vector of length 1."""
    counted = np.array([[float(word in text) for word in WORDS] for text in texts], np.float32)
    norms = np.linalg.norm(counted, axis=1, keepdims=True)
    return (counted / np.where(norms, norms, 1)).astype(np.float32)


def _label(request_id: str, question: str, answer: str, **changes: Any) -> Label:
    values: dict[str, Any] = {
        "label_id": f"l-{request_id}",
        "request_id": request_id,
        "tenant": TENANT,
        "task": TASK,
        "expert": "ann",
        "labelled_at": NOW,
        "outcome": "corrected",
        "answer": answer,
        "question": question,
        "sensitivity": Sensitivity.INTERNAL,
        "bundle_version": "b1",
    }
    return Label(**{**values, **changes})


def _erasure(request_id: str, *, is_whole: bool = True) -> Erasure:
    return Erasure(request_id=request_id, erasure_id="e", tenant=TENANT, asked_at=NOW, is_whole=is_whole)


@pytest.fixture
def alike() -> Alike:
    index = Alike(_embed, len(WORDS), most=100, minimum_likeness=0.45)
    index.take_label(_label("r1", "a film", "film()"))
    index.take_label(_label("r2", "a film in rome", "film(rome)"))
    index.take_label(_label("r3", "a hotel in rome", "hotel(rome)"))
    return index


def _answers(index: Alike, question: str, **changes: Any) -> list[str]:
    values: dict[str, Any] = {"tenant": TENANT, "task": TASK, "clearance": ALL}
    return [each.answer for each in index.nearest(question, **{**values, **changes})]


def test_the_most_alike_come_first_and_what_is_not_alike_does_not_come(alike: Alike) -> None:
    assert _answers(alike, "which film in rome") == ["film(rome)", "film()", "hotel(rome)"]
    assert _answers(alike, "a film") == ["film()", "film(rome)"]
    assert _answers(alike, "a song") == []
    assert _answers(alike, "") == []


def test_each_answer_is_offered_once_and_no_more_than_wanted(alike: Alike) -> None:
    for number in range(5):
        alike.take_label(_label(f"again{number}", "a film", "film()"))
    assert _answers(alike, "a film") == ["film()", "film(rome)"]
    assert _answers(alike, "a film", count=1) == ["film()"]


def test_what_the_reader_may_not_see_is_not_offered(alike: Alike) -> None:
    alike.take_label(_label("secret", "a film", "secret()", sensitivity=Sensitivity.RESTRICTED))
    assert "secret()" in _answers(alike, "a film")
    assert "secret()" not in _answers(alike, "a film", clearance=Sensitivity.CONFIDENTIAL)
    assert _answers(alike, "a film", tenants={"other"}) == []
    assert _answers(alike, "a film", tenants={TENANT})
    assert _answers(alike, "a film", tenant="other") == []
    assert _answers(alike, "a film", task="other") == []


def test_who_judges_a_request_is_not_offered_what_others_said_of_it(alike: Alike) -> None:
    found = alike.nearest("a film in rome", TENANT, TASK, clearance=ALL, but="r2")
    assert [each.request_id for each in found] == ["r1", "r3"]


def test_the_last_word_on_an_item_holds(alike: Alike) -> None:
    alike.take_label(_label("r1", "a film", "film(new)"))
    assert _answers(alike, "a film", count=1) == ["film(new)"]
    alike.take_label(_label("r1", "a film", "", outcome="unsafe"))
    assert _answers(alike, "a film") == ["film(rome)"]


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "skipped"}, {"outcome": "unsafe"}, {"question": ""}, {"answer": "x" * (LONGEST_ANSWER + 1)}],
)
def test_what_is_no_starting_point_is_not_kept(changes: dict[str, Any]) -> None:
    index = Alike(_embed, len(WORDS), most=100, minimum_likeness=0.45)
    index.take_label(_label("r1", **{"question": "a film", "answer": "film()", **changes}))
    assert _answers(index, "a film") == []


def test_what_was_erased_is_gone_also_when_its_label_is_read_later(alike: Alike) -> None:
    alike.take_erasure(_erasure("r1"))
    alike.take_erasure(_erasure("r2", is_whole=False))  # of feedback alone
    assert _answers(alike, "a film") == ["film(rome)"]
    alike.take_erasure(_erasure("r9"))
    alike.take_label(_label("r9", "a film", "film(gone)"))
    assert "film(gone)" not in _answers(alike, "a film")


def test_the_latest_are_kept_of_each_task() -> None:
    index = Alike(_embed, len(WORDS), most=70, minimum_likeness=0.5)
    index.take_label(_label("other", "a film", "other()", task="other"))
    for number in range(200):
        index.take_label(_label(f"r{number}", "a film", f"film({number})"))
    kept = _answers(index, "a film", count=1000)
    assert sorted(kept) == sorted(f"film({number})" for number in range(130, 200))
    assert _answers(index, "a film", task="other") == ["other()"]
