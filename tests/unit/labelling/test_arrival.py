"""What of a file is new here, and what it becomes."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gyre.labelling.arrival import BATCH, Arrival, Customs, Refused
from gyre.labelling.form import GivenLabel, InvalidItemError, LabelledRequest
from gyre.labelling.record import Known
from schemas.bundle import load_bundle
from schemas.events import Sensitivity
from schemas.labels import State, standing
from tests.unit.labelling.builders import CALL, NOW, TASK, TENANT, TRACK, a_label, a_request

BUNDLE = load_bundle(Path("deploy/bundle"))
LATER = NOW + timedelta(days=1)
CASE = Known(TENANT, TASK, Sensitivity.INTERNAL, is_case=True)


class FakeRecord:
    """A record that is told what it knows; it remembers how much it was asked at once."""

    def __init__(self) -> None:
        self.knows: dict[str, Known] = {}
        self.asked: list[int] = []

    def known(self, request_ids: Sequence[str]) -> dict[str, Known]:
        self.asked.append(len(request_ids))
        return {each: self.knows.get(each, Known()) for each in request_ids}


@pytest.fixture
def record() -> FakeRecord:
    return FakeRecord()


def looked_at(record: FakeRecord, *items: LabelledRequest | InvalidItemError) -> list[Arrival | Refused]:
    places = ((f"line {number}", item) for number, item in enumerate(items, 1))
    return list(Customs(record, BUNDLE, LATER).arrivals(places))


def arrival(record: FakeRecord, request: LabelledRequest) -> Arrival:
    (found,) = looked_at(record, request)
    assert isinstance(found, Arrival)
    return found


def refusal(record: FakeRecord, **changes: Any) -> tuple[str, ...]:
    (found,) = looked_at(record, a_request(**changes))
    assert isinstance(found, Refused)
    return found.problems


def test_a_request_that_nobody_knows_comes_with_what_the_trainer_wants_of_it(record: FakeRecord) -> None:
    request = a_request()
    found = arrival(record, request)
    (label,) = found.labels
    assert found.edge_case is not None
    assert found.edge_case.imported
    assert (found.edge_case.propensity, found.edge_case.explored) == (0.0, False)
    assert [message.role for message in found.edge_case.messages] == ["system", "user", "assistant", "tool"]
    assert found.edge_case.messages[2].tool_calls[0].name == "track"
    assert found.edge_case.tools[0].parameters == TRACK["parameters"]
    assert (found.edge_case.answer, found.edge_case.model) == ("I do not know.", "small")
    assert label.request_id == found.edge_case.request_id == "request-1"
    assert label.label_id == request.label_id(request.labels[0])
    assert (label.kind, label.outcome, label.answer, label.expert) == ("imported", "corrected", CALL, "ana@example.com")
    assert (label.labelled_at, label.seconds_spent, label.guideline_version) == (NOW, 12.5, "g2")
    assert label.model_answer == "I do not know."
    assert 0 < label.distance <= 1
    assert label.bundle_version == found.edge_case.bundle_version == BUNDLE.version
    assert standing([label]).state is State.PROVISIONAL


def test_a_label_that_says_no_time_has_that_of_its_import_and_is_the_same_when_it_comes_again(
    record: FakeRecord,
) -> None:
    request = a_request(labels=[a_label(labelled_at=None)])
    (label,) = arrival(record, request).labels
    assert label.labelled_at == LATER
    (again,) = Customs(record, BUNDLE, LATER + timedelta(days=1)).arrivals([("line 1", request)])
    assert isinstance(again, Arrival)
    assert again.labels[0].label_id == label.label_id
    assert standing([label, *again.labels]).state is State.PROVISIONAL


def test_of_an_edge_case_that_is_there_only_labels_come(record: FakeRecord) -> None:
    record.knows["request-1"] = CASE
    found = arrival(record, a_request())
    assert found.edge_case is None
    assert len(found.labels) == 1
    # An interaction that no expert was asked about is none that the trainer knows.
    record.knows["request-1"] = replace(CASE, is_case=False)
    assert arrival(record, a_request()).edge_case is not None


def test_a_label_that_is_on_record_is_left_alone_whatever_its_id(record: FakeRecord) -> None:
    request = a_request(labels=[a_label(), a_label(expert="bo", labelled_at=None)])
    record.knows["request-1"] = replace(
        CASE,
        labels=(
            GivenLabel.model_validate(a_label(label_id="0197-original")),
            GivenLabel.model_validate(a_label(expert="bo", label_id="another")),
        ),
    )
    found = arrival(record, request)
    assert (found.labels, found.known) == ((), 2)
    other_words = arrival(record, a_request(labels=[a_label(comment="other")]))
    assert (len(other_words.labels), other_words.known) == (1, 0)


def test_what_a_file_says_twice_is_imported_once(record: FakeRecord) -> None:
    once, again = looked_at(record, a_request(labels=[a_label(), a_label()]), a_request())
    assert isinstance(once, Arrival)
    assert isinstance(again, Arrival)
    assert (len(once.labels), once.known) == (1, 1)
    assert (again.labels, again.edge_case, again.known) == ((), None, 1)


def test_where_a_lead_has_decided_the_decision_alone_comes(record: FakeRecord) -> None:
    decision = a_label(expert="lea", kind="adjudication", outcome="unsafe", answer="")
    older = {**decision, "labelled_at": (NOW - timedelta(days=1)).isoformat(), "comment": "older"}
    found = arrival(record, a_request(labels=[a_label(), decision, older, a_label(expert="bo")]))
    (label,) = found.labels
    assert (label.expert, label.outcome, label.kind, label.comment) == (
        "lea",
        "unsafe",
        "imported",
        decision["comment"],
    )
    assert found.settled == 3


def test_it_is_as_sensitive_as_the_higher_of_file_and_record(record: FakeRecord) -> None:
    for on_record, in_file in (("restricted", "public"), ("public", "restricted")):
        record.knows["request-1"] = replace(CASE, sensitivity=Sensitivity(on_record), is_case=False)
        found = arrival(record, a_request(sensitivity=in_file))
        assert found.edge_case is not None
        assert found.edge_case.sensitivity == found.labels[0].sensitivity == "restricted"


def test_what_contradicts_bundle_or_record_is_refused_by_the_field(record: FakeRecord) -> None:
    assert refusal(record, task="cooking") == (f"task: customer-care/cooking is not in bundle {BUNDLE.version}",)
    assert refusal(record, tenant="nobody") == (f"task: nobody/{TASK} is not in bundle {BUNDLE.version}",)
    assert refusal(record, labels=[a_label(), a_label(answer="Rome")]) == (
        "labels[1].answer: wanted a call of one of the request's tools; not JSON: Expecting value: line 1 column 1 "
        "(char 0)",
    )
    assert refusal(record, labels=[a_label(answer=CALL.replace("track", "find"))]) == (
        "labels[0].answer: wanted a call of one of the request's tools; 'find' is not one of the tools: track",
    )
    record.knows["request-1"] = replace(CASE, task="other")
    assert refusal(record) == ("request_id: request-1 is on record as customer-care/other's",)
    record.knows["request-1"] = Known(erased=True)
    assert refusal(record) == ("request_id: request-1 was erased, and is not to come back",)
    record.knows.clear()
    (problem,) = refusal(record, answer="x" * 5_000_000)
    assert problem.startswith("wanted at most 4194304 bytes, got 500")


def test_what_could_not_be_read_is_refused_and_the_rest_goes_on(record: FakeRecord) -> None:
    refused, come = looked_at(record, InvalidItemError(["tenant: wanted", "task: wanted"]), a_request())
    assert refused == Refused("line 1", ("tenant: wanted", "task: wanted"))
    assert isinstance(come, Arrival)
    assert come.place == "line 2"


def test_the_record_is_asked_of_many_requests_at_once(record: FakeRecord) -> None:
    found = looked_at(record, *(a_request(request_id=f"request-{n}") for n in range(BATCH + 1)))
    assert len(found) == BATCH + 1
    assert record.asked == [BATCH, 1]
