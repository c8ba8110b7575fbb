import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.triage.domain import deltas


@given(st.text(), st.text())
def test_edits_turn_what_was_said_into_what_was_wanted(said: str, wanted: str) -> None:
    edits, distance = deltas.delta(said, wanted)
    assert deltas.apply(said, edits) == wanted
    assert 0 <= distance <= 1
    assert (distance == 0) == (said == wanted)


def test_the_distance_is_one_when_nothing_is_in_common() -> None:
    assert deltas.delta("abc", "xyz")[1] == 1


def test_texts_too_long_to_compare_become_one_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "EXACT_CELLS", 3)
    edits, distance = deltas.delta("start abc end", "start xbz end")
    assert [(edit.start, edit.end, edit.text) for edit in edits] == [(6, 9, "xbz")]
    assert distance == pytest.approx(3 / 13)
