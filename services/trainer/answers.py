"""Answers as a specialist learns to write them: the order of a call's arguments, and the schema of a task's answers.

What is a call, and what the same answer, says `schemas.answers`. Pure.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from schemas.answers import parse_call
from schemas.prompts import call_schema, decodable_schema

Tool = Mapping[str, Any]


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
