from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Sensitivity
from services.triage.domain.queue import Queue, Shelf
from tests.unit.triage.builders import NOW

UNTIL = NOW + timedelta(minutes=15)
A, B = Shelf("acme", "films", Sensitivity.PUBLIC), Shelf("acme", "music", Sensitivity.INTERNAL)


def _any(tenant: str, sensitivity: Sensitivity) -> bool:
    return True


def _queue() -> Queue:
    queue = Queue()
    queue.add("low", A, 0.2)
    queue.add("high", B, 0.9)
    queue.add("middle", A, 0.5)
    return queue


def test_the_most_valuable_comes_first_and_nothing_comes_twice() -> None:
    queue = _queue()
    assert [queue.lease(NOW, UNTIL, _any) for _ in range(4)] == ["high", "middle", "low", None]


def test_a_queue_can_be_asked_for_one_task() -> None:
    queue = _queue()
    assert queue.lease(NOW, UNTIL, _any, task="films") == "middle"
    assert queue.lease(NOW, UNTIL, _any, tenant="other") is None


def test_an_expired_lease_puts_the_item_back() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, _any)
    assert queue.counts(NOW, _any) == {("acme", "films"): (2, 0), ("acme", "music"): (0, 1)}
    assert queue.lease(UNTIL, UNTIL + timedelta(minutes=15), _any) == "high"


def test_what_is_settled_or_removed_is_not_leased_again() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, _any)
    queue.settle("high")
    queue.remove("middle")
    assert queue.settled("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1), _any) == "low"
    assert queue.lease(UNTIL, UNTIL + timedelta(1), _any) is None


def test_what_could_not_be_settled_is_open_again_when_its_lease_ends() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, _any)
    queue.settle("high")
    queue.unsettle("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1), _any) == "high"


def test_adding_twice_is_adding_once() -> None:
    queue = _queue()
    queue.add("high", B, 0.9)
    assert [queue.lease(NOW, UNTIL, _any, task="music") for _ in range(2)] == ["high", None]


def test_a_queue_gives_and_counts_only_what_may_be_seen() -> None:
    queue = _queue()

    def public(tenant: str, sensitivity: Sensitivity) -> bool:
        return sensitivity is Sensitivity.PUBLIC

    assert queue.counts(NOW, public) == {("acme", "films"): (2, 0)}
    assert [queue.lease(NOW, UNTIL, public) for _ in range(3)] == ["middle", "low", None]
    assert queue.lease(NOW, UNTIL, _any) == "high"


def test_an_item_whose_lease_ended_while_its_label_was_written_in_vain_is_open_again() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, _any)
    queue.settle("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1), _any) == "middle"
    queue.unsettle("high")
    assert queue.lease(UNTIL, UNTIL + timedelta(1), _any) == "high"


@given(
    st.lists(st.tuples(st.sampled_from(["add", "lease", "wait", "settle", "unsettle", "remove"]), st.integers(0, 5)))
)
def test_counts_are_those_of_the_items_whatever_happens(steps: list[tuple[str, int]]) -> None:
    queue, now = Queue(), NOW
    leased: dict[str, datetime] = {}
    there: set[str] = set()
    settled: set[str] = set()
    for step, number in steps:
        item = f"r{number}"
        if step == "add":
            queue.add(item, (A, B)[number % 2], number / 10)
            there.add(item)
        elif step == "lease":
            leased = {each: until for each, until in leased.items() if until > now}
            given_out = queue.lease(now, now + timedelta(minutes=number + 1), _any)
            free = there - settled - leased.keys()
            assert given_out == max(free, default=None, key=lambda each: int(each[1:]))
            if given_out is not None:
                leased[given_out] = now + timedelta(minutes=number + 1)
        elif step == "wait":
            now += timedelta(minutes=number)
        elif step == "settle":
            queue.settle(item)
            settled |= {item} & there
        elif step == "unsettle":
            queue.unsettle(item)
            settled.discard(item)
        else:
            queue.remove(item)
            there.discard(item)
            settled.discard(item)
            leased.pop(item, None)
        held = {each for each, until in leased.items() if until > now} - settled
        counts = queue.counts(now, _any)
        assert sum(open_ for open_, _ in counts.values()) == len(there - settled - held)
        assert sum(leased_ for _, leased_ in counts.values()) == len(held & there)
