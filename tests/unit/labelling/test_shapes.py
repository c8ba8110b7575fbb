"""What goes out in a shape comes back the same, and what is wrong with a file is named."""

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyre.labelling.form import GivenLabel, InvalidItemError, LabelledRequest
from gyre.labelling.shapes import SHAPES, Shape, read, write
from tests.unit.labelling.builders import CALL, DEFAULTS, NOW, a_label, a_request

ALL = pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))


def reread(shape: Shape, *requests: LabelledRequest) -> list[Any]:
    file = io.BytesIO(b"".join(write(shape, requests)))
    return [item for _, item in read(shape, file, DEFAULTS)]


def problems(shape: str, document: Any, **defaults: str) -> list[tuple[str, list[str]]]:
    """Where in a file of one document, or of the bytes that are given, something is wrong, and what."""
    if not isinstance(document, bytes):
        document = json.dumps(document if SHAPES[shape].LINES else [document]).encode()
    found = read(SHAPES[shape], io.BytesIO(document), defaults)
    return [(place, item.problems) for place, item in found if isinstance(item, InvalidItemError)]


@ALL
def test_a_request_comes_back_as_it_went(shape: Shape) -> None:
    several = a_request(
        request_id="request-2",
        labels=[
            a_label(expert="bo", outcome="confirmed", answer="I do not know.", comment=""),
            a_label(expert="cy", outcome="unsafe", answer="", label_id="l2"),
            a_label(expert="cy", outcome="escalated", answer="", label_id="l3", comment="Ask Lea"),
            a_label(expert="lea", kind="adjudication", label_id="l4", seconds_spent=0.0),
        ],
    )
    assert reread(shape, a_request(), several) == [a_request(), several]


@ALL
def test_a_file_of_nothing_comes_back_as_nothing(shape: Shape) -> None:
    assert reread(shape) == []


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LABELS = st.builds(
    lambda outcome, answer, **changes: a_label(
        outcome=outcome, answer="" if outcome in ("unsafe", "escalated") else answer or "?", **changes
    ),
    outcome=st.sampled_from(["confirmed", "corrected", "unsafe", "escalated"]),
    answer=TEXT.filter(lambda text: bool(text.strip())),
    expert=st.sampled_from(["ana@example.com", "bo", "cy"]),
    comment=TEXT,
    kind=st.sampled_from(["first", "overlap", "adjudication", "imported"]),
)


@ALL
@given(
    labels=st.lists(LABELS, min_size=1, max_size=4),
    turns=st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=3),
    model=st.sampled_from(["", "small"]),
)
def test_whatever_it_holds_comes_back(
    shape: Shape, labels: list[dict[str, Any]], turns: list[tuple[str, str]], model: str
) -> None:
    messages = [{"role": role, "content": content} for role, content in (*turns, ("user", "Where?"))]
    request = a_request(answer="", model=model, messages=messages, labels=labels)
    (again,) = reread(shape, request)
    assert again == request


def test_lines_that_are_empty_are_passed_over_and_places_are_those_of_the_file() -> None:
    line = json.dumps(a_request().document())
    assert problems("jsonl", f"{line}\n\n{{\n{line}\n[1]\n".encode()) == [
        ("line 3", ["wanted JSON: EOF while parsing an object at line 1 column 1"]),
        ("line 5", ["wanted an object, got [1]"]),
    ]


def test_a_list_that_is_none_is_the_whole_files_fault() -> None:
    for text in (b"{}", b"[1", b"\xff"):
        with pytest.raises(InvalidItemError, match="wanted"):
            list(read(SHAPES["argilla"], io.BytesIO(text), {}))


def changed(**changes: Any) -> dict[str, Any]:
    return {**a_request().document(), **changes}


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (changed(labels=[]), "labels: wanted one or more"),
        (
            changed(labels=[a_label(outcome="maybe")]),
            "labels[0].outcome: Input should be 'confirmed', 'corrected', 'unsafe' or 'escalated'",
        ),
        (changed(labels=[a_label(answer=" ")]), "labels[0].answer: wanted, for the outcome is corrected"),
        (changed(labels=[a_label(outcome="unsafe")]), "labels[0].answer: wanted none, for the outcome is unsafe"),
        (
            changed(labels=[a_label(), a_label(outcome="confirmed", answer="It is in Rome.")]),
            "labels[1].answer: wanted the model's own, for the outcome is confirmed",
        ),
        (
            changed(labels=[a_label(labelled_at="2026-03-01T09:00:00")]),
            "labels[0].labelled_at: Input should have timezone info",
        ),
        (changed(labels=[a_label(expert="")]), "labels[0].expert: String should have at least 1 character"),
        (changed(labels=[a_label(seconds_spent=-1)]), "labels[0].seconds_spent: Input should be greater than or"),
        (changed(labels=[a_label(mood="good")]), "labels[0].mood: there is no such field"),
        (changed(labels=[a_label(kind="gold")]), "labels[0].kind: Input should be 'first', 'overlap', 'adjudication'"),
        (changed(sensitivity="secret"), "sensitivity: Input should be 'public', 'internal', 'confidential' or"),
        (changed(tenant="Customer Care"), "tenant: String should match pattern"),
        (changed(request_id="a b"), "request_id: String should match pattern"),
        (changed(answer="\ud800"), "wanted JSON: unexpected end of hex escape at line 1"),
        (changed(messages=[]), "messages: wanted one turn or more"),
        (changed(messages=[{"role": "robot"}]), "messages[0].role: Input should be 'system', 'developer', 'user'"),
        (changed(messages=[{"role": "user", "content": 1}]), "messages[0].content: Input should be a valid string"),
        (
            changed(messages=[{"role": "assistant", "content": "Hello"}]),
            "messages: wanted a last turn to answer (user or tool), got assistant",
        ),
        (
            changed(tools=[{"name": "track", "parameters": "[]"}]),
            "tools[0].parameters: wanted a JSON Schema, which is an object, as text",
        ),
    ],
)
def test_the_field_of_a_line_is_named_and_what_was_wanted_of_it(document: dict[str, Any], problem: str) -> None:
    ((place, (found,)),) = problems("jsonl", document)
    assert place == "line 1"
    assert found.startswith(problem)


def test_what_a_file_does_not_say_may_be_said_beside_it() -> None:
    document = {name: value for name, value in changed().items() if name not in ("tenant", "task", "sensitivity")}
    assert problems("jsonl", document) == [
        ("line 1", [f"{name}: wanted, in the file or as --{name}" for name in ("tenant", "task", "sensitivity")])
    ]
    assert problems("jsonl", document, tenant="t", task="k", sensitivity="public") == []
    assert problems("jsonl", changed(), tenant="t") == []


def test_a_request_without_an_id_has_one_of_what_was_asked() -> None:
    one = a_request(request_id="")
    assert one.id == a_request(request_id="", answer="other", labels=[a_label(expert="bo")]).id
    assert one.id != a_request(request_id="", task="other").id
    assert one.id != a_request(request_id="", tools=[]).id


def test_a_label_s_id_is_of_what_it_says() -> None:
    ids = {
        a_request(labels=[a_label(**changes)]).label_id(a_request(labels=[a_label(**changes)]).labels[0])
        for changes in (
            *({}, {"label_id": "other"}, {"labelled_at": "2026-03-01T10:30:00.123456+01:00"}),
            *({"comment": "other"}, {"expert": "bo"}, {"labelled_at": None}),
        )
    }
    assert len(ids) == 4


def documented(language: str) -> str:
    text = (Path(__file__).parents[3] / "docs" / "labelling.md").read_text()
    return text.partition(f"```{language}\n")[2].partition("```")[0]


def test_the_documented_line_is_one() -> None:
    document = json.loads(documented("json").replace("…", ""))
    assert problems("jsonl", document) == []
    assert document.keys() == LabelledRequest.model_fields.keys()
    assert document["labels"][0].keys() == GivenLabel.model_fields.keys()


def test_files_fit_the_labelling_interface_that_is_documented() -> None:
    interface = ElementTree.fromstring(documented("xml"))
    controls = {each.get("name"): each for each in interface}
    task = SHAPES["label-studio"].dump(a_request(labels=[a_label(), a_label(expert="bo", outcome="unsafe", answer="")]))
    shown = controls["messages"]
    assert shown.get("value") == "$messages"
    for turn in task["data"]["messages"]:
        assert {shown.get("nameKey"), shown.get("textKey")} <= turn.keys()
    results = [result for each in (*task["predictions"], *task["annotations"]) for result in each["result"]]
    assert {result["from_name"] for result in results} == {"outcome", "answer", "comment"}
    for result in results:
        control = controls[result["from_name"]]
        assert (result["type"], result["to_name"]) == (control.tag.lower(), control.get("toName"))
        assert set(result["value"].get("choices", ())) <= {each.get("value") for each in control}


# Argilla


RECORD: dict[str, Any] = {
    "id": "7",
    "fields": {"conversation": [{"role": "user", "content": "Where is order 7?"}]},
    "metadata": {"tenant": "customer-care", "task": "consumer-services", "sensitivity": "internal", "split": 3},
    "suggestions": {"answer": {"value": "I do not know.", "score": 0.5, "agent": "small"}, "topic": {"value": [1]}},
    "responses": {"answer": [{"value": CALL, "user_id": "u1"}, {"value": "I do not know.", "user_id": "u2"}]},
    "vectors": {},
    "status": "completed",
    "_server_id": "0b",
}


def test_a_record_that_argilla_wrote_is_read() -> None:
    ((place, request),) = read(SHAPES["argilla"], io.BytesIO(json.dumps([RECORD]).encode()), {})
    assert place == "item 0"
    assert isinstance(request, LabelledRequest)
    assert [(label.expert, label.outcome, label.answer) for label in request.labels] == [
        ("u1", "corrected", CALL),
        ("u2", "confirmed", "I do not know."),
    ]
    assert (request.answer, request.model, request.request_id) == ("I do not know.", "small", "")


def test_a_record_that_nobody_has_submitted_is_no_label() -> None:
    drafts = [{"value": CALL, "user_id": "u1", "status": status} for status in ("draft", "discarded")]
    for responses in ({}, {"answer": drafts}):
        document = json.dumps([{**RECORD, "responses": responses}]).encode()
        assert list(read(SHAPES["argilla"], io.BytesIO(document), {})) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"fields": {"text": "Hello"}}, "fields.conversation: wanted, a list of turns with role and content"),
        ({"fields": {"conversation": [{"role": "user"}, {"content": "x"}]}}, "fields.conversation[1].role: wanted"),
        ({"fields": {"request": "{"}}, "fields.request: wanted JSON, as text"),
        ({"fields": {"request": '{"messages": []}'}}, "fields.request.messages: wanted one turn or more"),
        ({"metadata": {}}, "metadata.tenant: wanted, in the file or as --tenant"),
        ({"metadata": {**RECORD["metadata"], "labels": "x"}}, "metadata.labels: wanted JSON, as text"),
        ({"metadata": {**RECORD["metadata"], "labels": "[{}]"}}, "metadata.labels[0].expert: wanted"),
        ({"responses": [1]}, "responses: Input should be a valid dictionary"),
        ({"responses": {"answer": [{"value": "x"}]}}, "responses.answer[0].user_id: wanted"),
        (
            {"responses": {"comment": [{"value": "x", "user_id": "u1"}]}},
            "responses of user u1: wanted one to the question outcome or answer",
        ),
        (
            {"responses": {"outcome": [{"value": "bad", "user_id": "u1"}]}},
            "responses of user u1.outcome: Input should be 'confirmed', 'corrected', 'unsafe' or 'escalated'",
        ),
    ],
)
def test_the_field_of_a_record_is_named_as_argilla_names_it(changes: dict[str, Any], problem: str) -> None:
    ((place, found),) = problems("argilla", {**RECORD, **changes})
    assert place == "item 0"
    assert found[0].startswith(problem)


# Label Studio


TASK: dict[str, Any] = {
    "id": 12,
    "data": {
        "messages": [{"role": "user", "content": "Where is order 7?"}],
        "tenant": "customer-care",
        "task": "consumer-services",
        "sensitivity": "internal",
        "picture": "http://example.com/7.png",
    },
    "annotations": [
        {
            "id": 1,
            "completed_by": {"id": 3, "email": "ana@example.com", "first_name": "Ana"},
            "result": [
                {
                    "id": "x",
                    "from_name": "outcome",
                    "to_name": "messages",
                    "type": "choices",
                    "value": {"choices": ["corrected"]},
                },
                {"from_name": "answer", "to_name": "messages", "type": "textarea", "value": {"text": [CALL]}},
                {"type": "relation", "from_id": "x", "to_id": "y", "direction": "right"},
            ],
            "was_cancelled": False,
            "lead_time": 4.5,
            "created_at": "2026-03-01T09:00:00.000000Z",
            "updated_at": "2026-03-01T09:30:00.123456Z",
        },
        {"id": 2, "completed_by": 4, "result": [], "was_cancelled": True},
    ],
    "predictions": [
        {
            "model_version": "small 3",
            "result": [
                {
                    "from_name": "answer",
                    "to_name": "messages",
                    "type": "textarea",
                    "value": {"text": ["I do not know."]},
                }
            ],
        }
    ],
    "total_annotations": 1,
}


def test_a_task_that_label_studio_wrote_is_read() -> None:
    ((_, request),) = read(SHAPES["label-studio"], io.BytesIO(json.dumps([TASK]).encode()), {})
    assert isinstance(request, LabelledRequest)
    (label,) = request.labels
    assert (label.expert, label.labelled_at, label.seconds_spent) == ("ana@example.com", NOW, 4.5)
    assert (label.outcome, label.answer) == ("corrected", CALL)
    assert (request.answer, request.model) == ("I do not know.", "small 3")


def test_a_task_that_nobody_has_annotated_is_no_label() -> None:
    document = json.dumps([{**TASK, "annotations": TASK["annotations"][1:]}]).encode()
    assert list(read(SHAPES["label-studio"], io.BytesIO(document), {})) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"data": {"text": "Hello"}}, "data.tenant: wanted, in the file or as --tenant"),
        ({"data": [1]}, "data: Input should be a valid dictionary"),
        ({"data": {**TASK["data"], "messages": [{"role": "user", "text": "x"}]}}, "data.messages[0].text: there is no"),
        ({"annotations": [{}]}, "annotations[0].result: wanted"),
        (
            {"annotations": [{"result": [{"from_name": "mood", "value": {"rating": 3}}], "completed_by": 1}]},
            "annotations[0].result: wanted a choice named outcome or a text named answer",
        ),
        (
            {"annotations": [{**TASK["annotations"][0], "completed_by": None}]},
            "annotations[0].completed_by: String should have at least 1 character",
        ),
        (
            {
                "annotations": [
                    TASK["annotations"][1],
                    {"completed_by": 1, "result": [{"from_name": "outcome", "value": {"choices": ["fine"]}}]},
                ]
            },
            "annotations[1].outcome: Input should be 'confirmed', 'corrected', 'unsafe' or 'escalated'",
        ),
    ],
)
def test_the_field_of_a_task_is_named_as_label_studio_names_it(changes: dict[str, Any], problem: str) -> None:
    ((place, found),) = problems("label-studio", {**TASK, **changes})
    assert place == "item 0"
    assert found[0].startswith(problem)


@pytest.mark.parametrize("name", ["argilla", "label-studio"])
def test_what_another_tool_gives_back_under_its_own_user_and_time_is_no_second_opinion(name: str) -> None:
    shape, request = SHAPES[name], a_request()
    document = shape.dump(request)
    if name == "argilla":
        mine = [{"value": "I do not know.", "user_id": "u9"}]
        for responses in document["responses"].values():
            responses[0]["user_id"] = "u7"
        document["responses"]["answer"] += mine
    else:
        (annotation,) = document["annotations"]
        annotation |= {"completed_by": 7, "created_at": "2030-01-01T00:00:00Z", "lead_time": 99}
        text = {"from_name": "answer", "type": "textarea", "value": {"text": ["I do not know."]}}
        document["annotations"].append({"completed_by": 9, "result": [text]})
    ((_, again),) = read(shape, io.BytesIO(json.dumps([document]).encode()), {})
    assert isinstance(again, LabelledRequest)
    first, second = again.labels
    assert first == request.labels[0]
    assert second.outcome == "confirmed"
    assert second.expert in ("u9", "label-studio-9")
