import subprocess
import sys

import pytest

from gyre.client import Client, Message, Tool, ToolCall, UnavailableError
from gyre.client.connection import Attempts, Retries, authorization_of, target_of
from gyre.client.errors import LimitReachedError, NotFoundError
from gyre.client.requests import feedback_value, request_value

# Prints what was imported from beyond the standard library, leaving out what Python's own start brings with it.
IMPORTED = """
import sys
before = set(sys.modules)
import gyre.client
found = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(found))
"""


def test_it_needs_nothing_but_grpc_and_protobuf() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True)
    # grpc brings its siblings where they are installed, and the names of what its extension module was compiled with.
    found = {name for name in done.stdout.split() if not name.startswith("grpc_") and "cython" not in name}
    assert found <= {"buf", "google", "grpc", "gyre", "typing_extensions"}
    assert {"google", "grpc"} <= found


def test_a_text_is_one_message_of_the_users() -> None:
    assert request_value("Hi", {}) == request_value([Message("user", "Hi")], {})


def test_a_request_keeps_everything_that_it_says() -> None:
    call = ToolCall("1", "lights", {"room": "hall"})
    value = request_value(
        [Message("assistant", tool_calls=(call,)), Message("tool", "on", tool_call_id="1")],
        {
            "task": "t",
            "model": "m",
            "tools": [Tool("lights", "Turns lights on", {"type": "object"}), Tool("doors")],
            "conversation_id": "c",
            "user": "ann",
            "temperature": 0.5,
            "top_p": 0.9,
            "presence_penalty": 0.1,
            "frequency_penalty": 0.2,
            "max_tokens": 9,
            "stop": ["END"],
            "seed": 0,
            "response_schema": {"type": "object"},
        },
    )
    assert [tool.parameters_json for tool in value.tools] == ['{"type": "object"}', ""]
    assert value.messages[0].tool_calls[0].arguments_json == '{"room": "hall"}'
    assert (value.task, value.model, value.conversation_id, value.user) == ("t", "m", "c", "ann")
    assert str(value.sampling) == (
        'temperature: 0.5\nmax_tokens: 9\nstop: "END"\nseed: 0\nresponse_schema_json: "{\\"type\\": \\"object\\"}"\n'
        "top_p: 0.9\npresence_penalty: 0.1\nfrequency_penalty: 0.2\n"
    )


@pytest.mark.parametrize("wanted", [{"temprature": 0.5}, {"temperature": "hot"}, {"seed": 0.5}])
def test_a_value_that_no_field_takes_is_refused(wanted: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        request_value("Hi", wanted)  # type: ignore[arg-type] # that is the mistake


@pytest.mark.parametrize("said", [{}, {"comment": "x"}, {"rating": 1.0, "edit": "x"}])
def test_feedback_says_exactly_one_thing(said: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="exactly one of rating, edit, correct_answer, outcome"):
        feedback_value("0199e000-0000-7000-8000-000000000001", said)  # type: ignore[arg-type] # that is the mistake


def test_target_and_key_come_from_the_environment_unless_they_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYRE_TARGET", "router:1")
    monkeypatch.setenv("GYRE_API_KEY", "k")
    assert (target_of(None), target_of("other:2")) == ("router:1", "other:2")
    assert authorization_of(None) == (("authorization", "Bearer k"),)
    assert authorization_of("j") == (("authorization", "Bearer j"),)


def test_without_a_key_it_says_where_one_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GYRE_API_KEY", raising=False)
    with pytest.raises(ValueError, match="GYRE_API_KEY"):
        Client()


def test_pauses_grow_up_to_a_limit_and_end_with_the_attempts() -> None:
    attempts = Attempts(Retries(attempts=6, first_seconds=1.0, most_seconds=4.0), timeout_seconds=1000.0)
    for longest in (1.0, 2.0, 4.0, 4.0, 4.0):
        pause = attempts.pause_seconds(UnavailableError("away"))
        assert pause is not None
        assert 0 <= pause <= longest
    assert attempts.pause_seconds(UnavailableError("away")) is None


def test_what_will_not_change_is_not_tried_again_nor_is_anything_after_the_deadline() -> None:
    assert Attempts(Retries(), timeout_seconds=1000.0).pause_seconds(NotFoundError("no such task")) is None
    assert Attempts(Retries(), timeout_seconds=0.0).pause_seconds(UnavailableError("away")) is None


def test_where_a_limit_is_reached_the_pause_begins_when_one_may_come_back() -> None:
    error = LimitReachedError("used up")
    error.retry_after_seconds = 7.0
    pause = Attempts(Retries(first_seconds=1.0), timeout_seconds=1000.0).pause_seconds(error)
    assert pause is not None
    assert 7.0 <= pause <= 8.0
    assert Attempts(Retries(), timeout_seconds=5.0).pause_seconds(error) is None
