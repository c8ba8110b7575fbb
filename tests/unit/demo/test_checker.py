import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyre.demo.checker import is_right, right_function
from gyre.demo.traffic import traffic

REQUEST = next(request for request in traffic() if request.task == "consumer-services")
RIGHT = json.loads(REQUEST.expected_call_json)


def test_text_around_the_call_does_not_matter() -> None:
    assert is_right(REQUEST, f"Here it is:\n```json\n{REQUEST.expected_call_json}\n```")


def test_an_unexpected_argument_is_wrong_but_the_function_is_right() -> None:
    answer = json.dumps({"name": RIGHT["name"], "arguments": {**RIGHT["arguments"], "unheard_of": 1}})
    assert not is_right(REQUEST, answer)
    assert right_function(REQUEST, answer)


def test_another_function_is_wrong() -> None:
    answer = json.dumps({"name": "Another", "arguments": RIGHT["arguments"]})
    assert not is_right(REQUEST, answer)
    assert not right_function(REQUEST, answer)


@pytest.mark.parametrize("answer", ["", "{", "[1]", '{"a":' * 100_000, "\ud800{", '{"name": 1, "arguments": {}}'])
def test_rubbish_is_wrong_and_no_error(answer: str) -> None:
    assert not is_right(REQUEST, answer)
    assert not right_function(REQUEST, answer)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_arguments_of_any_shape_are_wrong_and_no_error(value: object) -> None:
    name = next(iter(RIGHT["arguments"]))
    answer = json.dumps({"name": RIGHT["name"], "arguments": {name: value, "unheard_of": value}})
    assert not is_right(REQUEST, answer)


def test_the_leaderboards_model_list_is_not_left_replaced() -> None:
    is_right(REQUEST, REQUEST.expected_call_json)
    assert "bfcl_eval.constants.model_config" not in sys.modules
