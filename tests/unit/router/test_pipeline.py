import asyncio
from collections import Counter
from contextlib import aclosing

import msgspec
import pytest

from schemas.events import Message, Sensitivity, ToolCall
from services.router.domain.errors import GovernanceSilent, InvalidField, Refused, Unrecorded
from services.router.domain.knowledge import Knowledge, Passage, Turn
from services.router.domain.request import Feedback, Request, Sampling
from services.router.journal import Completion
from services.runtime.errors import DeadlineExceeded, InvalidArgument, NotFound, Retryable, Unauthenticated
from tests.unit.router.fakes import DENIED, ID, LIGHTS, Stack, deployment, user

SEVEN = {"routing", "governance", "context-stitching", "monitoring", "policy", "data-prep", "audit"}


def ask(*contents: str, **more: object) -> Request:
    return Request(messages=tuple(user(content) for content in contents), **more)  # type: ignore[arg-type]


async def collect(stack: Stack, request: Request) -> tuple[list[str], Completion]:
    pieces = [piece async for piece in stack.router.stream(stack.call(), request)]
    assert isinstance(pieces[-1], Completion)
    return [piece for piece in pieces if isinstance(piece, str)], pieces[-1]


async def test_an_answer_is_released_only_after_its_record_is_acknowledged() -> None:
    stack = Stack()
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.message.content == "Hello there"
    assert stack.log.index("check input") < stack.log.index("generate") < stack.log.index("check output")
    assert stack.log[-1] == "record finished"
    record = stack.recorder.last
    assert (record.phase, record.finish_reason, record.answer) == ("finished", "stop", "Hello there")
    assert record.request_id == completion.request_id == ID.format(1)
    assert (record.tenant, record.application, record.task, record.model) == ("shop", "web", "chat", "small")
    assert (record.prompt_tokens, record.completion_tokens, record.mean_logprob) == (11, 2, -0.5)
    assert len(record.language) == 2


async def test_every_function_of_the_pipeline_is_timed() -> None:
    stack = Stack()
    stack.governance.seconds, stack.governance.policy_us = 0.004, 1000
    stack.models.seconds_a_piece = 0.5
    await stack.router.complete(stack.call(), ask("Hi"))
    record = stack.recorder.last
    assert {stage.name for stage in record.stages} == SEVEN | {"inference"}
    durations = Counter[str]()
    for stage in record.stages:
        durations[stage.name] += stage.duration_us
    assert (durations["governance"], durations["policy"]) == (3000, 1000)
    assert durations["inference"] == 1_000_000
    assert record.first_token_us == 504_000
    assert record.total_us == 1_004_000


async def test_context_is_asked_while_governance_decides_and_stopped_when_that_refuses() -> None:
    stack = Stack()
    stack.context.hangs = True
    stack.governance.waits_for = stack.context.asked
    with pytest.raises(Refused):
        await stack.router.complete(stack.call(), ask(DENIED))
    await asyncio.sleep(0)
    assert stack.context.was_cancelled


async def test_without_a_verdict_a_request_is_refused_and_its_unmasked_text_stays_out_of_the_record() -> None:
    stack = Stack()
    stack.governance.silent = True
    with pytest.raises(GovernanceSilent, match="governance gave no verdict"):
        await stack.router.complete(stack.call(), ask("I am bob@example.com", tools=()))
    record = stack.recorder.last
    assert (record.finish_reason, record.sensitivity) == ("refused", Sensitivity.RESTRICTED)
    assert record.messages == (Message(role="user"),)
    assert stack.models.prompts == []


async def test_without_a_verdict_on_the_answer_it_is_withheld() -> None:
    stack = Stack()
    stack.governance.silent_after_outputs = 0
    with pytest.raises(GovernanceSilent):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert (stack.recorder.last.finish_reason, stack.recorder.last.answer) == ("refused", "")


async def test_without_context_a_request_goes_on_and_says_so() -> None:
    stack = Stack()
    stack.context.silent = True
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert not completion.context_available
    assert not stack.recorder.last.context_available
    assert stack.recorder.last.finish_reason == "stop"


async def test_without_an_acknowledgement_the_answer_is_withheld() -> None:
    stack = Stack()
    stack.recorder.silent = True
    with pytest.raises(Unrecorded, match="could not be recorded"):
        await stack.router.complete(stack.call(), ask("Hi"))
    with pytest.raises(Unrecorded):
        await collect(stack, ask("Hi"))


async def test_a_stream_without_the_acknowledgement_of_its_end_does_not_end_well() -> None:
    stack = Stack()
    stack.recorder.silent_after = 1
    stack.models.pieces = ["word " * 60]
    with pytest.raises(Unrecorded):
        await collect(stack, ask("Hi"))
    assert [record.phase for record in stack.recorder.interactions] == ["opened"]


async def test_denied_text_is_refused_and_recorded() -> None:
    stack = Stack()
    with pytest.raises(Refused, match="denied"):
        await stack.router.complete(stack.call(), ask(f"Tell me {DENIED} of bob@example.com"))
    record = stack.recorder.last
    assert (record.finish_reason, record.input_verdict) == ("refused", "refuse")
    assert "bob@example.com" not in record.messages[0].content
    assert {finding.kind for finding in record.findings} == {"denied", "email"}
    assert stack.models.prompts == []


async def test_a_refusal_stands_while_kafka_is_silent() -> None:
    stack = Stack()
    stack.recorder.silent = True
    with pytest.raises(Refused):
        await stack.router.complete(stack.call(), ask(f"Tell me {DENIED}"))


async def test_the_model_and_the_record_see_masked_text() -> None:
    stack = Stack()
    request = Request(
        messages=(
            user("I am bob@example.com"),
            Message(
                role="assistant",
                tool_calls=(ToolCall(id="1", name="lights", arguments='{"room":"bob@example.com"}'),),
            ),
            user("Thanks"),
        ),
        task="calls",
        tools=(LIGHTS,),
    )
    await stack.router.complete(stack.call(), request)
    shown = str(stack.models.prompts[0].messages)
    assert "bob@" not in shown
    assert "<EMAIL>" in shown
    assert "bob@" not in str(stack.recorder.last)
    assert stack.recorder.last.input_verdict == "mask"


async def test_a_mask_that_breaks_the_json_of_arguments_leaves_them_readable() -> None:
    stack = Stack()
    arguments = ToolCall(id="1", name="lights", arguments='{"x@y.com":1}')
    messages = (Message(role="assistant", tool_calls=(arguments,)), user("Hi"))
    await stack.router.complete(stack.call(), Request(messages=messages))
    assert "<EMAIL>" in stack.models.prompts[0].messages[1]["content"]


async def test_an_answer_is_masked_on_the_way_out_and_recorded_as_released() -> None:
    stack = Stack()
    stack.models.pieces = ["Write to bob@exa", "mple.com please"]
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.message.content == "Write to <EMAIL> please" == stack.recorder.last.answer
    assert stack.recorder.last.output_verdict == "mask"


async def test_a_denied_answer_is_not_released() -> None:
    stack = Stack()
    stack.models.pieces = ["It is the sec", "ret sauce"]
    with pytest.raises(Refused):
        await stack.router.complete(stack.call(), ask("Hi"))
    record = stack.recorder.last
    assert (record.finish_reason, record.output_verdict, record.answer) == ("refused", "refuse", "")


async def test_a_stream_is_the_answer_in_pieces_between_its_two_records() -> None:
    stack = Stack()
    words = [f"word{i} " for i in range(100)]
    stack.models.pieces = words
    pieces, completion = await collect(stack, ask("Hi"))
    assert "".join(pieces) == "".join(words) == completion.message.content
    assert len(pieces) > 3
    assert [record.phase for record in stack.recorder.interactions] == ["opened", "finished"]
    assert stack.recorder.interactions[0].answer == ""
    assert stack.recorder.last.answer == "".join(words)
    assert stack.recorder.last.streamed


async def test_no_byte_of_a_stream_leaves_before_opened_is_acknowledged_nor_the_last_before_finished() -> None:
    stack = Stack()
    stack.models.pieces = ["word " * 30] * 3
    async with aclosing(stack.router.stream(stack.call(), ask("Hi"))) as stream:
        async for piece in stream:
            stack.log.append("released" if isinstance(piece, str) else "ended")
    assert stack.log.index("record opened") < stack.log.index("released")
    assert stack.log[-3:] == ["record finished", "released", "ended"]


@pytest.mark.parametrize("cut", range(1, len(DENIED)))
async def test_a_denied_text_cut_in_two_never_leaves_a_stream(cut: int) -> None:
    stack = Stack()
    stack.models.pieces = ["fine words " * 20 + DENIED[:cut], DENIED[cut:] + " and more" * 20]
    text = ""

    async def read() -> None:
        nonlocal text
        async for piece in stack.router.stream(stack.call(), ask("Hi")):
            text += str(piece)

    with pytest.raises(Refused):
        await read()
    assert "the" not in text
    assert set(text.split()) <= {"fine", "words"}
    assert (stack.recorder.last.finish_reason, stack.recorder.last.answer) == ("refused", text)


async def test_an_address_cut_in_two_leaves_a_stream_masked() -> None:
    stack = Stack()
    before = "some words " * 20
    stack.models.pieces = [before + "bob@exam", "ple.com", " " + "and then " * 30]
    pieces, _ = await collect(stack, ask("Hi"))
    assert "".join(pieces) == before + "<EMAIL> " + "and then " * 30
    found = [finding for finding in stack.recorder.last.findings if finding.direction == "output"]
    assert [(finding.start, finding.end) for finding in found] == [(len(before), len(before) + 15)]


async def test_a_caller_that_goes_away_stops_the_model_and_is_on_record() -> None:
    stack = Stack()
    stack.models.pieces = ["word " * 60, "more", "never"]
    stack.models.hangs_after = 1
    stream = stack.router.stream(stack.call(), ask("Hi"))
    assert isinstance(await anext(stream), str)
    await stream.aclose()
    await stack.router.drain()
    assert stack.models.was_stopped
    record = stack.recorder.last
    assert (record.phase, record.finish_reason) == ("finished", "cancelled")
    assert record.answer.startswith("word")


async def test_a_caller_that_goes_away_while_it_waits_stops_the_model_and_is_on_record() -> None:
    stack = Stack()
    stack.models.hangs_after = 1
    task = asyncio.create_task(stack.router.complete(stack.call(), ask("Hi")))
    await stack.models.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await stack.router.drain()
    assert stack.models.was_stopped
    assert [record.finish_reason for record in stack.recorder.interactions] == ["cancelled"]


async def test_a_caller_that_goes_away_after_the_record_leaves_one_finished_record() -> None:
    stack = Stack()
    stream = stack.router.stream(stack.call(), ask("Hi"))
    assert await anext(stream) == "Hello there"
    await stream.aclose()
    await stack.router.drain()
    assert [record.phase for record in stack.recorder.interactions] == ["opened", "finished"]
    assert stack.recorder.last.finish_reason == "stop"


async def test_a_model_that_fails_is_on_record() -> None:
    stack = Stack()
    stack.models.fails_with = Retryable("the model is away")
    with pytest.raises(Retryable, match="the model is away"):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert (stack.recorder.last.finish_reason, stack.recorder.last.error) == ("error", "the model is away")


async def test_what_nobody_expected_is_on_record_without_its_text() -> None:
    stack = Stack()
    stack.models.fails_with = RuntimeError("password=hunter2")
    with pytest.raises(RuntimeError):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert (stack.recorder.last.finish_reason, stack.recorder.last.error) == ("error", "unexpected RuntimeError")


async def test_a_function_call_becomes_a_tool_call() -> None:
    stack = Stack()
    stack.models.pieces = ['{"name": "lights", ', '"arguments": {"room": "kitchen"}}']
    completion = await stack.router.complete(stack.call(), ask("Light!", task="calls", tools=(LIGHTS,)))
    (call,) = completion.message.tool_calls
    assert (call.name, call.arguments, completion.finish_reason) == ("lights", '{"room":"kitchen"}', "tool_calls")
    assert completion.message.content == ""
    assert stack.recorder.last.answer == '{"name": "lights", "arguments": {"room": "kitchen"}}'
    assert "lights(room: string)" in stack.models.prompts[0].messages[0]["content"]


async def test_a_streamed_function_call_is_released_whole() -> None:
    stack = Stack()
    stack.models.pieces = ['{"name": "lights", "arguments": {"room": "', "x" * 500, '"}}']
    pieces, completion = await collect(stack, ask("Light!", task="calls", tools=(LIGHTS,)))
    assert pieces == []
    assert completion.finish_reason == "tool_calls"
    assert [record.phase for record in stack.recorder.interactions] == ["opened", "finished"]


@pytest.mark.parametrize(
    "answer", ['{"name": "doors", "arguments": {}}', '{"name": "lights", "arguments": 1}', "no json", "[1]", "[" * 5000]
)
async def test_what_is_no_call_of_an_offered_tool_stays_text(answer: str) -> None:
    stack = Stack()
    stack.models.pieces = [answer]
    pieces, completion = await collect(stack, ask("Light!", task="calls", tools=(LIGHTS,)))
    assert "".join(pieces) == completion.message.content == answer
    assert completion.message.tool_calls == ()


async def test_a_live_specialist_of_the_task_answers_if_it_is_cleared() -> None:
    stack = Stack(deployment(schema='{"type":"object"}'))
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert (completion.model, completion.tier, completion.model_version) == ("specialist-shop-chat", "specialist", "3")
    asked = stack.models.prompts[0]
    assert asked.messages[0] == {"role": "system", "content": "You are the specialist."}
    assert asked.sampling["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert stack.recorder.last.candidate_id == "c1"


async def test_a_specialist_is_held_to_the_functions_that_a_request_offers() -> None:
    stack = Stack(deployment(task="calls", schema='{"type":"object"}'))
    await stack.router.complete(stack.call(), ask("Light!", task="calls", tools=(LIGHTS,)))
    await stack.router.complete(stack.call(), ask("Light!", task="calls"))
    offered, taught = (prompt.sampling["response_format"]["json_schema"]["schema"] for prompt in stack.models.prompts)
    assert [call["properties"]["name"] for call in offered["anyOf"]] == [{"const": "lights"}]
    assert taught == {"type": "object"}


@pytest.mark.parametrize("other", [deployment(state="none"), deployment(task="calls"), deployment(tenant="bank")])
async def test_a_specialist_of_something_else_does_not_answer(other: object) -> None:
    stack = Stack(other)  # type: ignore[arg-type]
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.model == "small"


async def test_a_model_that_is_not_cleared_is_passed_over() -> None:
    stack = Stack(deployment())
    stack.governance.cleared = {"small": Sensitivity.RESTRICTED}
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.model == "small"
    reasons = {candidate.model: candidate.reason for candidate in stack.recorder.last.candidates}
    assert reasons == {
        "specialist-shop-chat": "not cleared for internal",
        "small": "cheapest cleared live model",
        "big": "not cleared for internal",
    }


async def test_a_model_named_by_the_caller_answers_if_it_is_cleared() -> None:
    stack = Stack(deployment())
    completion = await stack.router.complete(stack.call(), ask("Hi", model="small"))
    assert completion.model == "small"
    with pytest.raises(Refused, match="'big' is cleared"):
        await stack.router.complete(stack.call(), ask("Hi", model="big"))
    assert stack.recorder.last.finish_reason == "refused"


async def test_without_a_cleared_model_a_request_is_refused() -> None:
    stack = Stack()
    stack.governance.cleared = {}
    with pytest.raises(Refused, match="no live model is cleared for internal"):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert stack.recorder.last.finish_reason == "refused"


def passage(name: str, sensitivity: Sensitivity) -> Passage:
    return Passage(name, f"Title {name}", f"Text {name}", sensitivity, 5, 0.5)


async def test_the_sensitivity_is_the_highest_of_all_that_the_model_sees() -> None:
    stack = Stack()
    stack.context.knowledge = Knowledge(passages=(passage("a", Sensitivity.CONFIDENTIAL),))
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.sensitivity == Sensitivity.CONFIDENTIAL
    assert completion.document_ids == ("a",)
    assert "Text a" in stack.models.prompts[0].messages[0]["content"]


async def test_what_would_leave_no_cleared_model_is_left_out_and_on_record() -> None:
    stack = Stack()
    turn = Turn(Message(role="user", content="earlier"), Sensitivity.RESTRICTED, 3)
    stack.context.knowledge = Knowledge(
        passages=(passage("a", Sensitivity.RESTRICTED), passage("b", Sensitivity.PUBLIC)), turns=(turn,)
    )
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.document_ids == ("b",)
    assert completion.sensitivity == Sensitivity.INTERNAL
    shown = str(stack.models.prompts[0].messages)
    assert "Text a" not in shown
    assert "earlier" not in shown
    dropped = [citation.document_id for citation in stack.recorder.last.citations if citation.dropped]
    assert dropped == ["a", "conversation"]


async def test_memory_comes_before_the_request_and_is_not_doubled() -> None:
    stack = Stack()
    turns = tuple(
        Turn(Message(role=role, content=text), Sensitivity.INTERNAL, 2)
        for role, text in (("user", "one"), ("assistant", "two"))
    )
    stack.context.knowledge = Knowledge(turns=turns)
    await stack.router.complete(stack.call(), ask("three", conversation_id="c"))
    assert [message["content"] for message in stack.models.prompts[0].messages[1:]] == ["one", "two", "three"]
    own_history = (user("one"), Message(role="assistant", content="two"), user("three"))
    await stack.router.complete(stack.call(), Request(messages=own_history, conversation_id="c"))
    assert [message["content"] for message in stack.models.prompts[1].messages[1:]] == ["one", "two", "three"]
    assert [record.memory_turns for record in stack.recorder.interactions] == [2, 0]


async def test_a_turn_that_is_worded_like_a_remembered_one_takes_nothing_from_memory() -> None:
    stack = Stack()
    called = ToolCall(id="1", name="lights", arguments='{"room": "hall"}')
    remembered = (user("yes"), Message(role="assistant", tool_calls=(called,)))
    stack.context.knowledge = Knowledge(turns=tuple(Turn(each, Sensitivity.INTERNAL, 2) for each in remembered))
    other = msgspec.structs.replace(called, arguments='{"room": "kitchen"}')
    await stack.router.complete(stack.call(), ask("yes", conversation_id="c"))
    told = (user("no"), Message(role="assistant", tool_calls=(other,)), user("yes"))
    await stack.router.complete(stack.call(), Request(messages=told, conversation_id="c"))
    assert [record.memory_turns for record in stack.recorder.interactions] == [2, 2]


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


async def test_the_model_gets_what_is_left_of_the_shorter_deadline() -> None:
    stack = Stack()
    stack.governance.seconds = 1.0
    await stack.router.complete(stack.call(deadline_seconds=3.0), ask("Hi"))
    await stack.router.complete(stack.call(deadline_seconds=300.0), ask("Hi"))
    assert stack.models.timeouts == [pytest.approx(2.0), pytest.approx(9.0)]


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


async def test_sampling_reaches_the_model_within_the_limits_of_task_and_model() -> None:
    stack = Stack()
    sampling = Sampling(temperature=0.7, max_tokens=500, stop=("END",), seed=7, response_schema='{"type":"string"}')
    await stack.router.complete(stack.call(), ask("Hi", sampling=sampling))
    assert stack.models.prompts[0].sampling == {
        "temperature": 0.7,
        "max_tokens": 64,
        "stop": ["END"],
        "seed": 7,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "string"}}},
    }


async def test_explain_decides_and_neither_asks_a_model_nor_records() -> None:
    stack = Stack(deployment())
    explanation = await stack.router.explain(stack.call(), ask("Hi, I am bob@example.com"))
    decision = explanation.journal.decision
    assert decision is not None
    assert decision.chosen is not None
    assert decision.chosen.name == "specialist-shop-chat"
    assert explanation.refusal == ""
    refused = await stack.router.explain(stack.call(), ask(DENIED))
    assert "denied" in refused.refusal
    assert stack.models.prompts == []
    assert stack.recorder.interactions == []


async def test_feedback_is_masked_and_recorded() -> None:
    stack = Stack()
    feedback = Feedback(ID.format(9), "edit", text="Write to bob@example.com", comment="ok")
    feedback_id = await stack.router.send_feedback(stack.call(), feedback)
    (recorded,) = stack.recorder.feedbacks
    assert (recorded.feedback_id, recorded.request_id) == (feedback_id, ID.format(9))
    assert (recorded.kind, recorded.text, recorded.comment) == ("edit", "Write to <EMAIL>", "ok")


@pytest.mark.parametrize("request_id", ["x", "", "3b9f0a51-25d4-4a50-a1a4-1f1d1c1b1a19"])
async def test_feedback_on_what_is_no_answer_of_ours_is_refused_by_name(request_id: str) -> None:
    stack = Stack()
    with pytest.raises(InvalidField, match="request_id"):
        await stack.router.send_feedback(stack.call(), Feedback(request_id, "rating", rating=1.0))


async def test_feedback_that_is_not_acknowledged_is_an_error() -> None:
    stack = Stack()
    stack.recorder.silent = True
    with pytest.raises(Unrecorded):
        await stack.router.send_feedback(stack.call(), Feedback(ID.format(9), "rating", rating=1.0))
