"""What a task's answers look like."""

import json

import pytest

from services.trainer.answers import answer_schema, arrange_completion


def _call(name: str, **arguments: object) -> str:
    return json.dumps({"name": name, "arguments": arguments})


TOOLS = [
    {
        "name": "FindMovies",
        "parameters": {
            "type": "dict",
            "required": ["city"],
            "properties": {
                "genre": {"type": "string", "enum": ["drama", "comedy"]},
                "city": {"type": "string", "description": "Where"},
                "price": {"type": "float"},
                "seats": {"type": "array", "items": {"type": "dict", "properties": {"row": {"type": "integer"}}}},
            },
        },
    },
    {"type": "function", "function": {"name": "Pay", "parameters": {"type": "object", "properties": {}}}},
]


def test_the_schema_holds_every_function_that_a_label_calls_and_no_other() -> None:
    schema = answer_schema([(_call("FindMovies", city="Rome"), TOOLS), (_call("FindMovies", city="Bonn"), TOOLS)])
    assert schema == {
        "anyOf": [
            {
                "type": "object",
                "properties": {
                    "name": {"const": "FindMovies"},
                    "arguments": {
                        "type": "object",
                        "properties": {
                            "city": {"type": "string"},
                            "genre": {"enum": ["drama", "comedy"]},
                            "price": {"type": "number"},
                            "seats": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {"row": {"type": "integer"}},
                                    "required": [],
                                    "additionalProperties": False,
                                },
                            },
                        },
                        "required": ["city"],
                        "additionalProperties": False,
                    },
                },
                "required": ["name", "arguments"],
                "additionalProperties": False,
            }
        ]
    }


def test_the_schema_does_not_depend_on_the_order_of_rows_but_keeps_that_of_properties() -> None:
    rows = [(_call("Pay"), TOOLS), (_call("FindMovies", city="Rome"), TOOLS)]
    schema = answer_schema(rows)
    assert json.dumps(schema) == json.dumps(answer_schema(rows[::-1]))
    assert schema is not None
    assert [variant["properties"]["name"]["const"] for variant in schema["anyOf"]] == ["FindMovies", "Pay"]


def test_two_documents_of_one_function_both_stand_in_the_schema() -> None:
    other = [{"name": "Pay", "parameters": {"type": "dict", "properties": {"amount": {"type": "integer"}}}}]
    schema = answer_schema([(_call("Pay"), TOOLS), (_call("Pay", amount=1), other)])
    assert schema is not None
    assert len(schema["anyOf"]) == 2


def test_a_call_that_its_row_did_not_offer_may_have_any_arguments() -> None:
    schema = answer_schema([(_call("Refund", order=1), TOOLS)])
    assert schema is not None
    assert schema["anyOf"][0]["properties"]["arguments"] == {"type": "object"}


@pytest.mark.parametrize("rows", [[], [("It has shipped.", TOOLS)], [(_call("Pay"), TOOLS), ("Sorry, no.", TOOLS)]])
def test_tasks_with_plain_text_answers_have_no_schema(rows: list[tuple[str, list[dict[str, object]]]]) -> None:
    assert answer_schema(rows) is None


def test_a_completion_is_written_in_the_order_that_the_schema_allows() -> None:
    completion = _call("FindMovies", price=3, note="x", genre="drama", city="Rome")
    assert arrange_completion(completion, TOOLS) == _call("FindMovies", city="Rome", genre="drama", price=3, note="x")


@pytest.mark.parametrize("completion", ["It has shipped.", _call("Refund", order=1)])
def test_a_completion_without_a_known_function_stays_as_it_is(completion: str) -> None:
    assert arrange_completion(completion, TOOLS) == completion
