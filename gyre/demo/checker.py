"""Whether an answer is right, by the Berkeley Function Calling Leaderboard's own checker."""

from __future__ import annotations

import json
import sys
import types
from collections import defaultdict
from functools import cache
from typing import Any

from gyre.demo.traffic import TrafficRequest

_MODEL_CONFIG = "bfcl_eval.constants.model_config"
# Rows are checked alike whether one function was offered or several.
_CATEGORY = "live_multiple"


def is_right(request: TrafficRequest, answer: str) -> bool:
    """Whether the answer calls the right function with right arguments.

    Args:
        request: What was asked.
        answer: The model's text; the first JSON object in it counts. Anything else is wrong, never an error.
    """
    call = _call(answer)
    if call is None:
        return False
    check, python = _checker()
    try:
        result = check(request.documents, [call], request.ground_truth, python, _CATEGORY, "")
    except Exception:  # the checker trips over answers of unforeseen shapes, which are wrong ones
        return False
    return bool(result["valid"])


def right_function(request: TrafficRequest, answer: str) -> bool:
    """Whether the answer calls the right function, with whatever arguments."""
    call = _call(answer)
    return call is not None and request.function in call


def _call(answer: str) -> dict[str, dict[str, Any]] | None:
    """`{function: arguments}` as the checker wants it, or None where there is no call in the answer."""
    start = answer.find("{")
    if start < 0:
        return None
    try:
        parsed, _ = json.JSONDecoder().raw_decode(answer, start)
    except (ValueError, RecursionError):
        return None
    arguments = parsed.get("arguments")
    if not isinstance(parsed.get("name"), str) or not isinstance(arguments, dict):
        return None
    return {parsed["name"]: arguments}


@cache
def _checker() -> tuple[Any, Any]:
    """The checker and its word for Python.

    It asks the leaderboard's model list for one flag, and that list imports a dozen vendors' clients: the list is
    replaced by one that says no for every model, for as long as the checker is imported.
    """
    replaced = sys.modules.get(_MODEL_CONFIG)
    stand_in = types.ModuleType(_MODEL_CONFIG)
    vars(stand_in)["MODEL_CONFIG_MAPPING"] = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))
    sys.modules[_MODEL_CONFIG] = stand_in
    try:
        from bfcl_eval.constants.enums import Language
        from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker
    finally:
        if replaced is None:
            del sys.modules[_MODEL_CONFIG]
        else:
            sys.modules[_MODEL_CONFIG] = replaced
    return ast_checker, Language.PYTHON
