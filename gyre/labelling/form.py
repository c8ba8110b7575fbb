"""A request with what experts said of it: what every shape of a file is read into and written from."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.answers import same_answer
from schemas.bundle import Name
from schemas.events import Message, Sensitivity, Tool, ToolCall

# Of ids that are made from what they stand for, so that the same content has the same one whenever it comes.
_NAMESPACE = uuid.UUID("6f2f0e4e-7f43-5a0b-9c1c-5f3a6f0d9a11")

Id = Annotated[str, Field(pattern=r"^([\w.:@-]{1,128})?$")]
Given = Annotated[str, Field(min_length=1, max_length=200)]


class InvalidItemError(ValueError):
    """An item of a file that cannot be imported.

    Attributes:
        problems: Each names the field and what was wanted of it.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Call(_Frozen):
    """A function that a model asked for; `arguments` is a JSON object, as text."""

    id: str = ""
    name: str
    arguments: str


class Turn(_Frozen):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = ""
    tool_calls: tuple[Call, ...] = ()
    tool_call_id: str = ""

    def message(self) -> Message:
        """Return it as events have it."""
        calls = tuple(ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in self.tool_calls)
        return Message(role=self.role, content=self.content, tool_calls=calls, tool_call_id=self.tool_call_id)


class Function(_Frozen):
    """A function that the model could ask for; `parameters` is a JSON Schema, as text."""

    name: str = Field(min_length=1)
    description: str = ""
    parameters: str = ""

    @model_validator(mode="after")
    def _has_parameters_of_its_kind(self) -> Function:
        try:
            known = not self.parameters or isinstance(json.loads(self.parameters), dict)
        except (ValueError, RecursionError):
            known = False
        if not known:
            raise ValueError("parameters: wanted a JSON Schema, which is an object, as text")
        return self

    def tool(self) -> Tool:
        """Return it as events have it."""
        return Tool(name=self.name, description=self.description, parameters=self.parameters)


class GivenLabel(_Frozen):
    """What an expert said.

    Attributes:
        label_id: Of the record that it was read from; what is imported gets another.
        kind: Why the expert was asked (`schemas.labels`).
        expert: Who.
        labelled_at: When; None: the file does not say.
        outcome: Whether the model was right.
        answer: The right one, when confirmed or corrected.
        comment: In the expert's words.
        seconds_spent: Between claim and submission.
        guideline_version: Of the text that the expert had before them.
    """

    label_id: str = ""
    kind: Literal["first", "overlap", "adjudication", "imported"] = "first"
    expert: Given
    labelled_at: AwareDatetime | None = None
    outcome: Literal["confirmed", "corrected", "unsafe", "escalated"]
    answer: str = ""
    comment: str = ""
    seconds_spent: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    guideline_version: str = ""

    @model_validator(mode="after")
    def _does_not_contradict_itself(self) -> GivenLabel:
        if self.outcome == "corrected" and not self.answer.strip():
            raise ValueError("answer: wanted, for the outcome is corrected")
        if self.outcome in ("unsafe", "escalated") and self.answer:
            raise ValueError(f"answer: wanted none, for the outcome is {self.outcome}")
        return self

    def says_what(self, other: GivenLabel) -> bool:
        """Return whether two labels say the same word for word, whoever said it and when."""
        return (self.outcome, self.answer, self.comment) == (other.outcome, other.answer, other.comment)

    def is_that(self, other: GivenLabel) -> bool:
        """Return whether another label may be this one, as far as the two say who said it, and when."""
        same_time = None in (self.labelled_at, other.labelled_at) or self.labelled_at == other.labelled_at
        return self.expert == other.expert and same_time and self.says_what(other)


class LabelledRequest(_Frozen):
    """A request with what experts said of it.

    Attributes:
        request_id: Empty: it is made from tenant, task, messages and tools.
        tenant: Whose.
        task: What it is for.
        sensitivity: How far it may travel.
        messages: What was asked; the last turn is the one to answer.
        tools: The functions on offer.
        answer: The model's.
        model: Who gave it; empty: nobody says.
        model_version: Of the model.
        state: What its labels come to; written, and not read, for it follows from them.
        labels: What experts said.
    """

    request_id: Id = ""
    tenant: Name
    task: Name
    sensitivity: Sensitivity
    messages: tuple[Turn, ...]
    tools: tuple[Function, ...] = ()
    answer: str = ""
    model: str = ""
    model_version: str = ""
    state: str = ""
    labels: tuple[GivenLabel, ...]

    @model_validator(mode="after")
    def _can_be_learned_from(self) -> LabelledRequest:
        if not self.labels:
            raise ValueError("labels: wanted one or more")
        if not self.messages:
            raise ValueError("messages: wanted one turn or more")
        if self.messages[-1].role not in ("user", "tool"):
            raise ValueError(f"messages: wanted a last turn to answer (user or tool), got {self.messages[-1].role}")
        for number, label in enumerate(self.labels):
            if self.answer and label.outcome == "confirmed" and not same_answer(label.answer, self.answer):
                raise ValueError(f"labels[{number}].answer: wanted the model's own, for the outcome is confirmed")
        return self

    @property
    def id(self) -> str:
        """Its request_id, or what is made of its content where it has none."""
        if self.request_id:
            return self.request_id
        turns = [turn.model_dump() for turn in self.messages]
        return derived_id("request", self.tenant, self.task, turns, [tool.model_dump() for tool in self.tools])

    def label_id(self, label: GivenLabel) -> str:
        """Return the id that one of its labels is imported under."""
        at = label.labelled_at.astimezone(UTC).isoformat() if label.labelled_at else ""
        return derived_id("label", self.id, label.expert, at, label.outcome, label.answer, label.comment)

    def document(self) -> dict[str, Any]:
        """Return what a file holds of it: its fields, but for those that say nothing."""
        return self.model_dump(mode="json", exclude_defaults=True)


def derived_id(*content: Any) -> str:
    """Return the id of what has none of its own."""
    return str(uuid.uuid5(_NAMESPACE, json.dumps(content, ensure_ascii=False)))


def validated(document: Mapping[str, Any], named: Mapping[str, str] | None = None) -> LabelledRequest:
    """Return an item that was read from a file.

    Args:
        document: By the fields above.
        named: What the file calls them, where it has other names: by the beginning of a path, `labels[0]` or `tenant`.

    Raises:
        InvalidItemError: It is not one.
    """
    try:
        return LabelledRequest.model_validate(document)
    except ValidationError as error:
        raise InvalidItemError(problem(each, named or {}) for each in error.errors()) from error


# What options say where a file does not.
_OPTIONS = ("tenant", "task", "sensitivity")


def problem(error: Mapping[str, Any], named: Mapping[str, str] | None = None) -> str:
    """Return what pydantic found, as the field and what was wanted of it."""
    path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in error["loc"]).lstrip(".")
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        said = f"wanted, in the file or as --{path}" if path in _OPTIONS else "wanted"
    elif error["type"] == "extra_forbidden":
        said = "there is no such field"
    elif error["type"] == "value_error":  # it names the field, below this one
        field, _, said = said.partition(": ")
        path = f"{path}.{field}".lstrip(".")
    for ours, theirs in (named or {}).items():
        if path == ours or path.startswith((f"{ours}.", f"{ours}[")):
            path = theirs + path.removeprefix(ours)
            break
    return f"{path}: {said}" if path else said
