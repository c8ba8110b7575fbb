"""What is refused before it is decided, what is cut, and deadlines."""

import json
import time

import pytest

from services.router.domain.errors import InvalidField
from services.router.domain.request import Request, Sampling
from services.runtime.errors import DeadlineExceeded, InvalidArgument, NotFound, Unauthenticated
from tests.unit.router.fakes import LIGHTS, Stack, ask


async def test_the_oldest_turns_are_cut_to_the_budget_and_counted() -> None:
    stack = Stack()
    await stack.router.complete(stack.call(), ask("old " * 99, "new"))
    assert [message.content for message in stack.recorder.last.messages] == ["new"]
    assert stack.recorder.last.truncated_tokens == 103


async def test_a_last_turn_over_the_budget_is_refused_by_name() -> None:
    stack = Stack()
    with pytest.raises(InvalidField, match="messages: instructions and last user turn are about"):
        await stack.router.complete(stack.call(), ask("long " * 200))


@pytest.mark.parametrize(
    ("request_", "error", "said"),
    [
        (Request(messages=()), InvalidArgument, "messages: wanted at least one of role user"),
        (ask("\u200b \n"), InvalidArgument, r"messages\[0\].content: has no text"),
        (ask("x" * 2**20, "y"), InvalidArgument, "messages: 1048577 bytes"),
        (ask("Hi", task="nope"), NotFound, "task: 'nope' is not known; wanted one of chat, calls"),
        (ask("Hi", task="advice"), NotFound, "task: 'advice' is not known"),
        (ask("Hi", model="nope"), NotFound, "model: 'nope' is not known; wanted one of auto, chat, calls, small, big"),
        (ask("Hi", task="chat", model="calls"), InvalidArgument, "model: names the task 'calls'"),
        (ask("Hi", tools=(LIGHTS,)), InvalidArgument, "tools: the task 'chat' answers in text"),
        (ask("Hi", sampling=Sampling(seed=-1)), InvalidArgument, "seed: -1; wanted 0"),
        (ask("Hi", sampling=Sampling(response_schema="{")), InvalidArgument, "response_schema: wanted a JSON object"),
    ],
)
async def test_bad_input_is_refused_by_name(request_: Request, error: type[Exception], said: str) -> None:
    stack = Stack()
    with pytest.raises(error, match=said):
        await stack.router.complete(stack.call(), request_)
    assert stack.log == []


@pytest.mark.parametrize(
    ("schema", "field", "said"),
    [
        ("[]", "response_schema", "wanted a JSON object"),
        ('{"type": "strin"}', "response_schema.type", "is no JSON Schema"),
        ('{"properties": {"a": {"anyOf": [{"type": 5}]}}}', "response_schema.properties.a.anyOf[0].type", "no JSON"),
        ('{"$ref": "#/$defs/none"}', "response_schema", "refers to '#/\\$defs/none'"),
        ('{"anyOf": [{"$ref": "http://elsewhere.example/schema"}]}', "response_schema", "refers to 'http://elsewhere"),
        ('{"$ref": "#named"}', "response_schema", "refers to '#named'"),
        ('{"$ref": "#/anyOf/1", "anyOf": [{}]}', "response_schema", "refers to '#/anyOf/1'"),
        ('{"$schema": "http://elsewhere.example/schema"}', "response_schema.$schema", "wanted one of"),
        ('{"$schema": 7}', "response_schema.$schema", "wanted one of"),
        ('{"items":' * 5000 + "{}" + "}" * 5000, "response_schema", "wanted a JSON object"),
        ('{"description": "' + "x" * 65536 + '"}', "response_schema", "at most 65536 bytes"),
    ],
)  # fmt: skip
async def test_a_response_schema_that_is_none_is_refused_by_name(schema: str, field: str, said: str) -> None:
    stack = Stack()
    with pytest.raises(InvalidField, match=said) as raised:
        await stack.router.complete(stack.call(), ask("Hi", sampling=Sampling(response_schema=schema)))
    assert raised.value.field.startswith(field)
    assert stack.log == []


@pytest.mark.parametrize(
    "schema",
    [
        "{}",
        '{"$defs": {"a/b": {"type": "string"}}, "properties": {"a": {"$ref": "#/$defs/a~1b"}, "b": {"$ref": "#"}}}',
        '{"$ref": "#/anyOf/0", "anyOf": [{}]}',
        '{"properties": {"$ref": {"type": "string"}}}',
        '{"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]}',
        '{"$schema": "https://json-schema.org/draft/2020-12/schema", "prefixItems": [{"type": "string"}]}',
    ],
)
async def test_a_response_schema_may_refer_to_itself_and_name_its_draft(schema: str) -> None:
    stack = Stack()
    await stack.router.complete(stack.call(), ask("Hi", sampling=Sampling(response_schema=schema)))
    assert len(stack.models.prompts) == 1


async def test_a_response_schema_of_patterns_is_not_compiled() -> None:
    patterns = {f"p{i}": {"pattern": f"^(a|b|{i}){{1,900}}[a-z0-9]{{1,900}}$"} for i in range(1000)}
    started = time.process_time()
    stack = Stack()
    schema = json.dumps({"properties": patterns})
    await stack.router.complete(stack.call(), ask("Hi", sampling=Sampling(response_schema=schema)))
    assert time.process_time() - started < 1  # 5 s where it is


async def test_tools_and_a_response_schema_contradict_one_another() -> None:
    stack = Stack()
    request = ask("Hi", task="calls", tools=(LIGHTS,), sampling=Sampling(response_schema="{}"))
    with pytest.raises(InvalidField, match="wanted one of the two"):
        await stack.router.complete(stack.call(), request)


@pytest.mark.parametrize(
    "parameters",
    ["{", "[]", "1", '{"properties": []}', '{"properties": {"a": true}}', '{"required": [1]}', '{"required": "a"}',
     '{"properties": {"a": {"enum": 1}}}', "[" * 10_000, '{"a": NaN}', '"\\ud800x"'],
)  # fmt: skip
async def test_a_tool_schema_that_is_none_is_refused_by_name(parameters: str) -> None:
    stack = Stack()
    tool = type(LIGHTS)(name="t", parameters=parameters)
    with pytest.raises(InvalidField, match=r"tools\[0\]\.parameters"):
        await stack.router.complete(stack.call(), ask("Hi", task="calls", tools=(tool,)))


async def test_an_unknown_key_is_turned_away() -> None:
    stack = Stack()
    with pytest.raises(Unauthenticated):
        await stack.router.complete(stack.call(key="wrong"), ask("Hi"))
    assert stack.log == []


async def test_a_deadline_that_has_passed_is_said_before_anybody_is_asked() -> None:
    stack = Stack()
    with pytest.raises(DeadlineExceeded):
        await stack.router.complete(stack.call(deadline_seconds=-0.1), ask("Hi"))
    assert stack.log == []


async def test_the_model_gets_of_the_shorter_deadline_what_is_left_and_its_verdict_does_not_need() -> None:
    stack = Stack()
    stack.governance.seconds = 1.0
    await stack.router.complete(stack.call(deadline_seconds=3.0), ask("Hi"))
    await stack.router.complete(stack.call(deadline_seconds=300.0), ask("Hi"))
    assert stack.models.timeouts == [pytest.approx(0.95 * 2.0), pytest.approx(0.95 * 9.0)]


async def test_a_deadline_that_passes_on_the_way_is_on_record() -> None:
    stack = Stack()
    stack.governance.seconds = 20.0
    with pytest.raises(DeadlineExceeded):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert stack.recorder.last.finish_reason == "error"


@pytest.mark.parametrize("silent", ["input", "output"])
async def test_a_deadline_that_passes_while_governance_decides_is_no_silence_of_governance(silent: str) -> None:
    stack = Stack()
    if silent == "input":
        stack.governance.seconds, stack.governance.silent = 20.0, True
    else:
        stack.governance.output_seconds, stack.governance.silent_after_outputs = 20.0, 0
    with pytest.raises(DeadlineExceeded):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert stack.recorder.last.finish_reason == "error"
