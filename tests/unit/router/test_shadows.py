"""A specialist in the shadow: asked what others have answered, on record, and never heard."""

import asyncio
from typing import Any

import msgspec
import pytest

from schemas.events import Deployment, Message, Sensitivity, Specialist
from services.router import shadows
from services.router.domain.errors import Refused
from services.router.domain.request import Request
from services.runtime.errors import NotFound, Retryable
from tests.unit.router.fakes import DENIED, LIGHTS, Stack, ask, collect, deployment

SPECIALIST = "specialist-shop-chat"


def in_shadow(task: str = "chat", **changed: Any) -> Deployment:
    return msgspec.structs.replace(deployment(task), share=0.0, **changed)


async def settled(stack: Stack) -> None:
    """Wait until nobody is asked any more."""
    while asking := stack.router._shadows._asking:
        await asyncio.wait(asking)


async def test_it_is_asked_once_the_caller_has_its_answer_and_its_own_goes_on_record_alone() -> None:
    stack = Stack(in_shadow())
    stack.models.answers[SPECIALIST] = "Another answer"
    completion = await stack.router.complete(stack.call(), ask("Hi", user="bob"))
    assert (completion.message.content, completion.model) == ("Hello there", "small")
    assert [prompt.model for prompt in stack.models.prompts] == ["small-llm"]
    await settled(stack)
    assert stack.log.index("record finished") < stack.log.index("generate", stack.log.index("generate") + 1)
    (recorded,) = stack.recorder.shadows
    assert (recorded.request_id, recorded.task) == (completion.request_id, "chat")
    assert (recorded.candidate_id, recorded.model, recorded.model_version) == ("c1", SPECIALIST, "3")
    assert (recorded.answer, recorded.finish_reason, recorded.sum_logprob) == ("Another answer", "stop", -1.5)
    assert [(each.model, each.outcome) for each in recorded.attempts] == [(SPECIALIST, "answered")]
    (interaction,) = stack.recorder.interactions
    assert (interaction.model, interaction.answer, len(interaction.attempts)) == ("small", "Hello there", 1)


async def test_a_stream_is_followed_by_it_too() -> None:
    stack = Stack(in_shadow())
    pieces, completion = await collect(stack, ask("Hi"))
    await settled(stack)
    assert "".join(pieces) == "Hello there"
    assert [each.request_id for each in stack.recorder.shadows] == [completion.request_id]


async def test_it_sees_and_says_what_is_masked() -> None:
    stack = Stack(in_shadow())
    stack.models.answers[SPECIALIST] = "Write to bob@example.com or ann@example.com"
    await stack.router.complete(stack.call(), ask("I am bob@example.com"))
    await settled(stack)
    assert stack.models.prompts[-1].messages[-1]["content"] == "I am <EMAIL_1>"
    (recorded,) = stack.recorder.shadows
    assert recorded.answer == "Write to <EMAIL_1> or <EMAIL_2>"
    assert [finding.kind for finding in recorded.findings] == ["email", "email"]


async def test_its_own_prompt_and_schema_are_used_and_a_call_is_told_as_one() -> None:
    stack = Stack(in_shadow("calls"))
    stack.models.answers["specialist-shop-calls"] = '{"name": "lights", "arguments": {"room": "hall"}}'
    request = Request(messages=(Message(role="user", content="Lights!"),), task="calls", tools=(LIGHTS,))
    await stack.router.complete(stack.call(), request)
    await settled(stack)
    assert stack.models.prompts[-1].messages[0]["content"] == "You are the specialist."
    assert stack.recorder.shadows[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("who", [{}, {"user": "bob"}])
async def test_nobody_is_answered_by_it_and_nobody_can_name_it(who: dict[str, str]) -> None:
    stack = Stack(in_shadow())
    explanation = await stack.router.explain(stack.call(), ask("Hi", **who))
    assert explanation.journal.decision is not None
    assert [each.model for each in explanation.journal.decision.candidates] == ["small", "big"]
    assert SPECIALIST not in stack.router.model_names("a-key")
    with pytest.raises(NotFound, match=SPECIALIST):
        await stack.router.complete(stack.call(), ask("Hi", model=SPECIALIST, **who))


async def test_beside_it_the_specialist_before_answers() -> None:
    before = Specialist(
        candidate_id="c0",
        model_version="2",
        adapter_path="",
        system_prompt="You were the specialist.",
        response_schema="",
        sensitivity=Sensitivity.PUBLIC,
    )
    stack = Stack(in_shadow(before=(before,)))
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    await settled(stack)
    assert (completion.model, completion.model_version) == (SPECIALIST, "2")
    assert [each.model_version for each in stack.recorder.shadows] == ["3"]


async def test_it_is_not_asked_where_no_policy_clears_it_for_what_it_would_see() -> None:
    stack = Stack(in_shadow())
    stack.governance.cleared = {"specialist": Sensitivity.PUBLIC, "small": Sensitivity.RESTRICTED}
    await stack.router.complete(stack.call(), ask("Hi"))
    await settled(stack)
    assert len(stack.models.prompts) == 1


async def test_it_is_not_asked_what_a_model_was_named_for_or_what_was_refused() -> None:
    stack = Stack(in_shadow())
    await stack.router.complete(stack.call(), ask("Hi", model="small"))
    stack.models.pieces = (DENIED,)
    with pytest.raises(Refused):
        await stack.router.complete(stack.call(), ask("Hi"))
    await settled(stack)
    assert len(stack.models.prompts) == 2


async def test_what_it_may_not_say_is_on_record_as_refused_without_the_words() -> None:
    stack = Stack(in_shadow())
    stack.models.answers[SPECIALIST] = f"It is {DENIED}"
    await stack.router.complete(stack.call(), ask("Hi"))
    await settled(stack)
    (recorded,) = stack.recorder.shadows
    assert (recorded.answer, recorded.finish_reason) == ("", "refused")
    assert [finding.kind for finding in recorded.findings] == ["denied"]


async def test_without_a_verdict_nothing_of_its_answer_is_kept() -> None:
    stack = Stack(in_shadow())
    stack.governance.silent_after_outputs = 1
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    await settled(stack)
    assert completion.message.content == "Hello there"
    assert stack.recorder.shadows == []


async def test_its_failure_is_on_record_and_costs_the_caller_nothing() -> None:
    stack = Stack(in_shadow())
    stack.models.failing[SPECIALIST] = [Retryable("away"), Retryable("away")]
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    await settled(stack)
    assert completion.finish_reason == "stop"
    (recorded,) = stack.recorder.shadows
    assert (recorded.answer, recorded.finish_reason, recorded.error) == ("", "error", "away")
    assert [each.outcome for each in recorded.attempts] == ["failed", "failed"]


async def test_callers_come_first_and_enough_are_asked_at_once() -> None:
    stack = Stack(in_shadow())
    stack.models.hangs_after, stack.models.hanging_model = 0, SPECIALIST
    for _ in range(shadows.AT_ONCE + 2):
        await stack.router.complete(stack.call(), ask("Hi"))
    await stack.models.hanging.wait()
    asked = [prompt.model for prompt in stack.models.prompts]
    assert (asked.count("small-llm"), asked.count(SPECIALIST)) == (shadows.AT_ONCE + 2, shadows.AT_ONCE)
    await stack.router.drain()
    assert stack.models.was_stopped
    assert stack.recorder.shadows == []


async def test_it_is_left_out_where_its_upstream_is_busy() -> None:
    stack = Stack(in_shadow())
    shadow = stack.catalogue.shadow("shop", "chat")
    assert shadow is not None
    inference = stack.router._inference
    async with asyncio.timeout(5):
        holding = [inference._slot(shadow, 1.0) for _ in range(shadow.upstream.concurrency)]
        for each in holding:
            await each.__aenter__()
        assert not inference.has_room(shadow)
        for each in holding:
            await each.__aexit__(None, None, None)
    assert inference.has_room(shadow)


async def test_explaining_asks_it_nothing() -> None:
    stack = Stack(in_shadow())
    await stack.router.explain(stack.call(), ask("Hi"))
    await settled(stack)
    assert stack.models.prompts == []
