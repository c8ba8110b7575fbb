import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Message, Sensitivity, Tool, ToolCall
from services.router import openai
from services.router.domain.errors import InvalidField
from services.router.domain.request import Request, Sampling
from services.router.journal import Completion

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}


def request_of(header_task: str = "", **more: object) -> Request:
    body = json.dumps({**BODY, **more}).encode()
    return openai.request_of(openai.decode(body, openai.ChatRequest), header_task)


def test_a_request_keeps_everything_that_it_says() -> None:
    request = request_of(
        messages=[
            {"role": "developer", "content": "Be brief"},
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {
                "role": "assistant",
                "content": None,
                "refusal": None,
                "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "done"},
        ],
        tools=[{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        temperature=0.5,
        max_completion_tokens=9,
        stop="END",
        seed=3,
        user="u",
        metadata={"task": "chat", "conversation_id": "c"},
    )
    assert request == Request(
        messages=(
            Message(role="developer", content="Be brief"),
            Message(role="user", content="one\ntwo"),
            Message(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)),
            Message(role="tool", tool_call_id="1", content="done"),
        ),
        task="chat",
        model="auto",
        tools=(Tool(name="f", description="d", parameters='{"type":"object"}'),),
        sampling=Sampling(temperature=0.5, max_tokens=9, stop=("END",), seed=3, response_schema='{"type":"object"}'),
        conversation_id="c",
        user="u",
    )


def test_the_header_names_the_task_unless_the_body_does() -> None:
    assert request_of(header_task="chat").task == "chat"
    with pytest.raises(InvalidField, match=r"metadata\.task"):
        request_of(header_task="chat", metadata={"task": "calls"})


def test_tools_that_are_not_to_be_chosen_are_not_offered() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert request_of(tools=tools, tool_choice="none").tools == ()


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        (b"{", "body", "no valid JSON"),
        (b"\xff", "body", "no valid"),
        (b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}', "body", "UTF-8"),
        (b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}', "body", "no valid JSON"),
        (b"[]", "body", "Expected `object`"),
        (b'{"messages":[]}', "messages", "length"),
        (b'{"messages":[{"role":"user"}]}', "model", "missing"),
        (b'{"model":1,"messages":[{"role":"user"}]}', "model", "Expected `str`"),
        (b'{"model":"m","messages":[{"role":"cook"}]}', "messages[0].role", "cook"),
        (b'{"model":"m","messages":[{"role":"user","content":5}]}', "messages[0].content", "int"),
        (
            b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}',
            "messages[0].content[0].type",
            "image_url",
        ),
        (b'{"model":"m","messages":[{"role":"user"}],"temperature":3}', "temperature", "2"),
        (b'{"model":"m","messages":[{"role":"user"}],"n":2}', "n", "1"),
        (b'{"model":"m","messages":[{"role":"user"}],"top_logprobs":2}', "top_logprobs", "unknown"),
        (b'{"model":"m","messages":[{"role":"user"}],"metadata":{"x":"y"}}', "metadata.x", "unknown"),
        (b'{"model":"m","messages":[{"role":"user"}],"tools":[{"type":"web"}]}', "tools[0].type", "web"),
        (
            b'{"model":"m","messages":[{"role":"user"}],"tools":[{"type":"function","function":{"name":"jo@example.com"}}]}',
            "tools[0].function.name",
            "matching regex",
        ),
        (
            b'{"model":"m","messages":[{"role":"user"}],"tools":[{"type":"function","function":{"name":"f","parameters":'
            + b'{"a":' * 100_000,
            "body",
            "no valid JSON",
        ),
    ],
)
def test_a_body_that_is_not_what_was_wanted_is_refused_by_name(body: bytes, field: str, said: str) -> None:
    with pytest.raises(InvalidField, match=said) as raised:
        openai.decode(body, openai.ChatRequest)
    assert raised.value.field == field


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["model", "messages", "role", "content", "tools", "stop"]), inner, max_size=4),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_is_a_request_or_a_named_error(body: bytes) -> None:
    try:
        request = openai.request_of(openai.decode(body, openai.ChatRequest), "")
    except InvalidField:
        return
    assert request.messages


@pytest.mark.parametrize("said", [{}, {"rating": 1, "edit": "x"}])
def test_feedback_says_exactly_one_thing(said: dict[str, object]) -> None:
    body = json.dumps({"request_id": "0199e000-0000-7000-8000-000000000001", **said}).encode()
    with pytest.raises(InvalidField, match="exactly one"):
        openai.feedback_of(openai.decode(body, openai.FeedbackRequest))


@pytest.mark.parametrize(
    ("said", "field"), [({"rating": 2}, "rating"), ({"rating": "x"}, "rating"), ({"request_id": "x"}, "request_id")]
)
def test_feedback_out_of_bounds_is_refused_by_name(said: dict[str, object], field: str) -> None:
    body = json.dumps({"request_id": "0199e000-0000-7000-8000-000000000001", **said}).encode()
    with pytest.raises(InvalidField) as raised:
        openai.decode(body, openai.FeedbackRequest)
    assert raised.value.field == field


def test_the_usage_of_a_stream_comes_last_and_only_when_asked_for() -> None:
    completion = Completion(
        request_id="r",
        task="chat",
        message=Message(role="assistant", content="ab"),
        finish_reason="stop",
        model="small",
        model_version="1",
        tier="small",
        prompt_tokens=2,
        completion_tokens=3,
        bundle_version="b1",
        sensitivity=Sensitivity.INTERNAL,
        document_ids=(),
        context_available=True,
    )
    for includes_usage in (True, False):
        chunks = openai.Chunks("r", "auto", 0, includes_usage)
        body = chunks.text("a") + chunks.text("b") + chunks.last(completion)
        *events, done = [event.removeprefix("data: ") for event in body.decode().strip().split("\n\n")]
        values = [json.loads(event) for event in events]
        assert done == "[DONE]"
        assert values[0]["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
        assert values[1]["choices"][0]["delta"] == {"content": "b"}
        assert [bool(value.get("usage")) for value in values] == [False, False, False, includes_usage][: len(values)]
        assert len(values) == (4 if includes_usage else 3)
