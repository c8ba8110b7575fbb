"""Which model answers, and what it is shown beside the request."""

import msgspec
import pytest

from schemas.events import Message, Sensitivity, ToolCall
from services.router.domain.errors import Refused
from services.router.domain.knowledge import Knowledge, Passage, Turn
from services.router.domain.request import Request
from tests.unit.router.fakes import LIGHTS, Stack, ask, deployment, user


def passage(name: str, sensitivity: Sensitivity) -> Passage:
    return Passage(name, f"Title {name}", f"Text {name}", sensitivity, 5, 0.5)


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
        "specialist-shop-chat": "not cleared for internal: no policy permits it",
        "small": "cheapest cleared live model",
        "big": "not cleared for internal: forbidden by no-big",
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
