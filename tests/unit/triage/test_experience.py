import pytest

from schemas.events import Erasure, Message
from services.triage.experience import Experience
from tests.unit.triage.builders import NOW, TASK, TENANT, edge_case, experience, interaction, label


@pytest.fixture
def known() -> Experience:
    return experience()


def erasure(request_id: str, tenant: str = TENANT) -> Erasure:
    return Erasure(request_id=request_id, erasure_id="e", tenant=tenant, asked_at=NOW)


def test_a_label_is_learned_once_however_often_it_is_read(known: Experience) -> None:
    for _ in range(3):
        known.take_label(label(outcome="corrected"))
    assert known.known(interaction("new")).called_failed == 1


def test_who_skips_says_nothing(known: Experience) -> None:
    known.take_label(label(outcome="skipped"))
    assert known.known(interaction("new")).nearest is None


def test_another_task_and_another_tenant_know_nothing_of_it(known: Experience) -> None:
    known.take_label(label(outcome="corrected"))
    assert known.known(interaction("new", task="other")).nearest is None
    assert known.known(interaction("new", tenant="other")).nearest is None


@pytest.mark.parametrize("late", [False, True])
def test_what_was_erased_is_known_of_no_more_in_whichever_order_it_is_read(known: Experience, late: bool) -> None:
    events = [lambda: known.take_edge_case(edge_case()), lambda: known.take_label(label(outcome="corrected"))]
    for take in [*events, lambda: known.take_erasure(erasure("r1"))][:: -1 if late else 1]:
        take()
    assert known.known(interaction("new")).nearest is None


def test_what_repeats_another_is_that_one(known: Experience) -> None:
    known.take_edge_case(edge_case("r1"))
    known.take_edge_case(edge_case("r2", same_as="r1"))
    assert known.known(interaction("new")).same_as == "r1"


def test_the_same_last_turn_of_another_conversation_is_not_the_same_request(known: Experience) -> None:
    def said(first: str) -> tuple[Message, ...]:
        return (
            Message(role="user", content=first),
            Message(role="assistant", content="Shall I?"),
            Message(role="user", content="Yes"),
        )

    known.take_edge_case(edge_case("r1", messages=said("Book the table in Oslo")))
    other = interaction("r2", messages=said("Cancel my membership"), answer="{}")
    assert known.known(other).same_as is None
    assert known.known(interaction("r3", messages=said("book the table in oslo"))).same_as == "r1"


def test_how_long_an_item_takes_is_learned_and_a_break_counts_for_half_an_hour_at_most(known: Experience) -> None:
    assert known.seconds_per_item(TENANT, TASK) == 60
    for number in range(400):
        known.take_label(label(f"r{number}", seconds_spent=20.0))
    assert known.seconds_per_item(TENANT, TASK) == pytest.approx(20, abs=3)
    known.take_label(label("long", seconds_spent=86_400.0))
    assert known.seconds_per_item(TENANT, TASK) < 40
