import pytest

from schemas.codecs import codec
from schemas.events import Citation, Finding, Sensitivity
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Rejected
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.handlers import consider, reconsider
from tests.unit.triage.builders import NOW, bundle, feedback, interaction

ALL, NONE = bundle(share=1.0), bundle(share=0.0)
CLOCK = Clock(now=lambda: NOW, new_id=lambda: "l1", chance=lambda: 0.5)
NEW = Remembered(partition=2)


def _record(request_id: str = "r1") -> bytes:
    return codec(Topic.INTERACTIONS).encode(interaction(request_id))


def test_a_picked_interaction_becomes_an_edge_case_with_its_propensity() -> None:
    considered = consider(interaction(), _record(), NEW, Selector(), ALL, CLOCK)
    assert considered is not None
    assert considered.edge_case is not None
    assert (considered.edge_case.request_id, considered.edge_case.propensity) == ("r1", 1.0)
    assert considered.remembered == Remembered(partition=2, decided=True, flagged=True)


def test_an_edge_case_says_what_the_model_was_given_and_what_was_found_in_its_answer() -> None:
    cited = Citation(document_id="d1", sensitivity=Sensitivity.INTERNAL, tokens=40, score=0.7)
    findings = (
        Finding(direction="input", kind="email", action="mask", start=0, end=3),
        Finding(direction="output", kind="email", action="mask", start=4, end=19),
    )
    asked = interaction(answer="Ask <EMAIL_1>.", findings=findings, citations=(cited,), memory_turns=2)
    considered = consider(asked, _record(), NEW, Selector(), ALL, CLOCK)
    assert considered is not None
    assert considered.edge_case is not None
    assert (considered.edge_case.citations, considered.edge_case.memory_turns) == ((cited,), 2)
    assert [(each.kind, each.start, each.end) for each in considered.edge_case.findings] == [("email", 4, 13)]


def test_an_interaction_is_decided_about_once() -> None:
    known = Remembered(partition=2, decided=True)
    assert consider(interaction(), _record(), known, Selector(), ALL, CLOCK) is None


def test_an_interaction_of_an_unknown_tenant_has_no_budget() -> None:
    with pytest.raises(Rejected, match="tenant: 'nobody' is not in bundle"):
        consider(interaction(tenant="nobody"), _record(), NEW, Selector(), ALL, CLOCK)


def test_late_feedback_brings_up_what_was_not_picked_once() -> None:
    first = consider(interaction(), _record(), NEW, Selector(), NONE, CLOCK)
    assert first is not None
    assert first.edge_case is None
    assert first.selector is not None
    second = reconsider(feedback(), first.remembered, first.selector, ALL, CLOCK)
    assert second is not None
    assert second.edge_case is not None
    assert [signal.name for signal in second.edge_case.signals] == ["rated"]
    assert reconsider(feedback(), second.remembered, Selector(), ALL, CLOCK) is None
    third = reconsider(feedback(feedback_id="f2"), second.remembered, Selector(), ALL, CLOCK)
    assert third is not None
    assert third.edge_case is None


def test_feedback_that_comes_first_waits_for_its_interaction() -> None:
    early = reconsider(feedback(), NEW, Selector(), ALL, CLOCK)
    assert early is not None
    assert early.edge_case is None
    then = consider(interaction(), _record(), early.remembered, Selector(), ALL, CLOCK)
    assert then is not None
    assert then.edge_case is not None
    assert [signal.name for signal in then.edge_case.signals] == ["rated"]


@pytest.mark.parametrize("decided", [False, True])
def test_of_a_request_that_was_erased_nothing_is_decided_and_nothing_kept(decided: bool) -> None:
    known = Remembered(partition=2, decided=decided, flagged=decided, erased=True)
    assert consider(interaction(), _record(), known, Selector(), ALL, CLOCK) is None
    assert reconsider(feedback(), known, Selector(), ALL, CLOCK) is None


def test_another_tenant_has_no_say() -> None:
    known = Remembered(partition=2, decided=True, interaction=_record())
    with pytest.raises(Rejected, match="has no say"):
        reconsider(feedback(tenant="other"), known, Selector(), ALL, CLOCK)
    early = reconsider(feedback(tenant="other"), NEW, Selector(), ALL, CLOCK)
    assert early is not None
    then = consider(interaction(), _record(), early.remembered, Selector(), ALL, CLOCK)
    assert then is not None
    assert then.edge_case is not None
    assert then.edge_case.signals == ()
