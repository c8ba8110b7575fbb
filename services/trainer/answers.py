"""Answers as text: what counts as the same answer, the order of a call's arguments, and the schema of a task's answers.

A function call is the JSON text `{"name": ..., "arguments": {...}}`; any other answer is plain text. Pure.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.prompts import call_schema, decodable_schema

Tool = Mapping[str, Any]


def normalise_text(text: str) -> str:
    """Text as it is compared: NFKC, case folded, runs of white space made one space, ends trimmed."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def is_correct(answer: str, label: str) -> bool:
    """Whether a model's answer says the same as the expert's label.

    A labelled function call is matched by the same function name and equal arguments: numbers by value (1 equals 1.0),
    strings without regard to case and white space, objects without regard to the order of keys, lists in order; the
    answer must be the call's JSON and nothing else. A plain-text label is matched by the same normalised text.
    """
    called = parse_call(label)
    if called is None:
        return normalise_text(answer) == normalise_text(label)
    answered = parse_call(answer)
    if answered is None:
        return False
    return answered[0] == called[0] and _canonical(answered[1]) == _canonical(called[1])


def parse_call(text: str) -> tuple[str, dict[str, Any]] | None:
    """(name, arguments) of a function call; None of any other answer."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.keys() != {"name", "arguments"}:
        return None
    name, arguments = value["name"], value["arguments"]
    return (name, arguments) if isinstance(name, str) and isinstance(arguments, dict) else None


def arrange_completion(completion: str, tools: Sequence[Tool]) -> str:
    """The same answer with a call's arguments in the order in which constrained decoding lets them be written.

    A decoder held to a JSON schema writes the required arguments first, then the optional ones, each in the schema's
    order; a model taught another order would be pushed off what it learned. Plain text and calls of functions that are
    not in `tools` come back as they are.
    """
    called = parse_call(completion)
    parameters = None if called is None else _parameters_by_name(tools).get(called[0])
    if called is None or parameters is None:
        return completion
    name, arguments = called
    return json.dumps({"name": name, "arguments": _arrange(arguments, parameters)}, ensure_ascii=False)


def answer_schema(labelled: Iterable[tuple[str, Sequence[Tool]]]) -> dict[str, Any] | None:
    """JSON schema that a task's answers are decoded under.

    Args:
        labelled: (completion, tools offered) of every labelled row. A tool is `{"name", "parameters"}` or OpenAI's
            `{"type": "function", "function": {...}}`.

    Returns:
        `{"anyOf": [{"name": const, "arguments": schema}, ...]}` over the functions that some label calls, a function
        offered with several different parameter schemas standing in it once for each, one that its row did not offer
        with any arguments; None without labels, or when some label is plain text, which such a schema would forbid.
    """
    variants: dict[str, dict[str, Any]] = {}
    for completion, tools in labelled:
        called = parse_call(completion)
        if called is None:
            return None
        parameters = _parameters_by_name(tools).get(called[0], {"type": "object"})
        variant = call_schema(called[0], parameters)
        variants.setdefault(json.dumps(variant), variant)
    return {"anyOf": [variants[key] for key in sorted(variants)]} if variants else None


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


def _parameters_by_name(tools: Sequence[Tool]) -> dict[str, dict[str, Any]]:
    functions = (tool.get("function", tool) for tool in tools)
    return {
        function["name"]: decodable_schema(function.get("parameters") or {"type": "object"}) for function in functions
    }


def _arrange(value: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(value, dict) and "properties" in schema:
        known = [name for name in schema["properties"] if name in value]
        unknown = [name for name in value if name not in schema["properties"]]
        return {name: _arrange(value[name], schema["properties"].get(name, {})) for name in (*known, *unknown)}
    if isinstance(value, list) and "items" in schema:
        return [_arrange(item, schema["items"]) for item in value]
    return value
