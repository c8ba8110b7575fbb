"""Answers as text: what counts as the same answer.

A function call is the JSON text `{"name": ..., "arguments": {...}}`; any other answer is plain text. Pure.
"""

import json
import re
import unicodedata
from typing import Any, NoReturn


def normalise_text(text: str) -> str:
    """Text as it is compared: NFKC, case folded, runs of white space made one space, ends trimmed."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def same_answer(one: str, other: str) -> bool:
    """Whether two answers say the same, such as a model's and the expert's label, or the labels of two experts.

    Function calls are the same by the same function name and equal arguments: numbers by value (1 equals 1.0), strings
    without regard to case and white space, objects without regard to the order of keys, lists in order; the answer must
    be the call's JSON and nothing else. Plain texts are the same when normalised. A call is never the same as a text.
    """
    return bool(_canonical_answer(one) == _canonical_answer(other))


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """(name, arguments) of a function call; None of any other answer."""
    try:
        value = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        return None
    name, arguments = value["name"], value["arguments"]
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def _canonical_answer(text: str) -> str | tuple[str, Any]:
    called = parse_call(text)
    if called is None:
        return normalise_text(text)
    try:
        return called[0], _canonical(called[1])
    except RecursionError:  # nested deeper than anybody means
        return normalise_text(text)


def _canonical(value: Any) -> Any:
    match value:
        case bool() | None:
            return (type(value).__name__, value)  # so that True does not equal 1
        case str():
            return normalise_text(value)
        case list():
            return [_canonical(item) for item in value]
        case dict():
            return {key: _canonical(item) for key, item in value.items()}
        case _:
            return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")  # and NaN is not even the same as itself
