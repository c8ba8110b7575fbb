"""Gyre's own shape: one request a line, with the fields of `gyre.labelling.form.LabelledRequest`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gyre.labelling.form import LabelledRequest, validated

LINES = True


def dump(request: LabelledRequest) -> dict[str, Any]:
    """Return a request as a line has it."""
    return request.document()


def load(document: Mapping[str, Any], defaults: Mapping[str, str]) -> LabelledRequest:
    """Return the request of a line."""
    return validated({**defaults, **document})
