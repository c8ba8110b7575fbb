"""Label Studio's tasks, as its JSON import takes them and its JSON export writes them.

A task's data are the request. A label is an annotation with up to three results: the choice `outcome`, and the texts
`answer` and `comment`. The model's answer is a prediction of `answer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import AwareDatetime, BaseModel, ValidationError

from gyre.labelling.form import GivenLabel, InvalidItemError, LabelledRequest, problem, validated
from gyre.labelling.shapes.carried import carried_labels, known_again

LINES = False

# What results are of, in the labelling interface that docs/labelling.md has.
_SHOWN = "messages"


class _Value(BaseModel):
    choices: list[str] = []
    text: list[str] | str = []


class _Result(BaseModel):
    from_name: str = ""  # a relation has none
    value: _Value = _Value()


class _User(BaseModel):
    id: int | None = None
    email: str = ""


class _Annotation(BaseModel):
    result: list[_Result]
    completed_by: _User | int | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    lead_time: float | None = None
    was_cancelled: bool = False


class _Prediction(BaseModel):
    result: list[_Result]
    model_version: str | None = None


class _Task(BaseModel):
    data: dict[str, Any]
    annotations: list[_Annotation] = []
    predictions: list[_Prediction] = []


def dump(request: LabelledRequest) -> dict[str, Any]:
    """Return a request as a task."""
    data = request.document()
    data["messages"] = [{"content": "", **turn} for turn in data["messages"]]
    prediction = {
        "model_version": f"{request.model} {request.model_version}".strip(),
        "result": [_text("answer", request.answer)],
    }
    return {
        "data": data,
        "predictions": [prediction] if request.answer else [],
        "annotations": [_annotation(label) for label in request.labels],
    }


def load(document: Mapping[str, Any], defaults: Mapping[str, str]) -> LabelledRequest | None:
    """Return the request of a task."""
    try:
        task = _Task.model_validate(document)
    except ValidationError as error:
        raise InvalidItemError(problem(each) for each in error.errors()) from error
    predicted = next((each for each in task.predictions if _said(each.result, "answer")), None)
    data = {name: value for name, value in task.data.items() if name in LabelledRequest.model_fields}
    if predicted and "answer" not in data:
        data |= {"answer": _said(predicted.result, "answer"), "model": predicted.model_version or ""}
    given = {n: each for n, each in enumerate(task.annotations) if not each.was_cancelled}
    if not given:
        return None
    said = [_label(f"annotations[{n}]", each, str(data.get("answer", ""))) for n, each in given.items()]
    named = {f"labels[{position}].expert": f"annotations[{n}].completed_by" for position, n in enumerate(given)}
    named |= {f"labels[{position}]": f"annotations[{n}]" for position, n in enumerate(given)}
    named |= {name: f"data.{name}" for name in LabelledRequest.model_fields if name != "labels"}
    carried = carried_labels(data.get("labels", []), "data.labels")
    return validated({**defaults, **data, "labels": known_again(said, carried)}, named)


def _annotation(label: GivenLabel) -> dict[str, Any]:
    """Return a label as an annotation, without `completed_by`: Label Studio refuses a file with users unknown to it."""
    outcome = {"from_name": "outcome", "to_name": _SHOWN, "type": "choices", "value": {"choices": [label.outcome]}}
    texts = [_text(name, text) for name, text in (("answer", label.answer), ("comment", label.comment)) if text]
    return {
        "result": [outcome, *texts],
        "was_cancelled": False,
        "ground_truth": False,
        "lead_time": label.seconds_spent,
        **({"created_at": label.labelled_at.isoformat()} if label.labelled_at else {}),
    }


def _text(name: str, text: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": _SHOWN, "type": "textarea", "value": {"text": [text]}}


def _label(place: str, annotation: _Annotation, answer: str) -> dict[str, Any]:
    by = annotation.completed_by
    number = by.id if isinstance(by, _User) else by
    address = by.email if isinstance(by, _User) else ""
    said, outcome = _said(annotation.result, "answer"), _said(annotation.result, "outcome")
    if not said and not outcome:
        raise InvalidItemError([f"{place}.result: wanted a choice named outcome or a text named answer"])
    outcome = outcome or ("confirmed" if said == answer else "corrected")
    return {
        "expert": address or ("" if number is None else f"label-studio-{number}"),
        "outcome": outcome,
        "answer": said or (answer if outcome == "confirmed" else ""),
        "comment": _said(annotation.result, "comment"),
        "labelled_at": annotation.updated_at or annotation.created_at,
        "seconds_spent": annotation.lead_time or 0.0,
    }


def _said(results: list[_Result], name: str) -> str:
    """Return what a control says: the choice that was made, or the text that was written."""
    for each in results:
        if each.from_name == name:
            texts = each.value.choices or ([each.value.text] if isinstance(each.value.text, str) else each.value.text)
            return "\n".join(texts)
    return ""
