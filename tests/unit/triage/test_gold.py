"""Questions whose answer is known, mixed in among those whose is not."""

from dataclasses import replace

import pytest

from schemas.events import Erasure, Sensitivity
from schemas.labels import Kind, Outcome
from services.runtime.errors import FailedPrecondition, NotFound
from services.triage.domain.access import Role
from services.triage.domain.labels import CONFIRMED, CORRECTED, Judgement
from tests.unit.triage.builders import CALL, NOW, TENANT, bundle, label, person
from tests.unit.triage.fakes import Replica, Topics

ANN, BOB, CID = person("ann"), person("bob"), person("cid")
LEAD = person("lea", role=Role.LEAD)
WRONG = CALL.replace("Alien", "Aliens")


@pytest.fixture
def topics() -> Topics:
    """One item on which ann and bob agreed, and one that nobody has judged."""
    topics = Topics()
    topics.add("known", overlap=True)
    topics.append(label("known", label_id="k1", expert="ann", answer=CALL))
    topics.append(label("known", label_id="k2", expert="bob", answer=CALL, kind="overlap"))
    topics.add("open")
    return topics


@pytest.fixture
def always(topics: Topics) -> Replica:
    """A desk that mixes one in whenever it can."""
    return _mixing(topics.replica())


def _mixing(replica: Replica, gold: float = 1.0) -> Replica:
    replica.bundle = bundle(gold=gold)
    return replica


async def test_an_expert_is_asked_what_is_known_in_place_of_the_next_which_stays_open(always: Replica) -> None:
    claimed = await always.desk.claim(CID)
    assert (claimed.item.request_id, claimed.kind, claimed.labels) == ("known", Kind.GOLD, ())
    (seen,) = always.desk.stats(CID)
    assert (seen.open, seen.leased) == (0, 1)  # as if it were the next
    assert (await always.desk.claim(BOB)).item.request_id == "open"


async def test_the_answer_says_something_of_the_expert_and_nothing_of_the_item(always: Replica) -> None:
    claimed = await always.desk.claim(CID)
    await always.desk.submit(CID, claimed.token, Judgement(CORRECTED, WRONG))
    made = always.topics.labels[-1]
    assert (made.kind, made.outcome, made.answer) == (Kind.GOLD, "corrected", WRONG)
    item = always.backlog.item("known")
    assert item is not None
    assert item.standing.state == "agreed"


async def test_nobody_is_asked_what_they_have_judged_or_were_asked_already(always: Replica) -> None:
    for judge in (ANN, BOB):
        claimed = await always.desk.claim(judge)
        assert claimed.item.request_id == "open"
        await always.desk.release(judge, claimed.token)
    await always.desk.submit(CID, (await always.desk.claim(CID)).token, Judgement(CONFIRMED))
    assert (await always.desk.claim(CID)).item.request_id == "open"


async def test_what_is_above_the_clearance_is_no_gold_either(topics: Topics) -> None:
    topics.add("secret", overlap=True, sensitivity=Sensitivity.RESTRICTED)
    for number, judge in enumerate(("dan", "eve")):
        topics.append(label("secret", label_id=f"s{number}", expert=judge, answer=CALL))
    replica = _mixing(topics.replica())
    seen = {(await replica.desk.claim(CID)).item.request_id for _ in range(2)}
    assert seen == {"known", "open"}


async def test_what_one_expert_alone_said_or_others_dispute_is_no_gold() -> None:
    topics = Topics()
    topics.add("once")
    topics.append(label("once", expert="ann", answer=CALL))
    topics.add("disputed", overlap=True)
    topics.append(label("disputed", label_id="d1", expert="ann", answer=CALL))
    topics.append(label("disputed", label_id="d2", expert="bob", outcome="corrected", answer=WRONG))
    topics.add("open")
    replica = _mixing(topics.replica())
    assert (await replica.desk.claim(CID)).item.request_id == "open"
    with pytest.raises(NotFound):
        await replica.desk.claim(CID)


async def test_what_a_lead_has_decided_is_gold_for_all_others(topics: Topics) -> None:
    topics.append(label("open", label_id="o1", expert="lea", kind="adjudication", answer=CALL))
    topics.append(Erasure(request_id="known", erasure_id="e", tenant=TENANT, asked_at=NOW))
    topics.add("next")
    replica = _mixing(topics.replica())
    assert (await replica.desk.claim(BOB)).item.request_id == "open"
    assert (await replica.desk.claim(LEAD)).item.request_id == "next"


async def test_it_is_mixed_in_as_often_as_the_bundle_says(topics: Topics) -> None:
    replica = _mixing(topics.replica(), gold=0.25)
    for chance, request_id in ((0.24, "known"), (0.25, "open")):
        replica.desk = replace(replica.desk, clock=replace(replica.clock, chance=lambda chance=chance: chance))
        claimed = await replica.desk.claim(CID)
        assert claimed.item.request_id == request_id
        await replica.desk.release(CID, claimed.token)


async def test_nothing_is_asked_where_nothing_is_open(topics: Topics) -> None:
    topics.append(Erasure(request_id="open", erasure_id="e", tenant=TENANT, asked_at=NOW))
    with pytest.raises(NotFound, match="nothing is open"):
        await _mixing(topics.replica()).desk.claim(CID)


async def test_the_page_can_be_loaded_again_and_the_answer_taken_back(always: Replica) -> None:
    claimed = await always.desk.claim(CID)
    assert always.desk.held(CID, "known").kind is Kind.GOLD
    await always.desk.submit(CID, claimed.token, Judgement(CONFIRMED))
    again = await always.desk.undo(CID)
    assert (again.item.request_id, again.kind) == ("known", Kind.GOLD)
    await always.desk.submit(CID, again.token, Judgement(CORRECTED, WRONG))
    assert [(each.kind, each.outcome) for each in always.topics.labels[2:]] == [
        (Kind.GOLD, Outcome.CONFIRMED),
        (Kind.GOLD, Outcome.RETRACTED),
        (Kind.GOLD, Outcome.CORRECTED),
    ]


async def test_others_asked_the_same_meanwhile_do_not_keep_an_expert_from_taking_back_their_judgement(
    topics: Topics,
) -> None:
    replica = topics.replica()
    topics.add("more", overlap=True)
    await replica.desk.submit(CID, (await replica.desk.claim(CID)).token, Judgement(CONFIRMED))
    said = topics.labels[-1]
    topics.append(label(said.request_id, label_id="g", expert="dan", kind="gold", labelled_at=NOW.replace(year=2027)))
    assert (await replica.desk.undo(CID)).item.request_id == said.request_id


async def test_a_lease_writes_one_label_whatever_its_item_has_become(always: Replica) -> None:
    claimed = await always.desk.claim(CID)
    await always.desk.submit(CID, claimed.token, Judgement(CONFIRMED))
    with pytest.raises(FailedPrecondition, match="done already"):
        await always.desk.submit(CID, claimed.token, Judgement(CORRECTED, WRONG))
    assert len(always.topics.labels) == 3


async def test_what_was_erased_is_asked_no_more(topics: Topics) -> None:
    replica = _mixing(topics.replica())
    topics.append(Erasure(request_id="known", erasure_id="e", tenant=TENANT, asked_at=NOW))
    assert (await replica.desk.claim(CID)).item.request_id == "open"


async def test_each_replica_knows_who_was_asked(topics: Topics) -> None:
    one, other = _mixing(topics.replica("a")), _mixing(topics.replica("b"))
    claimed = await one.desk.claim(CID)
    assert (await other.desk.claim(person("dan"))).item.request_id == "open"  # cid holds the only known one
    await one.desk.submit(CID, claimed.token, Judgement(CONFIRMED))
    with pytest.raises(NotFound):
        await other.desk.claim(CID)


async def test_who_holds_what_becomes_a_dispute_meanwhile_neither_sees_nor_decides_it(always: Replica) -> None:
    claimed = await always.desk.claim(CID)
    always.topics.append(label("known", label_id="k3", expert="eve", outcome="unsafe", kind="imported"))
    item = always.backlog.item("known")
    assert item is not None
    assert item.askable is Kind.ADJUDICATION
    with pytest.raises(NotFound, match="you do not hold this item"):
        always.desk.held(CID, "known")
    with pytest.raises(FailedPrecondition, match="others have judged the item since"):
        await always.desk.submit(CID, claimed.token, Judgement(CORRECTED, WRONG))
    assert len(always.topics.labels) == 3


async def test_what_was_labelled_elsewhere_is_no_gold(topics: Topics) -> None:
    topics.append(Erasure(request_id="known", erasure_id="e", tenant=TENANT, asked_at=NOW))
    topics.add("elsewhere", imported=True)
    for expert in ("dan", "eve"):
        topics.append(label("elsewhere", label_id=f"l {expert}", expert=expert, answer=CALL, kind="imported"))
    assert (await _mixing(topics.replica()).desk.claim(CID)).item.request_id == "open"


async def test_who_finds_that_what_is_settled_is_wrong_is_heard_by_a_lead(always: Replica) -> None:
    claimed = await always.desk.claim(CID)
    await always.desk.submit(CID, claimed.token, Judgement(Outcome.ESCALATED, comment="it is another film"))
    assert always.desk.to_decide(LEAD) == 1
    decided = await always.desk.claim(LEAD, to_decide=True)
    assert {each.comment for each in decided.labels} == {"", "it is another film"}


def test_what_is_asked_again_and_again_takes_no_room(topics: Topics) -> None:
    replica = topics.replica()
    for number in range(50):
        topics.add(f"again {number}", same_as="known")
    assert sum(len(pile.heap) for pile in replica.backlog._queue._piles.values()) < 10
