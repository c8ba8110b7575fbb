import json
from typing import Any

import pytest

from schemas.events import Tool
from services.runtime.calls import call_error

PROPERTIES: dict[str, Any] = {
    "title": {"type": "string"},
    "year": {"type": "integer", "minimum": 1888},
    "genre": {"enum": ["comedy", "drama"]},
    "cast": {"type": "array", "items": {"type": "string"}},
    "place": {"type": "object", "required": ["city"], "properties": {"city": {"type": "string"}}},
    "when": {"$ref": "#/$defs/day"},
}


def _tool(**changes: Any) -> Tool:
    schema = {
        "type": "object",
        "required": ["title"],
        "properties": PROPERTIES,
        "$defs": {"day": {"type": "string", "pattern": "^[0-9]{4}$"}},
    }
    return Tool(name="find_film", parameters=json.dumps({**schema, **changes}))


def _error(tool: Tool, **arguments: Any) -> str | None:
    return call_error(json.dumps({"name": "find_film", "arguments": arguments}), (tool,))


def test_a_call_that_obeys_the_schema_is_one() -> None:
    place = {"city": "Rome"}
    assert _error(_tool(), title="Alien", year=1979, genre="drama", cast=[], place=place, when="1979") is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"year": 1979}, "arguments that are required are missing: title"),
        ({"title": "Alien", "director": "Scott"}, "arguments that the tool does not have: director"),
        ({"title": 5}, 'argument title: 5 is not of type "string"'),
        ({"title": "Alien", "year": "1979"}, 'argument year: "1979" is not of type "integer"'),
        ({"title": "Alien", "year": 1}, "argument year: 1 is less than the minimum of 1888"),
        ({"title": "Alien", "genre": "horror"}, 'argument genre: "horror" is not one of "comedy" or "drama"'),
        ({"title": "Alien", "cast": ["Weaver", 3]}, 'argument cast[1]: 3 is not of type "string"'),
        ({"title": "Alien", "place": {}}, 'argument place: "city" is a required property'),
        ({"title": "Alien", "place": {"city": 1}}, 'argument place.city: 1 is not of type "string"'),
        ({"title": "Alien", "when": "now"}, 'argument when: "now" does not match'),
    ],
)
def test_what_is_wrong_names_the_argument_and_what_was_wanted(arguments: dict[str, Any], problem: str) -> None:
    error = _error(_tool(), **arguments)
    assert error is not None
    assert error.startswith(problem)


def test_several_faults_are_told_at_once() -> None:
    error = _error(_tool(), title=1, year="x", genre="y")
    assert error is not None
    assert [fault.split(":")[0] for fault in error.split("; ")] == ["argument title", "argument year", "argument genre"]


def test_a_tool_that_says_so_takes_other_arguments_too() -> None:
    assert _error(_tool(additionalProperties=True), title="Alien", director="Scott") is None


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "film"},
        {"$ref": "#/$defs/nothing"},
        {"$ref": "https://example.org/film.json"},
        {"type": "string", "pattern": "("},
        7,
    ],
)
def test_an_argument_whose_schema_is_none_is_held_to_nothing_and_the_others_to_theirs(schema: Any) -> None:
    tool = _tool(properties={**PROPERTIES, "title": schema})
    assert _error(tool, title=["any", "thing"]) is None
    assert _error(tool, title=1, year="x") == 'argument year: "x" is not of type "integer"'


def test_references_to_references_hold_nobody_up() -> None:
    doubling = {f"d{level}": {"allOf": [{"$ref": f"#/$defs/d{level + 1}"}] * 2} for level in range(60)}
    tree = {"properties": {"left": {"$ref": "#/$defs/tree"}, "right": {"$ref": "#/$defs/tree"}}}
    defs = {**doubling, "d60": {"type": "string"}, "tree": tree}
    tool = _tool(**{"properties": {"title": {"$ref": "#/$defs/d0"}, "tree": {"$ref": "#/$defs/tree"}}, "$defs": defs})
    assert _error(tool, title=1, tree={"left": {"left": 1}}) is None
