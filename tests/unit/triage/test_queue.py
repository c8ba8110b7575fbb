from datetime import timedelta

from services.triage.domain.queue import Queue
from tests.unit.triage.builders import NOW

UNTIL = NOW + timedelta(minutes=15)
A, B = ("acme", "films"), ("acme", "music")


def _queue() -> Queue:
    queue = Queue()
    queue.add("low", A, 0.2)
    queue.add("high", B, 0.9)
    queue.add("middle", A, 0.5)
    return queue


def test_the_most_valuable_comes_first_and_nothing_comes_twice() -> None:
    queue = _queue()
    assert [queue.lease(NOW, UNTIL) for _ in range(4)] == ["high", "middle", "low", None]


def test_a_queue_can_be_asked_for_one_task() -> None:
    queue = _queue()
    assert queue.lease(NOW, UNTIL, task="films") == "middle"
    assert queue.lease(NOW, UNTIL, tenant="other") is None


def test_an_expired_lease_puts_the_item_back() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL)
    assert queue.counts(NOW) == {A: (2, 0), B: (0, 1)}
    assert queue.lease(UNTIL, UNTIL + timedelta(minutes=15)) == "high"


def test_what_is_settled_or_removed_is_not_leased_again() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL)
    queue.settle("high")
    queue.remove("middle")
    assert queue.settled("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1)) == "low"
    assert queue.lease(UNTIL, UNTIL + timedelta(1)) is None


def test_what_could_not_be_settled_is_open_again_when_its_lease_ends() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL)
    queue.settle("high")
    queue.unsettle("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1)) == "high"


def test_adding_twice_is_adding_once() -> None:
    queue = _queue()
    queue.add("high", B, 0.9)
    assert [queue.lease(NOW, UNTIL, task="music") for _ in range(2)] == ["high", None]
