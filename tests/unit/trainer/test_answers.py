"""What counts as the same answer, and what a task's answers look like."""

import json

import pytest

from services.trainer.answers import answer_schema, arrange_completion, is_correct

LABEL = '{"name": "FindMovies", "arguments": {"city": "San José", "day": 4, "imax": true, "with": ["Ana", "Bo"]}}'


def _call(name: str, **arguments: object) -> str:
    return json.dumps({"name": name, "arguments": arguments})


@pytest.mark.parametrize(
    "answer",
    [
        LABEL,
        '{"arguments":{"with":["ana","bo"],"imax":true,"day":4.0,"city":"  san   josé "},"name":"FindMovies"}',
        _call("FindMovies", city="San Jose\u0301", day=4, imax=True, **{"with": ["Ana", "Bo"]}),
    ],
)
def test_a_call_is_right_whatever_its_spelling(answer: str) -> None:
    assert is_correct(answer, LABEL)


@pytest.mark.parametrize(
    "answer",
    [
        _call("findmovies", city="San José", day=4, imax=True, **{"with": ["Ana", "Bo"]}),
        _call("FindMovies", city="San José", day=5, imax=True, **{"with": ["Ana", "Bo"]}),
        _call("FindMovies", city="San José", day="4", imax=True, **{"with": ["Ana", "Bo"]}),
        _call("FindMovies", city="San José", day=4, imax=1, **{"with": ["Ana", "Bo"]}),
        _call("FindMovies", city="San José", day=4, imax=True, **{"with": ["Bo", "Ana"]}),
        _call("FindMovies", city="San José", day=4, imax=True),
        _call("FindMovies", city="San José", day=4, imax=True, seats=None, **{"with": ["Ana", "Bo"]}),
        LABEL[:-1],
        f"Sure: {LABEL}",
        "FindMovies",
        "[]",
        "",
    ],
)
def test_a_call_with_another_name_or_other_arguments_is_wrong(answer: str) -> None:
    assert not is_correct(answer, LABEL)


def test_a_boolean_is_not_the_number_it_equals_in_python() -> None:
    assert not is_correct(_call("f", x=True), _call("f", x=1))
    assert not is_correct(_call("f", x=[0]), _call("f", x=[False]))


def test_plain_text_is_right_when_it_says_the_same_words() -> None:
    assert is_correct("  The order\nhas SHIPPED ", "the order has shipped")
    assert not is_correct("the order has not shipped", "the order has shipped")


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
