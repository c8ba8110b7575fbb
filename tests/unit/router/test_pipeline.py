"""One request through the pipeline: what is asked, released and recorded."""

import asyncio
from collections import Counter

import msgspec
import pytest

from schemas.events import Message, Sensitivity, ToolCall
from services.router.domain.errors import GovernanceSilent, InvalidField, Refused, Unrecorded
from services.router.domain.knowledge import Knowledge
from services.router.domain.request import Feedback, Request, Sampling
from services.runtime.errors import Retryable
from tests.unit.router.fakes import DENIED, ID, LIGHTS, Stack, ask, collect, deployment, user

SEVEN = {"routing", "governance", "context-stitching", "monitoring", "policy", "data-prep", "audit"}


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


async def test_a_question_asked_again_is_told_as_feedback_on_the_answer_before() -> None:
    stack = Stack()
    stack.context.knowledge = Knowledge(asked_again=ID.format(9))
    await stack.router.complete(stack.call(), ask("Hi", user="u-1"))
    await stack.router.drain()
    (feedback,) = stack.recorder.feedbacks
    assert (feedback.request_id, feedback.kind, feedback.source) == (ID.format(9), "asked_again", "implicit")
    assert (feedback.tenant, feedback.application, feedback.user) == ("shop", "web", "u-1")
    assert stack.recorder.last.finish_reason == "stop"


async def test_the_results_of_tools_ask_nothing_again() -> None:
    stack = Stack()
    stack.context.knowledge = Knowledge(asked_again=ID.format(9))
    call = ToolCall(id="1", name="lights", arguments='{"room": "hall"}')
    messages = (
        user("Light!"),
        Message(role="assistant", tool_calls=(call,)),
        Message(role="tool", content="on", tool_call_id="1"),
    )
    await stack.router.complete(stack.call(), Request(messages=messages, task="calls", tools=(LIGHTS,)))
    await stack.router.drain()
    assert stack.recorder.feedbacks == []


async def test_governance_is_told_which_texts_are_the_applications_own() -> None:
    stack = Stack()
    messages = (Message(role="system", content="Be brief."), user("Hi"), Message(role="developer", content="Be kind."))
    await stack.router.complete(stack.call(), Request(messages=messages, tools=(LIGHTS,), task="calls"))
    assert stack.governance.instructions == [["Be brief.", "Be kind.", LIGHTS.description, LIGHTS.parameters]]


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
    assert "<EMAIL_1>" in shown
    assert "bob@" not in str(stack.recorder.last)
    assert stack.recorder.last.input_verdict == "mask"


async def test_a_mask_that_breaks_the_json_of_arguments_leaves_them_readable() -> None:
    stack = Stack()
    arguments = ToolCall(id="1", name="lights", arguments='{"x@y.com":1}')
    messages = (Message(role="assistant", tool_calls=(arguments,)), user("Hi"))
    await stack.router.complete(stack.call(), Request(messages=messages))
    assert "<EMAIL_1>" in stack.models.prompts[0].messages[1]["content"]


async def test_an_answer_is_masked_on_the_way_out_and_recorded_as_released() -> None:
    stack = Stack()
    stack.models.pieces = ["Write to bob@exa", "mple.com please"]
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.message.content == "Write to <EMAIL_1> please" == stack.recorder.last.answer
    assert stack.recorder.last.output_verdict == "mask"


async def test_a_denied_answer_is_not_released() -> None:
    stack = Stack()
    stack.models.pieces = ["It is the sec", "ret sauce"]
    with pytest.raises(Refused):
        await stack.router.complete(stack.call(), ask("Hi"))
    record = stack.recorder.last
    assert (record.finish_reason, record.output_verdict, record.answer) == ("refused", "refuse", "")


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


@pytest.mark.parametrize(
    "answer", ['{"name": "doors", "arguments": {}}', '{"name": "lights", "arguments": 1}', "no json", "[1]", "[" * 5000]
)
async def test_what_is_no_call_of_an_offered_tool_stays_text(answer: str) -> None:
    stack = Stack()
    stack.models.pieces = [answer]
    pieces, completion = await collect(stack, ask("Light!", task="calls", tools=(LIGHTS,)))
    assert "".join(pieces) == completion.message.content == answer
    assert completion.message.tool_calls == ()


async def test_sampling_reaches_the_model_within_the_limits_of_task_and_model() -> None:
    stack = Stack()
    sampling = Sampling(
        temperature=0.7, max_tokens=500, stop=("END",), seed=7, top_p=0.5, frequency_penalty=1.0,
        response_schema='{"type":"string"}',
    )  # fmt: skip
    await stack.router.complete(stack.call(), ask("Hi", sampling=sampling))
    assert stack.models.prompts[0].sampling == {
        "temperature": 0.7,
        "max_tokens": 64,
        "stop": ["END"],
        "seed": 7,
        "top_p": 0.5,
        "frequency_penalty": 1.0,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "string"}}},
    }


@pytest.mark.parametrize(("share", "canary", "tier"), [(1.0, False, "specialist"), (1e-9, False, "small")])
async def test_a_canary_answers_its_share_alone(share: float, canary: bool, tier: str) -> None:
    stack = Stack(msgspec.structs.replace(deployment(), share=share))
    await stack.router.complete(stack.call(), ask("Hi", user="bob"))
    (recorded,) = stack.recorder.interactions
    assert (recorded.tier, recorded.canary) == (tier, canary)


async def test_who_names_a_canary_is_answered_by_it_and_the_record_says_that_it_was_one() -> None:
    stack = Stack(msgspec.structs.replace(deployment(), share=1e-9))
    await stack.router.complete(stack.call(), ask("Hi", model="specialist-shop-chat", user="bob"))
    (recorded,) = stack.recorder.interactions
    assert (recorded.candidate_id, recorded.canary) == ("c1", True)


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
    assert (recorded.kind, recorded.text, recorded.comment) == ("edit", "Write to <EMAIL_1>", "ok")


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
