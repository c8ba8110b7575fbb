"""Answers of function-call tasks: what counts as a valid one."""

import json
from collections.abc import Sequence
from typing import Any

from schemas.bundle import Bundle
from schemas.events import Tool


def wants_call(bundle: Bundle, task: str) -> bool:
    """Say whether a task wants a function call for an answer."""
    return task in bundle.tasks and bundle.tasks[task].answers == "function-call"


def call_error(text: str, tools: Sequence[Tool]) -> str | None:
    """Say what keeps a text from being a call of one of the tools, or nothing when it is one.

    A call is a JSON object `{"name": ..., "arguments": {...}}`. The name must be a tool's, every required argument must
    be there and every argument must be known. A request without tools is held to the shape alone.

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
    return _arguments_error(arguments, _object(tool.parameters))


def _arguments_error(arguments: dict[str, Any], schema: dict[str, Any]) -> str | None:
    required, properties = schema.get("required"), schema.get("properties")
    if isinstance(required, list):
        missing = [str(name) for name in required if name not in arguments]
        if missing:
            return f"arguments that are required are missing: {', '.join(missing)}"
    if isinstance(properties, dict):
        unknown = [name for name in arguments if name not in properties]
        if unknown:
            return f"arguments that the tool does not have: {', '.join(unknown)}"
    return None


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:  # the caller's document is not ours to judge here
        return {}
    return value if isinstance(value, dict) else {}
