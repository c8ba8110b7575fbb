import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Message, Sensitivity, Tool, ToolCall
from services.router.domain.errors import InvalidField
from services.router.domain.request import MAX_SEED, Request, Sampling
from services.router.journal import Completion, Piece
from services.router.openai import answers, requests

BODY = {"model": "auto", "messages": [{"role": "user", "content": "Hi"}]}


def request_of(header_task: str = "", **more: object) -> Request:
    body = json.dumps({**BODY, **more}).encode()
    return requests.request_of(requests.decode(body, requests.ChatRequest), header_task)


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
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
        temperature=0.5,
        top_p=0.9,
        presence_penalty=-1,
        frequency_penalty=0.5,
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
        sampling=Sampling(
            temperature=0.5,
            max_tokens=9,
            stop=("END",),
            seed=3,
            top_p=0.9,
            presence_penalty=-1.0,
            frequency_penalty=0.5,
            response_schema='{"type":"object"}',
        ),
        conversation_id="c",
        user="u",
    )


def test_the_header_names_the_task_unless_the_body_does() -> None:
    assert request_of(header_task="chat").task == "chat"
    with pytest.raises(InvalidField, match=r"metadata\.task"):
        request_of(header_task="chat", metadata={"task": "calls"})


TOOLS = [
    {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "g"}},
]
F, G = Tool(name="f", description="d", parameters='{"type":"object"}'), Tool(name="g")


@pytest.mark.parametrize(
    ("choice", "offered"),
    [
        (None, (F, G)),
        ("auto", (F, G)),
        ("required", (F, G)),
        ("none", ()),
        ({"type": "function", "function": {"name": "g"}}, (G,)),
    ],
)
def test_what_is_offered_is_what_may_be_chosen(choice: object, offered: tuple[Tool, ...]) -> None:
    assert request_of(tools=TOOLS, tool_choice=choice).tools == offered


@pytest.mark.parametrize(
    "neutral",
    [
        {"logprobs": False},
        {"top_logprobs": 0},
        {"logit_bias": {}},
        {"store": False},
        {"service_tier": "auto"},
        {"reasoning_effort": "none"},
        {"verbosity": "medium"},
        {"modalities": ["text"]},
        {"n": 1, "stream": True},
        {"parallel_tool_calls": True},
        {"top_p": 1, "presence_penalty": 0, "frequency_penalty": 0},
    ],
)
def test_a_field_at_its_neutral_value_asks_for_nothing(neutral: dict[str, object]) -> None:
    assert request_of(**neutral) == request_of() == request_of(**dict.fromkeys(neutral))


@pytest.mark.parametrize(
    ("fields", "field", "said"),
    [
        ({"store": True}, "store", "wanted false"),
        ({"tool_choice": "required"}, "tool_choice", "no tools are offered"),
        (
            {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "h"}}},
            "tool_choice.function.name",
            "'h' is not among the tools",
        ),
        ({"n": 2, "stream": True}, "n", "a stream has one choice"),
        ({"n": 2, "metadata": {"conversation_id": "c"}}, "n", "remembers one answer"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(fields: dict[str, object], field: str, said: str) -> None:
    with pytest.raises(InvalidField, match=said) as raised:
        request_of(**fields)
    assert raised.value.field == field


def test_choices_differ_in_their_seeds() -> None:
    top = request_of(seed=MAX_SEED)
    assert [each.sampling.seed for each in requests.choices(top, 3)] == [MAX_SEED, 0, 1]
    assert requests.choices(request_of(), 2) == [request_of(), request_of()]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("response_schema.properties.a", "response_format.json_schema.schema.properties.a"),
        ("tools[3].parameters.required", "tools[3].function.parameters.required"),
        ("messages[0].tool_calls[1].arguments", "messages[0].tool_calls[1].function.arguments"),
        ("messages[0].content", "messages[0].content"),
        ("tools", "tools"),
    ],
)
def test_a_field_is_named_as_the_body_has_it(ours: str, theirs: str) -> None:
    assert requests.body_field(ours) == theirs


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
        (b'{"model":"m","messages":[{"role":"user"}],"n":5}', "n", "4"),
        (b'{"model":"m","messages":[{"role":"user"}],"top_logprobs":2}', "top_logprobs", "0"),
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
        requests.decode(body, requests.ChatRequest)
    assert raised.value.field == field


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["model", "messages", "role", "content", "tools", "stop"]), inner, max_size=4),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_body_is_a_request_or_a_named_error(body: bytes) -> None:
    try:
        request = requests.request_of(requests.decode(body, requests.ChatRequest), "")
    except InvalidField:
        return
    assert request.messages


@pytest.mark.parametrize("said", [{}, {"rating": 1, "edit": "x"}])
def test_feedback_says_exactly_one_thing(said: dict[str, object]) -> None:
    body = json.dumps({"request_id": "0199e000-0000-7000-8000-000000000001", **said}).encode()
    with pytest.raises(InvalidField, match="exactly one"):
        requests.feedback_of(requests.decode(body, requests.FeedbackRequest))


@pytest.mark.parametrize(
    ("said", "field"), [({"rating": 2}, "rating"), ({"rating": "x"}, "rating"), ({"request_id": "x"}, "request_id")]
)
def test_feedback_out_of_bounds_is_refused_by_name(said: dict[str, object], field: str) -> None:
    body = json.dumps({"request_id": "0199e000-0000-7000-8000-000000000001", **said}).encode()
    with pytest.raises(InvalidField) as raised:
        requests.decode(body, requests.FeedbackRequest)
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
        chunks = answers.Chunks("r", 0, includes_usage)
        body = chunks.of(Piece("a", "small")) + chunks.of(Piece("b", "small")) + chunks.of(completion)
        *events, done = [event.removeprefix("data: ") for event in body.decode().strip().split("\n\n")]
        values = [json.loads(event) for event in events]
        assert done == "[DONE]"
        assert {value["model"] for value in values} == {"small"}
        assert values[0]["choices"][0]["delta"] == {"role": "assistant", "content": "a"}
        assert values[1]["choices"][0]["delta"] == {"content": "b"}
        assert [bool(value.get("usage")) for value in values] == [False, False, False, includes_usage][: len(values)]
        assert len(values) == (4 if includes_usage else 3)
