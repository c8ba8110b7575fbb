"""What the labels of a request come to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.events import Label, Sensitivity
from schemas.labels import JUDGEMENTS, Kind, Outcome, Standing, State, standing

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def label(expert: str = "ana", **changes: Any) -> Label:
    fields: dict[str, Any] = {
        "label_id": f"label-{expert}",
        "request_id": "request-1",
        "tenant": "customer-care",
        "task": "consumer-services",
        "expert": expert,
        "labelled_at": NOW,
        "outcome": "corrected",
        "answer": "It has shipped.",
        "sensitivity": Sensitivity.INTERNAL,
        "bundle_version": "b1",
    }
    return Label(**{**fields, **changes})


def later(minutes: int) -> datetime:
    return NOW + timedelta(minutes=minutes)


def retraction(of: Label, **changes: Any) -> Label:
    return replace(of, **{"outcome": "retracted", "answer": "", "labelled_at": later(60), **changes})


ANA, BO = label("ana"), label("bo", labelled_at=later(1), kind="overlap")


def test_a_record_of_before_there_were_kinds_is_a_first_judgement() -> None:
    assert label().kind == Kind.FIRST


def test_without_labels_a_request_is_open() -> None:
    assert standing([]) == Standing(State.OPEN, None, ())


@pytest.mark.parametrize("nothing", [{"outcome": "skipped"}, {"kind": "gold"}])
def test_what_was_skipped_and_gold_questions_count_for_nothing(nothing: dict[str, Any]) -> None:
    assert standing([label("ana", **nothing)]).state is State.OPEN
    assert standing([label("ana", **nothing), BO]) == Standing(State.PROVISIONAL, BO, ("bo",))


def test_one_judgement_is_provisional() -> None:
    assert standing([ANA]) == Standing(State.PROVISIONAL, ANA, ("ana",))


def test_two_experts_with_the_same_answer_agree_and_the_first_label_counts() -> None:
    bo = replace(BO, answer=" it HAS  shipped.")
    assert standing([ANA, bo]) == Standing(State.AGREED, ANA, ("ana", "bo"))


def test_calls_agree_by_value() -> None:
    ana = replace(ANA, answer='{"name": "track", "arguments": {"order": 7, "city": "Rome"}}')
    bo = replace(BO, answer='{"name": "track", "arguments": {"city": "rome", "order": 7.0}}')
    assert standing([ana, bo]).state is State.AGREED
    assert standing([ana, replace(bo, answer=bo.answer.replace("7", "8"))]).state is State.DISPUTED


@pytest.mark.parametrize("change", [{"answer": "It is lost."}, {"outcome": "unsafe", "answer": ""}])
def test_two_experts_who_differ_dispute_and_no_label_counts(change: dict[str, Any]) -> None:
    assert standing([ANA, replace(BO, **change)]) == Standing(State.DISPUTED, None, ("ana", "bo"))


def test_of_one_expert_the_newest_label_counts_and_makes_no_second_opinion() -> None:
    again = label("ana", label_id="label-2", labelled_at=later(5), answer="It is lost.")
    assert standing([ANA, again]) == Standing(State.PROVISIONAL, again, ("ana",))


def test_the_newest_adjudication_counts_whatever_others_say() -> None:
    first, second = (
        label("lea", label_id=f"decision-{n}", kind="adjudication", labelled_at=later(n), answer=f"It is in {n} days.")
        for n in (2, 3)
    )
    cy = label("cy", outcome="escalated", answer="", labelled_at=later(9))
    assert standing([ANA, replace(BO, answer="It is lost."), cy, first, second]) == Standing(
        State.ADJUDICATED, second, ("ana", "bo", "cy", "lea")
    )


def test_what_was_handed_to_a_lead_waits_for_the_decision() -> None:
    handed = label("bo", outcome="escalated", answer="")
    assert standing([ANA, handed]) == Standing(State.ESCALATED, None, ("ana", "bo"))
    decided_himself = replace(BO, label_id="label-2")
    assert standing([ANA, handed, decided_himself]).state is State.AGREED


def test_a_label_that_was_taken_back_was_never_there() -> None:
    assert standing([ANA, retraction(ANA)]).state is State.OPEN
    assert standing([ANA, replace(BO, answer="It is lost."), retraction(BO)]) == Standing(
        State.PROVISIONAL, ANA, ("ana",)
    )
    decision = label("lea", kind="adjudication", labelled_at=later(2), outcome="unsafe", answer="")
    assert standing([ANA, BO, decision]).label == decision
    assert standing([ANA, BO, decision, retraction(decision)]).state is State.AGREED


def test_it_does_not_matter_who_takes_a_label_back_and_what_else_the_record_says() -> None:
    assert standing([ANA, retraction(ANA, expert="lea", kind="adjudication")]).state is State.OPEN


LABELS = st.builds(
    label,
    st.sampled_from(["ana", "bo", "cy"]),
    label_id=st.sampled_from(["l1", "l2", "l3", "l4"]),
    labelled_at=st.integers(0, 3).map(later),
    outcome=st.sampled_from(list(Outcome)),
    kind=st.sampled_from(list(Kind)),
    answer=st.sampled_from(["", "yes", " YES", "no", '{"name": "f", "arguments": {"x": 1}}']),
)


@given(st.lists(LABELS, max_size=8).flatmap(lambda each: st.tuples(st.just(each), st.permutations(each + each[:3]))))
def test_neither_order_nor_repetition_matters(both: tuple[list[Label], list[Label]]) -> None:
    once, repeated = both
    assert standing(once) == standing(repeated)


@given(st.lists(LABELS, max_size=8), st.integers(0, 3).map(later))
def test_when_a_label_is_taken_back_the_rest_say_what_they_said_without_it(labels: list[Label], at: datetime) -> None:
    back = label(label_id="l1", outcome="retracted", labelled_at=at)
    assert standing([*labels, back]) == standing([each for each in labels if each.label_id != "l1"])


@given(st.lists(LABELS, max_size=8))
def test_a_label_that_counts_is_a_judgement_that_was_not_taken_back(labels: list[Label]) -> None:
    said = standing(labels)
    back = {each.label_id for each in labels if each.outcome == "retracted"}
    counts_for_something = said.state in (State.PROVISIONAL, State.AGREED, State.ADJUDICATED)
    assert (said.label is not None) is counts_for_something
    if said.label is not None:
        assert said.label in labels
        assert said.label.outcome in JUDGEMENTS
        assert said.label.kind != "gold"
        assert said.label.label_id not in back
        assert said.label.expert in said.experts
