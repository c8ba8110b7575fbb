import re
from datetime import timedelta

import pytest

from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Retryable
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement
from services.triage.domain.leases import Lease
from services.triage.domain.rows import Item
from tests.unit.triage.builders import CALL, NOW, TASK, TENANT, World


@pytest.fixture
def world() -> World:
    world = World()
    world.add()
    return world


WRONG = '{"name": "find_film", "arguments": {"title": "Alien", "day": "today"}}'


async def test_a_correction_is_a_label_with_its_delta(world: World) -> None:
    claimed = world.desk.claim("ann")
    assert await world.desk.submit(claimed.token, Judgement(CORRECTED, WRONG, seconds_spent=4.0)) == "l1"
    (label,) = world.written
    assert (label.outcome, label.answer, label.model_answer, label.expert) == ("corrected", WRONG, CALL, "ann")
    assert label.delta
    assert 0 < label.distance < 1


async def test_a_confirmation_keeps_the_answer_and_an_unsafe_one_keeps_none(world: World) -> None:
    world.add("r2")
    await world.desk.submit(world.desk.claim("ann").token, Judgement(CONFIRMED))
    await world.desk.submit(world.desk.claim("ann").token, Judgement(UNSAFE))
    assert [(label.outcome, label.answer) for label in world.written] == [("confirmed", CALL), ("unsafe", "")]


@pytest.mark.parametrize(
    ("judgement", "problem"),
    [
        (Judgement(CORRECTED), "answer: must be given"),
        (Judgement(CORRECTED, CALL), "answer: is the model's own"),
        (Judgement(CORRECTED, "Alien"), "answer: must be a call of one of the item's tools; not JSON"),
        (Judgement(CORRECTED, WRONG.replace("find_film", "fly")), "'fly' is not one of the tools: find_film"),
        (Judgement(CONFIRMED, WRONG), "answer: only a corrected one may differ"),
        (Judgement(CONFIRMED, rating=6), "rating: must be from 1, useless, to 5, is 6"),
    ],
)
async def test_a_judgement_that_makes_no_sense_is_refused_and_the_lease_holds(
    world: World, judgement: Judgement, problem: str
) -> None:
    token = world.desk.claim("ann").token
    with pytest.raises(InvalidArgument, match=re.escape(problem)):
        await world.desk.submit(token, judgement)
    await world.desk.submit(token, Judgement(CONFIRMED))
    assert len(world.written) == 1


async def test_an_answer_that_is_no_call_cannot_be_confirmed(world: World) -> None:
    world.add("r2", answer="I cannot")
    world.queue.remove("r1")
    with pytest.raises(InvalidArgument, match="outcome: the model's answer is not a call"):
        await world.desk.submit(world.desk.claim("ann").token, Judgement(CONFIRMED))


async def test_a_second_submission_is_refused(world: World) -> None:
    token = world.desk.claim("ann").token
    await world.desk.submit(token, Judgement(CONFIRMED))
    with pytest.raises(FailedPrecondition, match="done already"):
        await world.desk.submit(token, Judgement(CONFIRMED))
    world.items["r1"] = Item(partition=0, tenant=TENANT, task=TASK, outcome="confirmed")
    with pytest.raises(FailedPrecondition, match=r"done already \(confirmed\)"):
        await world.desk.skip(token, "too late")
    assert len(world.written) == 1


async def test_an_expired_lease_cannot_submit_and_the_item_goes_to_the_next(world: World) -> None:
    token = world.desk.claim("ann").token
    world.now += timedelta(seconds=60)
    with pytest.raises(FailedPrecondition, match="lease: expired"):
        await world.desk.submit(token, Judgement(CONFIRMED))
    assert world.desk.claim("bob").item.request_id == "r1"


async def test_a_lease_of_an_item_that_is_not_here_says_so(world: World) -> None:
    token = world.desk.signer.sign(Lease("elsewhere", "ann", NOW + timedelta(seconds=60)))
    with pytest.raises(NotFound, match="not in this replica's queue"):
        await world.desk.submit(token, Judgement(CONFIRMED))


async def test_a_label_that_was_not_acknowledged_can_be_submitted_again(world: World) -> None:
    token = world.desk.claim("ann").token
    world.away = True
    with pytest.raises(Retryable):
        await world.desk.submit(token, Judgement(CONFIRMED))
    world.away = False
    assert await world.desk.submit(token, Judgement(CONFIRMED)) == "l1"


def test_an_empty_queue_says_what_was_asked_for(world: World) -> None:
    with pytest.raises(NotFound, match="nothing is open for task poems"):
        world.desk.claim("ann", task="poems")


def test_stats_add_up_over_partitions(world: World) -> None:
    world.add("r2")
    world.desk.claim("ann")
    (stats,) = world.desk.stats()
    assert (stats.seen, stats.flagged, stats.open, stats.leased, stats.labelled, stats.skipped) == (15, 3, 1, 1, 1, 1)


async def test_an_extended_lease_holds_beyond_the_first_one_s_end(world: World) -> None:
    claimed = world.desk.claim("ann")
    world.now += timedelta(seconds=50)
    extended = world.desk.extend(claimed.token)
    assert extended.expires_at == NOW + timedelta(seconds=110)
    world.now += timedelta(seconds=50)
    with pytest.raises(NotFound):
        world.desk.claim("bob")
    await world.desk.submit(extended.token, Judgement(CONFIRMED))
    assert len(world.written) == 1


def test_an_expired_lease_cannot_be_extended(world: World) -> None:
    token = world.desk.claim("ann").token
    world.now += timedelta(seconds=60)
    with pytest.raises(FailedPrecondition, match="lease: expired"):
        world.desk.extend(token)


async def test_an_item_that_was_handed_back_goes_to_the_next_and_the_lease_counts_no_more(world: World) -> None:
    token = world.desk.claim("ann").token
    world.desk.release(token)
    world.desk.claim("bob")
    with pytest.raises(FailedPrecondition, match="another expert has its item now"):
        await world.desk.submit(token, Judgement(CONFIRMED))
    with pytest.raises(FailedPrecondition, match="another expert has its item now"):
        world.desk.extend(token)
    with pytest.raises(FailedPrecondition, match="another expert has its item now"):
        world.desk.release(token)


async def test_an_item_is_shown_again_to_who_holds_it_and_to_nobody_else(world: World) -> None:
    claimed = world.desk.claim("ann")
    world.now += timedelta(seconds=5)
    again = world.desk.held("r1", "ann")
    assert again == claimed
    for request_id, expert in (("r1", "bob"), ("unknown", "ann")):
        with pytest.raises(NotFound, match="you do not hold this item"):
            world.desk.held(request_id, expert)
    await world.desk.submit(claimed.token, Judgement(CONFIRMED))
    world.items["r1"] = Item(partition=0, tenant=TENANT, task=TASK, outcome="confirmed")
    with pytest.raises(NotFound, match="you do not hold this item"):
        world.desk.held("r1", "ann")


async def test_a_label_holds_the_rating_and_the_beginning_of_what_was_asked(world: World) -> None:
    await world.desk.submit(world.desk.claim("ann").token, Judgement(CONFIRMED, rating=4))
    assert [(label.rating, label.question) for label in world.written] == [(4, "Find me a film")]
