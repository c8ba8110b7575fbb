"""Function calls as answers: what counts as a valid one. Pure."""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Never

import jsonschema_rs

from schemas.events import Tool

# A schema that is larger than this with its references written out is not checked: a few lines of references to
# references can take years.
LARGEST_SCHEMA = 20_000
# How many of an answer's faults are told at once, and how much of each.
MOST_FAULTS = 3
LONGEST_FAULT = 300


def call_error(text: str, tools: Sequence[Tool]) -> str | None:
    """Say what keeps a text from being a call of one of the tools, or nothing when it is one.

    A call is a JSON object `{"name": ..., "arguments": {...}}`. The name must be a tool's, every required argument must
    be there, every argument must be known and be what the tool's JSON Schema says of it. An argument whose schema is
    none is held to nothing, and a request without tools to the shape alone.

    Args:
        text: What was answered.
        tools: The functions that the request offered.
    """
    try:
        call = json.loads(text)
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if not isinstance(call, dict) or set(call) != {"name", "arguments"}:
        return 'not an object with exactly "name" and "arguments"'
    name, arguments = call["name"], call["arguments"]
    if not isinstance(name, str):
        return '"name" is not a string'
    if not isinstance(arguments, dict):
        return '"arguments" is not an object'
    if not tools:
        return None
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        return f"{name!r} is not one of the tools: {', '.join(tool.name for tool in tools)}"
    return _arguments_error(arguments, tool.parameters)


def _arguments_error(arguments: dict[str, Any], parameters: str) -> str | None:
    schema = _schema(parameters)
    required, properties = schema.get("required"), schema.get("properties")
    if isinstance(required, list):
        missing = [str(name) for name in required if name not in arguments]
        if missing:
            return f"arguments that are required are missing: {', '.join(missing)}"
    if not isinstance(properties, dict):
        return None
    unknown = [name for name in arguments if name not in properties]
    if unknown and not schema.get("additionalProperties"):
        return f"arguments that the tool does not have: {', '.join(unknown)}"
    validators = _validators(parameters)
    faults = [
        _fault(name, error)
        for name, value in arguments.items()
        if name in validators
        for error in validators[name].iter_errors(value)
    ]
    return "; ".join(faults[:MOST_FAULTS]) or None


def _fault(argument: str, error: jsonschema_rs.ValidationError) -> str:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    return f"argument {argument}{where}: {error.message}"[:LONGEST_FAULT]


@lru_cache(maxsize=256)
def _validators(parameters: str) -> Mapping[str, jsonschema_rs.Validator]:
    """Return what each argument is held to; one whose schema is none, or too large, is held to nothing."""
    schema = _schema(parameters)
    shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    validators = {}
    for name, known in schema["properties"].items():
        whole = {**shared, **known} if isinstance(known, dict) else known
        if _written_out(known, whole, {}) > LARGEST_SCHEMA:
            continue
        try:
            validators[name] = jsonschema_rs.validator_for(
                whole, retriever=_refuse, pattern_options=jsonschema_rs.RegexOptions()
            )
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError):
            continue
    return validators


def _written_out(node: Any, root: Any, sizes: dict[str, float]) -> float:
    """Return how many nodes a schema has with the references within it written out; one that holds itself: infinite.

    Args:
        node: The schema, or a part of it.
        root: The schema.
        sizes: Of what references lead to, by reference; filled on the way.
    """
    if isinstance(node, list):
        return 1 + sum(_written_out(each, root, sizes) for each in node)
    if not isinstance(node, dict):
        return 1
    size = 1.0
    for name, value in node.items():
        if name in ("$ref", "$dynamicRef", "$recursiveRef") and isinstance(value, str):
            if value not in sizes:
                sizes[value] = float("inf")  # while it is being looked at: who meets it then is inside of it
                sizes[value] = _written_out(_target(root, value), root, sizes)
            size += sizes[value]
        else:
            size += _written_out(value, root, sizes)
    return size


def _target(root: Any, reference: str) -> Any:
    """Return what a reference leads to; of one that is no path the whole schema, to be on the safe side."""
    if not reference.startswith("#/"):
        return root
    node = root
    for step in reference[2:].split("/"):
        node = node.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node


def _refuse(address: str) -> Never:
    raise ValueError(f"schemas may not refer to {address}")


@lru_cache(maxsize=256)
def _schema(parameters: str) -> dict[str, Any]:
    try:
        value = json.loads(parameters)
    except (ValueError, RecursionError):  # the caller's document is not ours to judge here
        return {}
    return value if isinstance(value, dict) else {}
