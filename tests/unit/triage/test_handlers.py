import random

import pytest

from schemas.bundle import Experts
from schemas.codecs import codec
from schemas.events import EdgeCase, Message
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Rejected
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.experience import Experience
from services.triage.handlers import Picker
from tests.unit.triage.builders import CALL, NOW, TASK, bundle, edge_case, experience, feedback, interaction, label

ALL, NONE = bundle(share=1.0), bundle(share=0.0)
CLOCK = Clock(now=lambda: NOW, new_id=lambda: "l1", chance=lambda: 0.5)
NEW = Remembered(partition=2)


@pytest.fixture
def known() -> Experience:
    return experience()


@pytest.fixture
def picker(known: Experience) -> Picker:
    return Picker(known, CLOCK, partitions=1)


def _record(request_id: str = "r1") -> bytes:
    return codec(Topic.INTERACTIONS).encode(interaction(request_id))


def test_a_picked_interaction_becomes_an_edge_case_with_its_propensity(picker: Picker) -> None:
    considered = picker.consider(interaction(), _record(), NEW, Selector(), ALL)
    assert considered is not None
    assert considered.edge_case is not None
    assert (considered.edge_case.request_id, considered.edge_case.propensity) == ("r1", 1.0)
    assert considered.remembered == Remembered(partition=2, decided=True, flagged=True)


def test_an_interaction_is_decided_about_once(picker: Picker) -> None:
    known = Remembered(partition=2, decided=True)
    assert picker.consider(interaction(), _record(), known, Selector(), ALL) is None


def test_an_interaction_of_an_unknown_tenant_has_no_budget(picker: Picker) -> None:
    with pytest.raises(Rejected, match="tenant: 'nobody' is not in bundle"):
        picker.consider(interaction(tenant="nobody"), _record(), NEW, Selector(), ALL)


def test_late_feedback_brings_up_what_was_not_picked_once(picker: Picker) -> None:
    first = picker.consider(interaction(), _record(), NEW, Selector(), NONE)
    assert first is not None
    assert first.edge_case is None
    assert first.selector is not None
    second = picker.reconsider(feedback(), first.remembered, first.selector, ALL)
    assert second is not None
    assert second.edge_case is not None
    assert "rated" in [signal.name for signal in second.edge_case.signals]
    assert picker.reconsider(feedback(), second.remembered, Selector(), ALL) is None
    third = picker.reconsider(feedback(feedback_id="f2"), second.remembered, Selector(), ALL)
    assert third is not None
    assert third.edge_case is None


def test_feedback_that_comes_first_waits_for_its_interaction(picker: Picker) -> None:
    early = picker.reconsider(feedback(), NEW, Selector(), ALL)
    assert early is not None
    assert early.edge_case is None
    then = picker.consider(interaction(), _record(), early.remembered, Selector(), ALL)
    assert then is not None
    assert then.edge_case is not None
    assert "rated" in [signal.name for signal in then.edge_case.signals]


@pytest.mark.parametrize("decided", [False, True])
def test_of_a_request_that_was_erased_nothing_is_decided_and_nothing_kept(picker: Picker, decided: bool) -> None:
    known = Remembered(partition=2, decided=decided, flagged=decided, erased=True)
    assert picker.consider(interaction(), _record(), known, Selector(), ALL) is None
    assert picker.reconsider(feedback(), known, Selector(), ALL) is None


def test_another_tenant_has_no_say(picker: Picker) -> None:
    known = Remembered(partition=2, decided=True, interaction=_record())
    with pytest.raises(Rejected, match="has no say"):
        picker.reconsider(feedback(tenant="other"), known, Selector(), ALL)
    early = picker.reconsider(feedback(tenant="other"), NEW, Selector(), ALL)
    assert early is not None
    then = picker.consider(interaction(), _record(), early.remembered, Selector(), ALL)
    assert then is not None
    assert then.edge_case is not None
    assert then.edge_case.signals == ()


def test_what_experts_are_asked_already_is_not_asked_again_and_costs_nothing(picker: Picker, known: Experience) -> None:
    known.take_edge_case(edge_case("r0"))
    considered = picker.consider(interaction(), _record(), NEW, Selector(), ALL)
    assert considered is not None
    assert considered.edge_case is not None
    assert considered.edge_case.same_as == "r0"
    assert considered.selector is not None
    assert (considered.selector.seen, considered.selector.flagged) == (1, 0)


def test_an_answer_like_those_that_failed_comes_before_one_like_those_that_were_right(
    picker: Picker, known: Experience
) -> None:
    for number in range(6):
        question, wrong = ("book a table", "corrected") if number % 2 else ("play a song", "confirmed")
        answer = f'{{"name": "{question}", "arguments": {{}}}}'
        known.take_label(label(f"r{number}", question=f"{question} {number}", outcome=wrong, model_answer=answer))

    def asked(question: str) -> EdgeCase:
        answer = f'{{"name": "{question}", "arguments": {{}}}}'
        new = interaction("new", messages=(Message(role="user", content=f"{question} for ten"),), answer=answer)
        considered = picker.consider(new, _record(), NEW, Selector(), ALL)
        assert considered is not None
        assert considered.edge_case is not None
        return considered.edge_case

    failing, sound = asked("book a table"), asked("play a song")
    assert failing.score > sound.score
    assert failing.value > sound.value
    (said,) = [signal.explanation for signal in failing.signals if signal.name == "called"]
    assert said == "Of 3 answers that call the same function, 3 were wrong."


def test_a_task_s_budget_takes_the_place_of_its_tenant_s(picker: Picker) -> None:
    tasks = {TASK: ALL.tasks[TASK].model_copy(update={"experts": Experts(share=0.0)})}
    considered = picker.consider(interaction(), _record(), NEW, Selector(), ALL.model_copy(update={"tasks": tasks}))
    assert considered is not None
    assert considered.edge_case is None


def test_minutes_a_day_become_items_by_how_long_experts_take(known: Experience) -> None:
    for number in range(200):
        known.take_label(label(f"r{number}", seconds_spent=120.0))
    picker, wanted = Picker(known, CLOCK, partitions=4), bundle(share=1.0, minutes_per_day=60)
    budget = picker._budget(wanted, interaction())
    # Half an hour of two minutes each, over four partitions.
    assert budget.per_second == pytest.approx(30 / 4 / 86400, rel=0.05)


def test_a_flood_of_one_kind_does_not_take_all_of_the_experts_time(known: Experience) -> None:
    source = random.Random(3)
    clock = Clock(now=lambda: NOW, chance=source.random)
    picker, selector, picked = Picker(known, clock, partitions=1), Selector(), []
    some = bundle(share=0.2, exploration=0.0)
    for number in range(900):
        flood = source.random() < 0.5
        text = (
            f"where is my parcel number p{number} today" if flood else " ".join(f"w{source.random()}" for _ in range(4))
        )
        asked = interaction(
            f"r{number}",
            messages=(Message(role="user", content=text),),
            answer="I cannot" if flood else CALL,  # no call, where one is wanted
        )
        considered = picker.consider(asked, b"", NEW, selector, some)
        assert considered is not None
        assert considered.selector is not None
        selector = considered.selector
        if considered.edge_case is not None:
            known.take_edge_case(considered.edge_case)
            picked.append(flood)
    assert len(picked) == pytest.approx(180, abs=10)
    assert 0.1 < sum(picked[-100:]) / 100 < 0.3
