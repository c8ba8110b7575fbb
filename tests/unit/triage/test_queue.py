from datetime import datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Sensitivity
from schemas.labels import Kind
from services.triage.domain.queue import Queue, Shelf
from tests.unit.triage.builders import NOW

UNTIL = NOW + timedelta(minutes=15)
A = Shelf("acme", "films", Sensitivity.PUBLIC, Kind.FIRST)
B = Shelf("acme", "music", Sensitivity.INTERNAL, Kind.FIRST)


def _any(_: Shelf) -> bool:
    return True


def _queue() -> Queue:
    queue = Queue()
    queue.put("low", A, 0.2)
    queue.put("high", B, 0.9)
    queue.put("middle", A, 0.5)
    return queue


def test_the_most_valuable_comes_first_and_nothing_comes_twice() -> None:
    queue = _queue()
    assert [queue.lease(NOW, UNTIL, _any, "ann") for _ in range(4)] == ["high", "middle", "low", None]


def test_a_queue_can_be_asked_for_one_task() -> None:
    queue = _queue()
    assert queue.lease(NOW, UNTIL, _any, "ann", task="films") == "middle"
    assert queue.lease(NOW, UNTIL, _any, "ann", tenant="other") is None


def test_an_expired_lease_puts_the_item_back() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, _any, "ann")
    assert queue.counts(NOW, _any) == {("acme", "films"): (2, 0), ("acme", "music"): (0, 1)}
    assert queue.lease(UNTIL, UNTIL + timedelta(minutes=15), _any, "ann") == "high"


def test_one_certain_item_can_be_asked_for_while_nobody_holds_it() -> None:
    queue = _queue()
    assert queue.lease_one("low", NOW, UNTIL)
    assert not queue.lease_one("low", NOW, UNTIL)
    assert not queue.lease_one("none", NOW, UNTIL)
    assert queue.lease_one("low", UNTIL, UNTIL + timedelta(1))


def test_a_queue_gives_and_counts_only_what_is_for_somebody() -> None:
    queue = _queue()

    def public(shelf: Shelf) -> bool:
        return shelf.sensitivity is Sensitivity.PUBLIC

    assert queue.counts(NOW, public) == {("acme", "films"): (2, 0)}
    assert [queue.lease(NOW, UNTIL, public, "ann") for _ in range(3)] == ["middle", "low", None]
    assert queue.lease(NOW, UNTIL, _any, "ann") == "high"


def test_who_has_judged_an_item_does_not_get_it_and_others_do() -> None:
    queue = _queue()
    queue.put("high", B, 0.9, frozenset({"ann"}))
    assert queue.lease(NOW, UNTIL, _any, "ann") == "middle"
    assert queue.lease(NOW, UNTIL, _any, "bob") == "high"


def test_an_item_on_another_shelf_is_for_its_people_alone() -> None:
    queue = _queue()
    decisions = B._replace(kind=Kind.ADJUDICATION)
    queue.put("high", decisions, 0.9)
    assert queue.lease(NOW, UNTIL, lambda shelf: shelf.kind is Kind.FIRST, "ann", task="music") is None
    assert queue.counts(NOW, lambda shelf: shelf is decisions) == {("acme", "music"): (1, 0)}
    assert queue.lease(NOW, UNTIL, _any, "ann") == "high"


def test_who_holds_an_item_holds_it_on_another_shelf_too() -> None:
    queue = _queue()
    queue.lease(NOW, UNTIL, _any, "ann")
    queue.put("high", A, 0.9)
    assert queue.counts(NOW, _any) == {("acme", "films"): (2, 1), ("acme", "music"): (0, 0)}
    assert queue.lease(NOW, UNTIL, _any, "bob") == "middle"


@given(st.lists(st.tuples(st.sampled_from(["put", "lease", "wait", "free", "extend", "remove"]), st.integers(0, 5))))
def test_counts_are_those_of_the_items_whatever_happens(steps: list[tuple[str, int]]) -> None:
    queue, now = Queue(), NOW
    held: dict[str, datetime] = {}
    there: set[str] = set()
    for step, number in steps:
        item = f"r{number}"
        held = {each: until for each, until in held.items() if until > now}
        if step == "put":
            queue.put(item, (A, B)[number % 2], number / 10)
            there.add(item)
        elif step == "lease":
            until = now + timedelta(minutes=number + 1)
            given_out = queue.lease(now, until, _any, "ann")
            assert given_out == max(there - held.keys(), default=None, key=lambda each: int(each[1:]))
            if given_out is not None:
                held[given_out] = until
        elif step == "wait":
            now += timedelta(minutes=number)
            queue.counts(now, _any)
        elif step == "free":
            queue.hold(item, None)
            held.pop(item, None)
        elif step == "extend" and item in there:
            queue.hold(item, now + timedelta(minutes=9))
            held[item] = now + timedelta(minutes=9)
        elif step == "remove":
            queue.remove(item)
            there.discard(item)
            held.pop(item, None)
        still = {each for each, until in held.items() if until > now}
        counts = queue.counts(now, _any)
        assert sum(open_ for open_, _ in counts.values()) == len(there - still)
        assert sum(held_ for _, held_ in counts.values()) == len(still)
