import asyncio
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from schemas.bundle import Bundle
from schemas.codecs import codec
from schemas.events import Label, Sensitivity
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Retryable
from services.triage.desk import Desk
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement
from services.triage.domain.leases import Lease, Signer
from services.triage.domain.queue import Queue, QueueName, Shelf
from services.triage.domain.rows import Item, Labelled
from services.triage.domain.selection import Selector
from tests.unit.triage.builders import CALL, NOW, TASK, TENANT, bundle, edge_case, person
from tests.unit.triage.fakes import Actions

ANN, BOB = person("ann"), person("bob")


class _World:
    """A desk over tables that are a dict, and a topic that is a list."""

    def __init__(self) -> None:
        self.now = NOW
        self.items: dict[str, Item] = {}
        self.written: list[Label] = []
        self.away = False
        self.queue = Queue()
        self.actions = Actions()
        self.desk = Desk(
            queue=self.queue,
            tables=self,
            labels=self,
            actions=self.actions,
            bundles=self,
            signer=Signer(b"secret"),
            lease_seconds=60,
            clock=Clock(now=lambda: self.now, new_id=lambda: "l1"),
        )

    def add(self, request_id: str = "r1", **changes: Any) -> None:
        case = edge_case(request_id, **changes)
        record = codec(Topic.EDGE_CASES).encode(case)
        self.items[request_id] = Item(partition=0, tenant=case.tenant, task=TASK, value=0.5, edge_case=record)
        self.queue.add(request_id, Shelf(case.tenant, TASK, case.sensitivity), 0.5)

    def check_ready(self) -> None:
        pass

    def item(self, request_id: str) -> Item | None:
        return self.items.get(request_id)

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        return [
            ((TENANT, TASK), Selector(seen=10, flagged=2)),
            ((TENANT, TASK), Selector(seen=5, flagged=1)),
            (("other", TASK), Selector(seen=7)),
        ]

    def labelled(self) -> Iterable[tuple[QueueName, Labelled]]:
        return [((TENANT, TASK), Labelled(labelled=1, skipped=1))]

    def current(self) -> Bundle:
        return bundle()

    async def write(self, label: Label) -> None:
        if self.away:
            raise Retryable("Kafka is away")
        self.written.append(label)


@pytest.fixture
def world() -> _World:
    world = _World()
    world.add()
    return world


WRONG = '{"name": "find_film", "arguments": {"title": "Alien", "day": "today"}}'


async def test_a_correction_is_a_label_with_its_delta(world: _World) -> None:
    claimed = world.desk.claim(ANN)
    assert await world.desk.submit(ANN, claimed.token, Judgement(CORRECTED, WRONG, seconds_spent=4.0)) == "l1"
    (label,) = world.written
    assert (label.outcome, label.answer, label.model_answer, label.expert) == ("corrected", WRONG, CALL, "ann")
    assert label.delta
    assert 0 < label.distance < 1


async def test_a_confirmation_keeps_the_answer_and_an_unsafe_one_keeps_none(world: _World) -> None:
    world.add("r2")
    await world.desk.submit(ANN, world.desk.claim(ANN).token, Judgement(CONFIRMED))
    await world.desk.submit(ANN, world.desk.claim(ANN).token, Judgement(UNSAFE))
    assert [(label.outcome, label.answer) for label in world.written] == [("confirmed", CALL), ("unsafe", "")]


@pytest.mark.parametrize(
    ("judgement", "problem"),
    [
        (Judgement(CORRECTED), "answer: must be given"),
        (Judgement(CORRECTED, CALL), "answer: is the model's own"),
        (Judgement(CORRECTED, "Alien"), "answer: must be a call of one of the item's tools; not JSON"),
        (Judgement(CORRECTED, WRONG.replace("find_film", "fly")), "'fly' is not one of the tools: find_film"),
        (Judgement(CONFIRMED, WRONG), "answer: only a corrected one may differ"),
    ],
)
async def test_a_judgement_that_makes_no_sense_is_refused_and_the_lease_holds(
    world: _World, judgement: Judgement, problem: str
) -> None:
    token = world.desk.claim(ANN).token
    with pytest.raises(InvalidArgument, match=re.escape(problem)):
        await world.desk.submit(ANN, token, judgement)
    await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    assert len(world.written) == 1


async def test_an_answer_that_is_no_call_cannot_be_confirmed(world: _World) -> None:
    world.add("r2", answer="I cannot")
    world.queue.remove("r1")
    with pytest.raises(InvalidArgument, match="outcome: the model's answer is not a call"):
        await world.desk.submit(ANN, world.desk.claim(ANN).token, Judgement(CONFIRMED))


async def test_a_second_submission_is_refused(world: _World) -> None:
    token = world.desk.claim(ANN).token
    await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    with pytest.raises(FailedPrecondition, match="done already"):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    world.items["r1"] = Item(partition=0, tenant=TENANT, task=TASK, outcome="confirmed")
    with pytest.raises(FailedPrecondition, match=r"done already \(confirmed\)"):
        await world.desk.skip(ANN, token, "too late")
    assert len(world.written) == 1


async def test_an_expired_lease_cannot_submit_and_the_item_goes_to_the_next(world: _World) -> None:
    token = world.desk.claim(ANN).token
    world.now += timedelta(seconds=60)
    with pytest.raises(FailedPrecondition, match="lease: expired"):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    assert world.desk.claim(BOB).item.request_id == "r1"


async def test_a_lease_of_an_item_that_is_not_here_says_so(world: _World) -> None:
    token = world.desk.signer.sign(Lease("elsewhere", "ann", NOW + timedelta(seconds=60)))
    with pytest.raises(NotFound, match="not in this replica's queue"):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))


async def test_a_label_that_was_not_acknowledged_can_be_submitted_again(world: _World) -> None:
    token = world.desk.claim(ANN).token
    world.away = True
    with pytest.raises(Retryable):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    world.away = False
    assert await world.desk.submit(ANN, token, Judgement(CONFIRMED)) == "l1"


async def test_an_empty_queue_says_what_was_asked_for(world: _World) -> None:
    with pytest.raises(NotFound, match="nothing is open for task poems"):
        world.desk.claim(ANN, task="poems")


async def test_stats_add_up_over_partitions(world: _World) -> None:
    world.add("r2")
    world.desk.claim(ANN)
    (stats,) = world.desk.stats(ANN)
    assert (stats.seen, stats.flagged, stats.open, stats.leased, stats.labelled, stats.skipped) == (15, 3, 1, 1, 1, 1)


@pytest.mark.parametrize(
    "item", [{"sensitivity": Sensitivity.CONFIDENTIAL}, {"sensitivity": Sensitivity.PUBLIC, "tenant": "other"}]
)
async def test_what_is_above_the_clearance_or_another_tenants_is_neither_given_nor_counted(
    world: _World, item: dict[str, Any]
) -> None:
    world.queue.remove("r1")
    world.add("r2", **item)
    for asked in ({}, {"tenant": item.get("tenant", TENANT)}, {"task": TASK}):
        with pytest.raises(NotFound, match="nothing is open"):
            world.desk.claim(ANN, **asked)
    assert {(each.tenant, each.open, each.leased) for each in world.desk.stats(ANN)} == {(TENANT, 0, 0)}
    cleared = person("eve", clearance=Sensitivity.RESTRICTED, tenants=None)
    assert world.desk.claim(cleared).item.request_id == "r2"
    assert sum(each.leased for each in world.desk.stats(cleared)) == 1


async def test_a_lease_is_its_experts_alone(world: _World) -> None:
    token = world.desk.claim(ANN).token
    for judge in (world.desk.submit(BOB, token, Judgement(CONFIRMED)), world.desk.skip(BOB, token, "dull")):
        with pytest.raises(PermissionDenied, match="lease: is somebody else's"):
            await judge
    assert not world.written
    assert world.actions.told[1:] == [("bob", "refused", "the lease is somebody else's")] * 2
    await world.desk.submit(ANN, token, Judgement(CONFIRMED))


async def test_who_lost_clearance_or_tenant_meanwhile_cannot_submit(world: _World) -> None:
    token = world.desk.claim(ANN).token
    for less in (person(clearance=Sensitivity.PUBLIC), person(tenants=frozenset({"other"}))):
        with pytest.raises(PermissionDenied, match="no longer yours to see"):
            await world.desk.submit(less, token, Judgement(CONFIRMED))
    assert not world.written


async def test_what_was_done_is_on_record_without_any_content(world: _World) -> None:
    world.add("r2")
    await world.desk.submit(ANN, world.desk.claim(ANN).token, Judgement(CORRECTED, WRONG, comment="a word"))
    await world.desk.skip(ANN, world.desk.claim(ANN).token, "another word")
    assert world.actions.told == [
        ("ann", "claimed", ""),
        ("ann", "submitted", "corrected"),
        ("ann", "claimed", ""),
        ("ann", "skipped", ""),
    ]
    first = world.actions.recorded[1]
    assert (first.request_id, first.tenant, first.task, first.at) == ("r1", TENANT, TASK, NOW)


async def test_a_label_is_answered_for_when_its_action_is_acknowledged(world: _World) -> None:
    token = world.desk.claim(ANN).token
    world.actions.acknowledges = False
    submitting = asyncio.create_task(world.desk.submit(ANN, token, Judgement(CONFIRMED)))
    while not world.actions.unacknowledged:
        await asyncio.sleep(0)
    assert world.written
    assert not submitting.done()
    world.actions.unacknowledged.pop().set_result(None)
    assert await submitting == "l1"


async def test_nothing_is_done_that_cannot_go_on_record(world: _World) -> None:
    token = world.desk.claim(ANN).token
    world.actions.is_full = True
    with pytest.raises(Retryable):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    with pytest.raises(Retryable):
        world.desk.claim(ANN)
    assert not world.written
