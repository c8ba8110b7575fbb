"""Whether an answer has the form that was wanted."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Never

import jsonschema_rs
import msgspec

from services.governance.domain.detectors import ANYTHING, Detector, Span

KIND = "format"


def broken_format(answer: str, schema: str) -> Detector:
    """Return the detector that finds the whole of an answer that does not obey a JSON Schema.

    A schema that is none, or that refers to another document, is obeyed by nothing.
    """

    def find(folded: str) -> Iterator[Span]:
        if schema and not _obeys(answer, schema):
            yield Span(KIND, 0, len(folded))

    return Detector(KIND, ANYTHING, find)


def _obeys(answer: str, schema: str) -> bool:
    try:
        return _validator(schema).is_valid(msgspec.json.decode(answer))
    except (msgspec.DecodeError, RecursionError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
        return False


@lru_cache(maxsize=64)
def _validator(schema: str) -> jsonschema_rs.Validator:
    # Callers write the schemas: none may make us fetch what it refers to, or search for ever.
    return jsonschema_rs.validator_for(
        msgspec.json.decode(schema), retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions()
    )


def _refuse(address: str) -> Never:
    raise ValueError(f"schemas may not refer to {address}")
