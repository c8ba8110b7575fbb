import numpy as np
import pytest
from msgspec.structs import replace

from services.triage.domain import neighbours as module
from services.triage.domain.neighbours import Asked, Known, Neighbours, words_of


def asked(request_id: str, angle: float = 0.0, text: str = "", **changes: object) -> Asked:
    values = {
        "request_id": request_id,
        "vector": np.array([np.cos(angle), np.sin(angle)], np.float32),
        "words": words_of(text or request_id),
        "model": "small/1",
        "called": "find_film",
        "answer": f"answer to {request_id}",
    }
    return Asked(**{**values, **changes})  # type: ignore[arg-type] # whatever a test is about


@pytest.fixture
def neighbours() -> Neighbours:
    return Neighbours()


def test_where_nobody_was_asked_nothing_is_known(neighbours: Neighbours) -> None:
    assert neighbours.of(asked("new")) == Known()


def test_what_failed_nearby_counts_and_what_failed_far_away_does_not(neighbours: Neighbours) -> None:
    for number in range(4):
        neighbours.add(asked(f"near {number}", 0.05 * number, called="one"))
        neighbours.judge(f"near {number}", True)
        neighbours.add(asked(f"far {number}", 1.5 + 0.05 * number, called="other"))
        neighbours.judge(f"far {number}", False)
    near, far = neighbours.of(asked("a", 0.02, called="new")), neighbours.of(asked("b", 1.52, called="new"))
    assert (near.similar, near.similar_failed) == (4, 4)
    assert (far.similar, far.similar_failed) == (4, 0)
    assert near.similar_share > 0.7
    assert far.similar_share < 0.3


def test_what_lies_the_other_way_is_known_too(neighbours: Neighbours) -> None:
    neighbours.add(asked("r1", 3.1, called="one"))
    neighbours.judge("r1", True)
    known = neighbours.of(asked("new", called="other"))
    assert known.nearest == pytest.approx(-1, abs=0.01)
    assert known.similar == 0


def test_answers_that_call_the_same_function_are_counted_and_another_model_s_less(neighbours: Neighbours) -> None:
    for number in range(4):
        neighbours.add(asked(f"r{number}", number, called="pay"))
        neighbours.judge(f"r{number}", True)
    same, other = (neighbours.of(asked("new", 9.0, called="pay", model=model)) for model in ("small/1", "small/2"))
    assert (same.called, same.called_failed) == (4, 4)
    assert same.called_share > other.called_share


def test_the_same_words_are_the_same_request_however_they_are_written(neighbours: Neighbours) -> None:
    neighbours.add(asked("r1", text="Find a table, for four!"))
    assert neighbours.of(asked("r2", 0.5, text="find a TABLE for four")).same_as == "r1"
    assert neighbours.of(asked("r3", 0.5, text="find a table for five")).same_as is None


def test_nearly_the_same_words_are_the_same_request_where_the_answer_is_the_same(neighbours: Neighbours) -> None:
    neighbours.add(asked("r1", text="please find me a table for four tonight in oslo", answer="call"))
    polite = "could find me a table for four tonight in oslo"
    assert neighbours.of(asked("r2", 0.1, text=polite, answer="call")).same_as == "r1"
    assert neighbours.of(asked("r3", 0.1, text=polite, answer="another call")).same_as is None


def test_requests_without_words_are_not_taken_for_one(neighbours: Neighbours) -> None:
    neighbours.add(asked("r1", text="?!"))
    assert neighbours.of(asked("r2", text="...")).same_as is None


def test_what_is_forgotten_or_taken_back_counts_no_more(neighbours: Neighbours) -> None:
    neighbours.add(asked("r1"))
    neighbours.judge("r1", True)
    assert neighbours.judged("r1")
    neighbours.judge("r1", None)
    assert not neighbours.judged("r1")
    assert neighbours.of(asked("new")).called == 0
    neighbours.judge("r1", True)
    neighbours.forget("r1")
    assert neighbours.of(asked("new")) == Known()


def test_memory_is_bounded_and_the_oldest_goes(neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    for number in range(150):
        neighbours.add(asked(f"r{number}", number / 100))
    assert [f"r{number}" in neighbours for number in (0, 49, 50, 149)] == [False, False, True, True]
    assert neighbours.of(asked("new", 0.0, text="r20")).same_as is None
    assert neighbours.of(asked("new", 1.4, text="r140")).same_as == "r140"


def test_a_request_that_is_decided_about_again_does_not_repeat_itself(neighbours: Neighbours) -> None:
    neighbours.add(asked("r1"))
    assert neighbours.of(asked("r1")).same_as is None


def test_requests_compared_together_are_compared_with_what_is_asked_meanwhile(
    neighbours: Neighbours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 70)  # so that rows are added, grown by and used again
    chance = np.random.default_rng(1)
    for number in range(60):
        neighbours.add(asked(f"old {number}", chance.uniform(0, 6)))
    new = [asked(f"r{number}", chance.uniform(0, 6)) for number in range(30)]
    comparison = neighbours.compare(new)
    for place, each in enumerate(new):
        alone, together = neighbours.of(each), comparison.known(place)
        rounded = {
            name: pytest.approx(getattr(alone, name), abs=1e-6) for name in ("nearest", "similar_share", "called_share")
        }
        assert together == replace(alone, **rounded)
        neighbours.add(each)
        if place % 3 == 0:
            neighbours.judge(each.request_id, place % 2 == 0)
        if place % 5 == 0:
            neighbours.forget(new[place // 2].request_id)


def test_where_many_of_the_latest_are_much_alike_it_is_crowded(neighbours: Neighbours) -> None:
    for number in range(module.SOME - 1):
        neighbours.add(asked(f"r{number}"))
    assert not neighbours.of(asked("new")).crowded  # too few to say
    neighbours.add(asked("one more"))
    assert neighbours.of(asked("new")).crowded
    assert not neighbours.of(asked("other", 1.5)).crowded


def test_what_is_asked_later_or_forgotten_makes_room(neighbours: Neighbours) -> None:
    for number in range(module.LATEST):
        neighbours.add(asked(f"far {number}", 1.5))
    for number in range(allowed := int(module.CROWD * module.LATEST)):
        neighbours.add(asked(f"near {number}"))
    assert not neighbours.of(asked("new")).crowded
    neighbours.add(asked("one more"))
    assert neighbours.of(asked("new")).crowded
    neighbours.forget("near 0")
    neighbours.add(asked("far away", 1.5))
    assert not neighbours.of(asked("new")).crowded
    neighbours.add(asked("another"))
    assert neighbours.of(asked("new")).crowded
    for number in range(module.LATEST - allowed):
        neighbours.add(asked(f"later {number}", 1.5))
    assert not neighbours.of(asked("new")).crowded
