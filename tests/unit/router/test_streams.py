"""Answers in pieces, and callers that go away."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

import pytest

from schemas.bundle import Bundle
from schemas.events import Message
from services.router.domain.errors import Refused, Unrecorded
from services.router.domain.request import Request, Sampling
from services.router.journal import Piece
from services.runtime.errors import Unauthenticated
from tests.unit.router.fakes import DENIED, LIGHTS, Stack, ask, collect, user


async def test_a_stream_without_the_acknowledgement_of_its_end_does_not_end_well() -> None:
    stack = Stack()
    stack.recorder.silent_after = 1
    stack.models.pieces = ["word " * 60]
    with pytest.raises(Unrecorded):
        await collect(stack, ask("Hi"))
    assert [record.phase for record in stack.recorder.interactions] == ["opened"]


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
            stack.log.append("released" if isinstance(piece, Piece) else "ended")
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
            assert isinstance(piece, Piece)
            text += piece.text

    with pytest.raises(Refused):
        await read()
    assert "the" not in text
    assert set(text.split()) <= {"fine", "words"}
    assert (stack.recorder.last.finish_reason, stack.recorder.last.answer) == ("refused", text)


def guarded(guardrail: dict[str, object]) -> Stack:
    stack = Stack()
    bundle = Bundle.model_validate(stack.catalogue.bundle.model_dump() | {"guardrails": {"default": [guardrail]}})
    stack.catalogue = replace(stack.catalogue, bundle=bundle)
    return stack


async def test_of_instructions_so_much_is_held_back_that_governance_can_tell_them() -> None:
    stack = guarded({"detect": ["leak"], "action": "refuse", "directions": ["output"], "words": 20})
    stack.models.pieces = ["a " * 300]
    own = Message(role="system", content="antidisestablishmentarian " * 8)
    pieces, _ = await collect(stack, Request(messages=(own, user("Hi"))))
    assert stack.governance.asked[0].instructions == ("Be kind.", own.content.strip())
    escaped = len("antidisestablishmentarian") + len("n")  # as a line in JSON ends
    assert pieces[0] == "a " * (300 - 8 * escaped - 1)


async def test_what_made_governance_refuse_an_answer_is_on_record_where_it_stood() -> None:
    stack = Stack()
    stack.models.pieces = ["fine words " * 30, f"and {DENIED}"]
    with pytest.raises(Refused):
        await collect(stack, ask("Hi"))
    record = stack.recorder.last
    (finding,) = [finding for finding in record.findings if finding.direction == "output"]
    assert (finding.kind, finding.start) == ("denied", len("fine words " * 30 + "and "))
    assert record.output_verdict == "refuse"


async def test_an_empty_answer_is_asked_about_where_a_form_was_wanted() -> None:
    stack = guarded({"detect": ["format"], "action": "refuse", "directions": ["output"]})
    stack.models.pieces = []
    await stack.router.complete(stack.call(), ask("Hi", sampling=Sampling(response_schema="{}")))
    assert stack.governance.outputs == [""]


async def test_what_must_obey_a_schema_leaves_whole_once_its_form_was_checked() -> None:
    stack = guarded({"detect": ["format"], "action": "refuse", "directions": ["output"]})
    stack.models.pieces = ['{"words": "', "word " * 60, '"}']
    schema = '{"type":"object"}'
    pieces, _ = await collect(stack, ask("Hi", sampling=Sampling(response_schema=schema)))
    assert pieces == ["".join(stack.models.pieces)]
    assert [asked.schema for asked in stack.governance.asked] == [schema]


async def test_an_address_cut_in_two_leaves_a_stream_masked() -> None:
    stack = Stack()
    before = "some words " * 20
    stack.models.pieces = [before + "bob@exam", "ple.com", " " + "and then " * 30]
    pieces, _ = await collect(stack, ask("Hi"))
    assert "".join(pieces) == before + "<EMAIL_1> " + "and then " * 30
    found = [finding for finding in stack.recorder.last.findings if finding.direction == "output"]
    assert [(finding.start, finding.end) for finding in found] == [(len(before), len(before) + 15)]


async def test_the_record_says_under_which_verdict_each_part_left() -> None:
    stack = Stack()
    stack.models.pieces = ["some words " * 20, "bob@example.com " + "and then " * 30]
    await collect(stack, ask("Hi"))
    record = stack.recorder.last
    parts = [(release.verdict, record.answer[release.start : release.end]) for release in record.releases]
    assert "".join(text for _, text in parts) == record.answer
    assert [verdict for verdict, text in parts if "<EMAIL_1>" in text] == ["mask"]
    assert {verdict for verdict, _ in parts} == {"pass", "mask"}
    assert len(parts) <= 3
    assert {release.bundle_version for release in record.releases} == {"b1"}


async def test_a_caller_that_goes_away_stops_the_model_and_is_on_record() -> None:
    stack = Stack()
    stack.models.pieces = ["word " * 60, "more", "never"]
    stack.models.hangs_after = 1
    stream = stack.router.stream(stack.call(), ask("Hi"))
    assert isinstance(await anext(stream), Piece)
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
    assert await anext(stream) == Piece("Hello there", "small")
    await stream.aclose()
    await stack.router.drain()
    assert [record.phase for record in stack.recorder.interactions] == ["opened", "finished"]
    assert stack.recorder.last.finish_reason == "stop"


async def test_a_streamed_function_call_is_released_whole() -> None:
    stack = Stack()
    stack.models.pieces = ['{"name": "lights", "arguments": {"room": "', "x" * 500, '"}}']
    pieces, completion = await collect(stack, ask("Light!", task="calls", tools=(LIGHTS,)))
    assert pieces == []
    assert completion.finish_reason == "tool_calls"
    assert [record.phase for record in stack.recorder.interactions] == ["opened", "finished"]


async def test_what_is_only_flagged_in_a_stream_is_on_record_once() -> None:
    stack = Stack()
    stack.governance.action = "flag"
    before = "some words " * 20
    stack.models.pieces = [before + "bob@exam", "ple.com ", "and then " * 3, "and then " * 30]
    pieces, _ = await collect(stack, ask("Hi"))
    assert "".join(pieces) == before + "bob@example.com " + "and then " * 33
    found = [(finding.action, finding.start) for finding in stack.recorder.last.findings]
    assert found == [("flag", len(before))]
    assert stack.recorder.last.output_verdict == "pass"


def without_its_key(stack: Stack) -> None:
    """Have a bundle in force in which the application has another key."""
    content = stack.catalogue.bundle.model_dump()
    content["applications"]["web"]["key_sha256"] = ["0" * 64]
    stack.catalogue = replace(stack.catalogue, bundle=Bundle.model_validate(content), version="b2")


async def test_a_stream_ends_where_its_key_was_taken_back() -> None:
    stack = Stack()
    stack.models.pieces = ["word " * 60] * 3
    text = ""

    async def read() -> None:
        nonlocal text
        async for piece in stack.router.stream(stack.call(), ask("Hi")):
            assert isinstance(piece, Piece)
            text += piece.text
            without_its_key(stack)

    with pytest.raises(Unauthenticated):
        await read()
    assert 0 < len(text) < len("word " * 60)
    assert stack.models.was_stopped
    assert (stack.recorder.last.finish_reason, stack.recorder.last.answer) == ("error", text)


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_answer_does_not_leave_for_a_key_that_was_taken_back_meanwhile(streamed: bool) -> None:
    stack = Stack()
    stack.models.hangs_after = 1

    async def answered() -> None:
        if streamed:
            await collect(stack, ask("Hi"))
        else:
            await stack.router.complete(stack.call(), ask("Hi"))

    asking = asyncio.create_task(answered())
    await stack.models.hanging.wait()
    without_its_key(stack)
    stack.models.goes_on.set()
    with pytest.raises(Unauthenticated):
        await asking
    assert (stack.recorder.last.finish_reason, stack.recorder.last.answer) == ("error", "")


async def test_another_bundle_that_still_has_the_key_ends_nothing() -> None:
    stack = Stack()
    stack.models.pieces = ["word " * 60] * 3
    text = ""
    async for piece in stack.router.stream(stack.call(), ask("Hi")):
        stack.catalogue = replace(stack.catalogue, bundle=stack.catalogue.bundle.model_copy(), version="b2")
        text += piece.text if isinstance(piece, Piece) else ""
    assert text == "word " * 180
