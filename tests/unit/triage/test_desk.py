import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from schemas.events import Erasure, Sensitivity
from schemas.labels import Kind, Outcome
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, Retryable
from services.triage import backlog
from services.triage.domain.access import Role
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement
from services.triage.domain.leases import Lease
from tests.unit.triage.builders import CALL, NOW, TASK, TENANT, person
from tests.unit.triage.fakes import Replica, Topics

ANN, BOB = person("ann"), person("bob")
LEAD = person("lea", role=Role.LEAD)


@pytest.fixture
def topics() -> Topics:
    topics = Topics()
    topics.add()
    return topics


@pytest.fixture
def world(topics: Topics) -> Replica:
    return topics.replica()


WRONG = '{"name": "find_film", "arguments": {"title": "Alien", "day": "today"}}'


async def test_a_correction_is_a_label_with_its_delta(world: Replica) -> None:
    claimed = await world.desk.claim(ANN)
    label_id = await world.desk.submit(ANN, claimed.token, Judgement(CORRECTED, WRONG, seconds_spent=4.0))
    (label,) = world.topics.labels
    assert (label.label_id, label.kind) == (label_id, Kind.FIRST)
    assert (label.outcome, label.answer, label.model_answer, label.expert) == ("corrected", WRONG, CALL, "ann")
    assert label.delta
    assert 0 < label.distance < 1


async def test_a_confirmation_keeps_the_answer_and_an_unsafe_one_keeps_none(world: Replica) -> None:
    world.topics.add("r2")
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(UNSAFE))
    assert [(label.outcome, label.answer) for label in world.topics.labels] == [("confirmed", CALL), ("unsafe", "")]


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
    world: Replica, judgement: Judgement, problem: str
) -> None:
    token = (await world.desk.claim(ANN)).token
    with pytest.raises(InvalidArgument, match=re.escape(problem)):
        await world.desk.submit(ANN, token, judgement)
    await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    assert len(world.topics.labels) == 1


async def test_an_answer_that_is_no_call_cannot_be_confirmed(world: Replica) -> None:
    world.topics.add("r2", answer="I cannot")
    world.topics.append(Erasure(request_id="r1", erasure_id="e", tenant=TENANT, asked_at=NOW))
    with pytest.raises(InvalidArgument, match="outcome: the model's answer is not a call"):
        await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))


async def test_who_submits_the_same_again_is_answered_the_same_and_anything_else_is_refused(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    label_id = await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    assert await world.desk.submit(ANN, token, Judgement(CONFIRMED)) == label_id
    with pytest.raises(FailedPrecondition, match="done already"):
        await world.desk.submit(ANN, token, Judgement(CORRECTED, WRONG))
    with pytest.raises(FailedPrecondition, match="done already"):
        await world.desk.skip(ANN, token, "too late")
    assert len(world.topics.labels) == 1


async def test_an_expired_lease_cannot_submit_and_the_item_goes_to_the_next(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    world.topics.wait(60)
    with pytest.raises(FailedPrecondition, match="lease: expired"):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    assert (await world.desk.claim(BOB)).item.request_id == "r1"


async def test_a_lease_of_an_item_that_is_gone_says_so(world: Replica) -> None:
    token = world.desk.signer.sign(Lease("elsewhere", "l1", "ann", "g1", NOW + timedelta(seconds=60)))
    with pytest.raises(NotFound, match="its item is gone"):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))


async def test_a_label_that_was_not_acknowledged_can_be_submitted_again(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    world.topics.away = True
    with pytest.raises(Retryable):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    world.topics.away = False
    assert await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    assert len(world.topics.labels) == 1


async def test_an_empty_queue_says_what_was_asked_for(world: Replica) -> None:
    with pytest.raises(NotFound, match="nothing is open for task poems"):
        await world.desk.claim(ANN, task="poems")


async def test_stats_count_what_is_there_and_what_was_said(world: Replica) -> None:
    for number in range(2, 6):
        world.topics.add(f"r{number}")
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    await world.desk.skip(ANN, (await world.desk.claim(ANN)).token, "dull")
    await world.desk.claim(ANN)
    (stats,) = world.desk.stats(ANN)
    assert (stats.seen, stats.flagged, stats.open, stats.leased, stats.labelled, stats.skipped) == (15, 5, 2, 1, 1, 1)


@pytest.mark.parametrize(
    "item", [{"sensitivity": Sensitivity.CONFIDENTIAL}, {"sensitivity": Sensitivity.PUBLIC, "tenant": "other"}]
)
async def test_what_is_above_the_clearance_or_another_tenants_is_neither_given_nor_counted(
    world: Replica, item: dict[str, Any]
) -> None:
    world.topics.append(Erasure(request_id="r1", erasure_id="e", tenant=TENANT, asked_at=NOW))
    world.topics.add("r2", **item)
    for asked in ({}, {"tenant": item.get("tenant", TENANT)}, {"task": TASK}):
        with pytest.raises(NotFound, match="nothing is open"):
            await world.desk.claim(ANN, **asked)
    assert {(each.tenant, each.open, each.leased) for each in world.desk.stats(ANN)} == {(TENANT, 0, 0)}
    cleared = person("eve", clearance=Sensitivity.RESTRICTED, tenants=None)
    assert (await world.desk.claim(cleared)).item.request_id == "r2"
    assert sum(each.leased for each in world.desk.stats(cleared)) == 1


async def test_a_lease_is_its_experts_alone(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    for judge in (world.desk.submit(BOB, token, Judgement(CONFIRMED)), world.desk.skip(BOB, token, "dull")):
        with pytest.raises(PermissionDenied, match="lease: is somebody else's"):
            await judge
    assert not world.topics.labels
    assert world.told[1:] == [("bob", "refused", "the lease is somebody else's")] * 2
    await world.desk.submit(ANN, token, Judgement(CONFIRMED))


async def test_who_lost_clearance_or_tenant_meanwhile_cannot_submit(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    for less in (person(clearance=Sensitivity.PUBLIC), person(tenants=frozenset({"other"}))):
        with pytest.raises(PermissionDenied, match="no longer yours to see"):
            await world.desk.submit(less, token, Judgement(CONFIRMED))
    assert not world.topics.labels


async def test_what_was_done_is_on_record_without_any_content(world: Replica) -> None:
    world.topics.add("r2")
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CORRECTED, WRONG, comment="a word"))
    await world.desk.skip(ANN, (await world.desk.claim(ANN)).token, "another word")
    assert world.told == [
        ("ann", "claimed", "first"),
        ("ann", "submitted", "corrected"),
        ("ann", "claimed", "first"),
        ("ann", "skipped", ""),
    ]
    first = world.recorded[1]
    assert (first.request_id, first.tenant, first.task, first.at) == ("r1", TENANT, TASK, NOW)


async def test_a_label_is_answered_for_when_its_action_is_acknowledged(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    world.acknowledges = False
    submitting = asyncio.create_task(world.desk.submit(ANN, token, Judgement(CONFIRMED)))
    while not world.unacknowledged:
        await asyncio.sleep(0)
    assert world.topics.labels
    assert not submitting.done()
    world.unacknowledged.pop().set_result(None)
    assert await submitting == world.topics.labels[0].label_id


async def test_nothing_is_done_that_cannot_go_on_record(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    world.is_full = True
    with pytest.raises(Retryable):
        await world.desk.submit(ANN, token, Judgement(CONFIRMED))
    with pytest.raises(Retryable):
        await world.desk.claim(ANN)
    assert not world.topics.labels


# Leases


async def test_an_extended_lease_holds_on_and_its_new_token_counts(world: Replica) -> None:
    claimed = await world.desk.claim(ANN)
    world.topics.wait(50)
    extended = await world.desk.extend(ANN, claimed.token)
    world.topics.wait(50)
    with pytest.raises(NotFound, match="nothing is open"):
        await world.desk.claim(BOB)
    assert world.desk.held(ANN, "r1").expires_at == extended.expires_at
    await world.desk.submit(ANN, extended.token, Judgement(CONFIRMED))


async def test_what_was_handed_back_is_open_and_its_token_counts_no_more(world: Replica) -> None:
    token = (await world.desk.claim(ANN)).token
    await world.desk.release(ANN, token)
    assert (await world.desk.claim(BOB)).item.request_id == "r1"
    for late in (world.desk.submit(ANN, token, Judgement(CONFIRMED)), world.desk.extend(ANN, token)):
        with pytest.raises(FailedPrecondition, match="lease: is over"):
            await late


async def test_an_item_is_shown_again_to_who_holds_it_alone(world: Replica) -> None:
    claimed = await world.desk.claim(ANN)
    again = world.desk.held(ANN, "r1")
    assert (again.item, again.claimed_at, again.expires_at) == (claimed.item, NOW, claimed.expires_at)
    await world.desk.submit(ANN, again.token, Judgement(CONFIRMED))
    for who in (ANN, BOB):
        with pytest.raises(NotFound, match="you do not hold this item"):
            world.desk.held(who, "r1")


async def test_a_claim_that_cannot_go_on_record_in_time_is_none(
    world: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "PATIENCE_SECONDS", 0.01)
    world.topics.away = True
    with pytest.raises(Retryable, match="put on record"):
        await world.desk.claim(ANN)
    world.topics.away = False
    assert (await world.desk.claim(BOB)).item.request_id == "r1"


# Several replicas


async def test_any_replica_takes_the_label_of_what_another_gave_out(topics: Topics) -> None:
    one, other = topics.replica("a"), topics.replica("b")
    claimed = await one.desk.claim(ANN)
    with pytest.raises(NotFound):
        await other.desk.claim(BOB)
    await other.desk.submit(ANN, claimed.token, Judgement(CONFIRMED))
    with pytest.raises(NotFound):
        await one.desk.claim(BOB)


async def test_of_two_who_claim_at_once_the_first_on_record_holds_it_everywhere(topics: Topics) -> None:
    one, other = topics.replica("a"), topics.replica("b")
    other.behind = []  # it has not read what the first one writes now
    first = await one.desk.claim(ANN)
    claiming = asyncio.create_task(other.desk.claim(BOB))
    while not other.recorded:
        await asyncio.sleep(0)
    other.catch_up()
    with pytest.raises(NotFound):
        await claiming
    for replica in (one, other):
        hold = replica.backlog.held("r1")
        assert hold is not None
        assert hold.expert == "ann"
    await other.desk.submit(ANN, first.token, Judgement(CONFIRMED))


async def test_a_replica_that_starts_knows_who_holds_what(topics: Topics) -> None:
    topics.add("r2", value=0.4)
    first = topics.replica("a")
    claimed = await first.desk.claim(ANN)
    topics.replicas.clear()  # killed
    late = topics.replica("b")
    assert (await late.desk.claim(BOB)).item.request_id == "r2"
    await late.desk.submit(ANN, claimed.token, Judgement(CONFIRMED))


async def test_what_was_submitted_elsewhere_is_not_given_out_before_its_label_is_read(topics: Topics) -> None:
    one, other = topics.replica("a"), topics.replica("b")
    await one.desk.submit(ANN, (await one.desk.claim(ANN)).token, Judgement(CONFIRMED))
    late = topics.replica("c")
    late.backlog, late.items = type(late.backlog)(late.items, late.clock), late.items
    fresh = Replica(topics, "d")
    for event in topics.events:
        if event not in topics.labels:
            fresh.take(event)
    with pytest.raises(NotFound):
        await fresh.desk.claim(BOB)
    fresh.take(topics.labels[0])
    with pytest.raises(NotFound):
        await fresh.desk.claim(BOB)
    assert other.backlog.item("r1") == one.backlog.item("r1")


# Two experts, and who decides between them


async def test_an_item_of_the_overlap_is_for_a_second_expert_and_no_third(topics: Topics) -> None:
    world = topics.replica()
    topics.add("r0", overlap=True, value=0.9)
    first = await world.desk.claim(ANN)
    await world.desk.submit(ANN, first.token, Judgement(CONFIRMED))
    assert (await world.desk.claim(ANN)).item.request_id == "r1"  # what she has judged is not for her
    second = await world.desk.claim(BOB)
    assert (second.item.request_id, second.kind, second.labels) == ("r0", Kind.OVERLAP, ())
    await world.desk.submit(BOB, second.token, Judgement(CONFIRMED))
    assert [label.kind for label in topics.labels] == [Kind.FIRST, Kind.OVERLAP]
    with pytest.raises(NotFound):
        await world.desk.claim(person("cay"))


async def test_what_they_do_not_agree_on_is_for_a_lead_who_sees_what_they_said(topics: Topics) -> None:
    world = topics.replica()
    topics.add("r0", overlap=True, value=0.9)
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    await world.desk.submit(BOB, (await world.desk.claim(BOB)).token, Judgement(UNSAFE))
    assert (await world.desk.claim(person("cay"))).item.request_id == "r1"
    decision = await world.desk.claim(LEAD)
    assert (decision.item.request_id, decision.kind) == ("r0", Kind.ADJUDICATION)
    assert [(label.expert, label.outcome) for label in decision.labels] == [("ann", "confirmed"), ("bob", "unsafe")]
    with pytest.raises(InvalidArgument, match="nobody to hand it to"):
        await world.desk.submit(LEAD, decision.token, Judgement(Outcome.ESCALATED, comment="hm"))
    await world.desk.submit(LEAD, decision.token, Judgement(CONFIRMED))
    with pytest.raises(NotFound):
        await world.desk.claim(LEAD)


async def test_what_an_expert_hands_on_is_for_a_lead(topics: Topics) -> None:
    world = topics.replica()
    token = (await world.desk.claim(ANN)).token
    with pytest.raises(InvalidArgument, match="comment: say why it is escalated"):
        await world.desk.submit(ANN, token, Judgement(Outcome.ESCALATED))
    await world.desk.submit(ANN, token, Judgement(Outcome.ESCALATED, comment="beyond me"))
    with pytest.raises(NotFound):
        await world.desk.claim(BOB)
    assert (await world.desk.claim(LEAD)).kind is Kind.ADJUDICATION
    assert [action for _, action, _ in world.told] == ["claimed", "escalated", "claimed"]


# Undoing


async def test_a_label_that_is_taken_back_gives_its_item_again(topics: Topics) -> None:
    world = topics.replica()
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    again = await world.desk.undo(ANN)
    assert again.item.request_id == "r1"
    await world.desk.submit(ANN, again.token, Judgement(CORRECTED, WRONG))
    item = world.backlog.item("r1")
    assert item is not None
    assert [label.outcome for label in item.labels] == ["confirmed", "retracted", "corrected"]
    assert item.standing.label is not None
    assert item.standing.label.answer == WRONG


async def test_a_skip_can_be_taken_back(topics: Topics) -> None:
    world = topics.replica()
    await world.desk.skip(ANN, (await world.desk.claim(ANN)).token, "dull")
    assert (await world.desk.undo(ANN)).item.request_id == "r1"


async def test_what_is_old_or_was_taken_back_or_is_anothers_cannot_be_undone(topics: Topics) -> None:
    world = topics.replica()
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    with pytest.raises(NotFound, match="nothing to undo"):
        await world.desk.undo(BOB)
    topics.wait(601)
    with pytest.raises(NotFound, match="nothing to undo"):
        await world.desk.undo(ANN)


async def test_what_others_have_judged_since_cannot_be_undone(topics: Topics) -> None:
    world = topics.replica()
    topics.add("r0", overlap=True, value=0.9)
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    topics.wait(1)
    await world.desk.submit(BOB, (await world.desk.claim(BOB)).token, Judgement(CONFIRMED))
    with pytest.raises(FailedPrecondition, match="others have judged"):
        await world.desk.undo(ANN)


async def test_a_lead_may_ask_for_what_is_to_be_decided_alone(world: Replica) -> None:
    with pytest.raises(NotFound, match="nothing is to be decided"):
        await world.desk.claim(LEAD, to_decide=True)
    world.topics.add("r2", value=0.1)
    token = (await world.desk.claim(ANN)).token
    await world.desk.submit(ANN, token, Judgement(Outcome.ESCALATED, comment="two films fit"))
    world.topics.add("r3", value=0.9)
    assert (await world.desk.claim(LEAD, to_decide=True)).kind is Kind.ADJUDICATION
    with pytest.raises(NotFound):
        await world.desk.claim(BOB, to_decide=True)


async def test_a_label_says_which_guideline_its_expert_had_before_them(world: Replica) -> None:
    task = world.bundle.tasks[TASK]
    claimed = await world.desk.claim(ANN)
    assert claimed.guideline == task.guideline
    changed = {**world.bundle.tasks, TASK: task.model_copy(update={"guideline": "Do otherwise."})}
    world.bundle = world.bundle.model_copy(update={"tasks": changed})
    extended = await world.desk.extend(ANN, claimed.token)
    await world.desk.submit(ANN, extended.token, Judgement(CONFIRMED))
    world.topics.add("r2")
    await world.desk.submit(ANN, (await world.desk.claim(ANN)).token, Judgement(CONFIRMED))
    versions = [label.guideline_version for label in world.topics.labels]
    assert versions == [task.guideline_version, changed[TASK].guideline_version]
    assert len({*versions}) == 2


async def test_a_claim_that_is_on_record_too_late_is_handed_back_behind_it(
    world: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "PATIENCE_SECONDS", 0.01)
    world.behind = []
    with pytest.raises(Retryable, match="put on record"):
        await world.desk.claim(ANN)
    world.catch_up()
    assert [each.action for each in world.recorded] == ["claimed", "released"]
    assert (await world.desk.claim(BOB)).item.request_id == "r1"


async def test_a_claim_whose_caller_has_gone_is_handed_back(world: Replica) -> None:
    world.behind = []
    claiming = asyncio.create_task(world.desk.claim(ANN))
    await asyncio.sleep(0)
    claiming.cancel()
    with pytest.raises(asyncio.CancelledError):
        await claiming
    world.catch_up()
    assert (await world.desk.claim(BOB)).item.request_id == "r1"
