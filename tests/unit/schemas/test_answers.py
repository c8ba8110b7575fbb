"""What counts as the same answer."""

import json

import pytest

from schemas.answers import parse_call, same_answer

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
    assert same_answer(answer, LABEL)


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
    assert not same_answer(answer, LABEL)


def test_a_boolean_is_not_the_number_it_equals_in_python() -> None:
    assert not same_answer(_call("f", x=True), _call("f", x=1))
    assert not same_answer(_call("f", x=[0]), _call("f", x=[False]))


def test_plain_text_is_right_when_it_says_the_same_words() -> None:
    assert same_answer("  The order\nhas SHIPPED ", "the order has shipped")
    assert not same_answer("the order has not shipped", "the order has shipped")


def test_a_number_that_is_none_makes_no_call_and_is_still_the_same_text() -> None:
    answer = '{"name": "f", "arguments": {"x": NaN}}'
    assert parse_call(answer) is None
    assert same_answer(answer, answer)


def test_an_answer_nested_without_end_is_compared_as_text() -> None:
    deep = '{"name": "f", "arguments": {"x": ' + "[" * 100_000 + "]" * 100_000 + "}}"
    assert same_answer(deep, deep)
    assert not same_answer(deep, deep.replace("f", "g", 1))
    deep = '{"name": "f", "arguments": {"x": ' + "[" * 700 + "]" * 700 + "}}"
    assert same_answer(deep, deep)
