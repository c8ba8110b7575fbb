import asyncio
from datetime import timedelta
from itertools import permutations

import pytest

from schemas.events import Erasure
from services.runtime.errors import NotFound, Retryable
from services.triage.backlog import KEPT
from services.triage.domain.labels import CONFIRMED, Judgement
from services.triage.domain.rows import Item
from tests.unit.triage.builders import NOW, TASK, TENANT, edge_case, label, person
from tests.unit.triage.fakes import Replica, Topics

ANN = person("ann")
ERASURE = Erasure(request_id="r1", erasure_id="e", tenant=TENANT, asked_at=NOW)


def test_topics_may_be_read_in_any_order() -> None:
    for events in permutations([edge_case("r1"), label("r1")]):
        replica = Topics().replica()
        for event in events:
            replica.take(event)
        assert replica.backlog.totals() == {(TENANT, TASK): (1, 1, 0)}
        assert replica.backlog.counts(lambda _: True) in ({}, {(TENANT, TASK): (0, 0)})


def test_records_that_are_read_again_count_once() -> None:
    topics = Topics()
    replica = topics.replica()
    for _ in range(3):
        topics.append(edge_case("r1"))
        topics.append(label("r1"))
    assert replica.backlog.totals() == {(TENANT, TASK): (1, 1, 0)}


async def test_what_was_erased_is_gone_in_whichever_order_it_is_read() -> None:
    for events in permutations([edge_case("r1"), label("r1"), ERASURE]):
        replica = Topics().replica()
        for event in events:
            replica.take(event)
        assert replica.items.rows["r1"].edge_case is None
        assert replica.items.rows["r1"].labels == ()
        assert replica.items.scrubbed == 1
        assert replica.backlog.latest("ann") is None
        with pytest.raises(NotFound):
            await replica.desk.claim(ANN)


async def test_who_holds_an_item_that_is_erased_cannot_submit() -> None:
    topics = Topics()
    topics.add()
    replica = topics.replica()
    claimed = await replica.desk.claim(ANN)
    topics.append(ERASURE)
    with pytest.raises(NotFound, match="its item is gone"):
        await replica.desk.submit(ANN, claimed.token, Judgement(CONFIRMED))


async def test_what_repeats_another_or_was_labelled_elsewhere_is_for_nobody() -> None:
    topics = Topics()
    topics.add("r1", same_as="r0")
    topics.add("r2", imported=True)
    replica = topics.replica()
    with pytest.raises(NotFound):
        await replica.desk.claim(ANN)
    assert replica.backlog.totals().get((TENANT, TASK), (0, 0, 0))[0] == 0


async def test_until_everything_is_read_nothing_is_given_out() -> None:
    topics = Topics()
    topics.add()
    replica = topics.replica()
    replica.backlog._complete = False
    with pytest.raises(Retryable, match="starting"):
        await replica.desk.claim(ANN)
    caught_up = asyncio.Event()
    running = asyncio.create_task(replica.backlog.run(caught_up.wait()))
    caught_up.set()
    while not replica.backlog._complete:
        await asyncio.sleep(0)
    assert (await replica.desk.claim(ANN)).item.request_id == "r1"
    running.cancel()


async def test_what_is_older_than_the_topics_hold_goes() -> None:
    topics = Topics()
    topics.add("old")
    topics.add("new", flagged_at=NOW + timedelta(days=1))
    replica: Replica = topics.replica()
    topics.now = NOW + KEPT + timedelta(hours=1)
    running = asyncio.create_task(replica.backlog.run(asyncio.sleep(0)))
    while "old" in replica.items.rows:
        await asyncio.sleep(0)
    running.cancel()
    assert list(replica.items.rows) == ["new"]
    assert replica.backlog.counts(lambda _: True) == {(TENANT, TASK): (1, 0)}


async def test_of_two_items_that_is_asked_first_which_more_requests_repeat() -> None:
    topics = Topics()
    replica = topics.replica()
    topics.append(edge_case("r3", same_as="r2"))  # before what it repeats
    topics.add("r1", value=0.5)
    topics.add("r2", value=0.2)
    assert (await replica.desk.claim(ANN)).item.request_id == "r1"
    topics.wait(60)
    topics.append(edge_case("r4", same_as="r2"))
    claimed = await replica.desk.claim(ANN)
    assert (claimed.item.request_id, claimed.repeats) == ("r2", 2)
    assert replica.backlog.totals() == {(TENANT, TASK): (2, 0, 0)}


def test_what_repeats_an_erased_request_brings_nothing_of_it_back() -> None:
    replica = Topics().replica()
    for event in (edge_case("r1"), ERASURE, edge_case("r2", same_as="r1")):
        replica.take(event)
    assert replica.items.rows["r1"] == Item(erased=True)
