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
    assert [queue.lease(NOW, UNTIL, "ann") for _ in range(4)] == ["high", "middle", "low", None]


def test_a_queue_can_be_asked_for_one_task() -> None:
    queue = _queue()
    assert queue.lease(NOW, UNTIL, "ann", task="films") == "middle"
    assert queue.lease(NOW, UNTIL, "ann", tenant="other") is None


def test_an_expired_lease_puts_the_item_back() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, "ann")
    assert queue.counts(NOW) == {A: (2, 0), B: (0, 1)}
    assert queue.lease(UNTIL, UNTIL + timedelta(minutes=15), "bob") == "high"


def test_what_is_settled_or_removed_is_not_leased_again() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, "ann")
    queue.settle("high")
    queue.remove("middle")
    assert queue.settled("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1), "bob") == "low"
    assert queue.lease(UNTIL, UNTIL + timedelta(1), "bob") is None


def test_what_could_not_be_settled_is_open_again_when_its_lease_ends() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, "ann")
    queue.settle("high")
    queue.unsettle("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1), "bob") == "high"


def test_adding_twice_is_adding_once() -> None:
    queue = _queue()
    queue.add("high", B, 0.9)
    assert [queue.lease(NOW, UNTIL, "ann", task="music") for _ in range(2)] == ["high", None]


def test_what_is_extended_stays_in_hand_beyond_its_first_end_and_comes_back_after_its_last() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, "ann")
    later = UNTIL + timedelta(minutes=15)
    queue.extend("high", "ann", NOW + timedelta(minutes=5), later)
    assert queue.lease(UNTIL, later, "bob") == "middle"
    assert queue.counts(UNTIL) == {A: (1, 1), B: (0, 1)}
    held = queue.held("high", UNTIL)
    assert held is not None
    assert (held.expert, held.since, held.until) == ("ann", NOW, later)
    assert queue.held("high", later) is None
    assert queue.lease(later, later + timedelta(1), "bob") == "high"


def test_what_was_held_before_a_restart_can_be_held_on() -> None:
    queue = _queue()  # remembers no leases
    queue.extend("high", "ann", NOW, UNTIL)
    assert queue.lease(NOW, UNTIL, "bob") == "middle"


def test_what_is_handed_back_is_open_once() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, "ann")
    queue.release("high")
    queue.release("high")
    assert queue.counts(NOW) == {A: (2, 0), B: (1, 0)}
    assert [queue.lease(NOW, UNTIL, "bob", task="music") for _ in range(2)] == ["high", None]


def test_counts_follow_what_is_settled_and_what_is_removed() -> None:
    queue = _queue()
    queue.settle("high")
    queue.settle("high")
    queue.remove("high")
    queue.remove("low")
    assert queue.counts(NOW) == {A: (1, 0), B: (0, 0)}
    queue.settle("middle")
    queue.unsettle("middle")
    assert queue.counts(NOW)[A] == (1, 0)
    queue.clear()
    assert queue.counts(NOW) == {}
