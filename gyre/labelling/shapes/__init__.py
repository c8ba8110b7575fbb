"""The shapes that files of labels have: one module for each, all with the same two functions.

`dump` turns a labelled request into what a file of the shape has for it, `load` the other way. `LINES` says whether a
file has one JSON value a line, or one list of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, Protocol

from pydantic_core import from_json

from gyre.labelling.form import InvalidItemError, LabelledRequest
from gyre.labelling.shapes import argilla, jsonl, label_studio


class Shape(Protocol):
    """What the modules are."""

    LINES: bool

    def dump(self, request: LabelledRequest) -> dict[str, Any]:
        """Return a request as a file of this shape has it."""

    def load(self, document: Mapping[str, Any], defaults: Mapping[str, str]) -> LabelledRequest | None:
        """Return the request of a document; None where nobody has judged it.

        Args:
            document: An item of the file.
            defaults: Of fields that it does not say.

        Raises:
            InvalidItemError: It is not of this shape.
        """


SHAPES: dict[str, Shape] = {"jsonl": jsonl, "argilla": argilla, "label-studio": label_studio}


def write(shape: Shape, requests: Iterable[LabelledRequest]) -> Iterator[bytes]:
    """Yield the pieces of a file."""
    before = b"" if shape.LINES else b"[\n"
    for request in requests:
        yield before + json.dumps(shape.dump(request), ensure_ascii=False).encode()
        before = b"\n" if shape.LINES else b",\n"
    if shape.LINES:
        yield b"\n" if before else b""
    else:
        yield b"[]\n" if before == b"[\n" else b"\n]\n"


def read(
    shape: Shape, file: IO[bytes], defaults: Mapping[str, str]
) -> Iterator[tuple[str, LabelledRequest | InvalidItemError]]:
    """Yield each request that a file holds, or what is wrong with it, after its place in the file.

    Lines are read one by one; a list is read whole.

    Raises:
        InvalidItemError: The file is no list where one is wanted.
    """
    for place, item in _lines(file) if shape.LINES else _list(file):
        try:
            document = _parsed(item) if isinstance(item, bytes) else item
            if not isinstance(document, dict):
                raise InvalidItemError([f"wanted an object, got {json.dumps(document)[:40]}"])
            request = shape.load(document, defaults)
        except InvalidItemError as error:
            yield place, error
        else:
            if request is not None:
                yield place, request


def _lines(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    return ((f"line {number}", line.strip()) for number, line in enumerate(file, 1) if line.strip())


def _list(file: IO[bytes]) -> Iterator[tuple[str, Any]]:
    items = _parsed(file.read())
    if not isinstance(items, list):
        raise InvalidItemError(["wanted a list of items"])
    return ((f"item {number}", item) for number, item in enumerate(items))


def _parsed(text: bytes) -> Any:
    try:
        return from_json(text)
    except ValueError as error:
        raise InvalidItemError([f"wanted JSON: {error}"]) from error
