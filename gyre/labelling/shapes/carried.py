"""The labels of an export, carried through another tool, so that what comes back unchanged is known again.

Other tools keep neither who labelled nor when: on import they put their own user and their own time in its place. A
label that came back would then look like a second opinion.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter, ValidationError

from gyre.labelling.form import GivenLabel, InvalidItemError, problem

_LABELS = TypeAdapter(tuple[GivenLabel, ...])


def carried_labels(labels: Any, field: str) -> list[GivenLabel]:
    """Return the labels that an item carries.

    Args:
        labels: As they were written.
        field: Where they are in the item.

    Raises:
        InvalidItemError: They are none.
    """
    try:
        return list(_LABELS.validate_python(labels))
    except ValidationError as error:
        problems = (f"{field}{problem(each)}" for each in error.errors())
        raise InvalidItemError(problems) from error


def known_again(said: Iterable[dict[str, Any]], carried: list[GivenLabel]) -> list[dict[str, Any]]:
    """Return labels as they came back, but those that say word for word what was carried as they were then."""
    left, labels = list(carried), []
    for each in said:
        words = tuple(each.get(field, "") for field in ("outcome", "answer", "comment"))
        same = next((label for label in left if (label.outcome, label.answer, label.comment) == words), None)
        if same is not None:
            left.remove(same)
        labels.append(each if same is None else same.model_dump())
    return labels
