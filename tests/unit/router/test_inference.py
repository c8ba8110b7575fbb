"""Who is asked for an answer where a model fails or is unsure, and what the record says of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
import pytest

from schemas.bundle import Bundle, Cascade
from schemas.events import Deployment, Interaction, Sensitivity
from services.router.domain.errors import Overloaded
from services.router.domain.upstreams import FAILURES, RETRIES_SAVED
from services.router.journal import Completion
from services.runtime.embeddings import Space
from services.runtime.errors import DeadlineExceeded, InvalidArgument, Retryable
from tests.unit.router.fakes import LIGHTS, Stack, ask, collect, deployment
from tests.unit.router.test_experience import answers, outcome
from tests.unit.router.test_tasks import space

AWAY = "the model is away"
CALL = '{"name": "lights", "arguments": {"room": "hall"}}'


def stack_of(
    cascade: Cascade | None = None, *deployments: Deployment, space: Callable[[], Space] | None = None
) -> Stack:
    """A router whose requests both of its generic models may answer, with a cascade for every task."""
    stack = Stack(*deployments, space=space)
    stack.governance.cleared["big"] = Sensitivity.CONFIDENTIAL
    bundle = stack.catalogue.bundle
    tasks = {name: task.model_copy(update={"cascade": cascade}) for name, task in bundle.tasks.items()}
    use(stack, bundle.model_copy(update={"tasks": tasks}))
    return stack


def use(stack: Stack, bundle: Bundle) -> None:
    object.__setattr__(stack.catalogue, "bundle", bundle)


def outcomes(record: Interaction) -> list[tuple[str, str]]:
    return [(attempt.model, attempt.outcome) for attempt in record.attempts]


async def test_an_answer_at_the_first_attempt_is_one_attempt_on_record() -> None:
    stack = stack_of()
    stack.models.seconds_a_piece = 0.5
    await stack.router.complete(stack.call(), ask("Hi"))
    (attempt,) = stack.recorder.last.attempts
    assert (attempt.model, attempt.tier, attempt.outcome, attempt.reason) == ("small", "small", "answered", "")
    assert (attempt.duration_us, attempt.prompt_tokens, attempt.completion_tokens) == (1_000_000, 11, 2)


async def test_a_model_that_fails_is_asked_once_more() -> None:
    stack = stack_of()
    stack.models.failing = {"small-llm": [Retryable(AWAY)]}
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert (completion.model, completion.message.content) == ("small", "Hello there")
    record = stack.recorder.last
    assert outcomes(record) == [("small", "failed"), ("small", "answered")]
    assert record.attempts[0].reason == AWAY


@pytest.mark.parametrize("late", [False, True])
async def test_a_model_that_fails_again_is_stood_in_for_by_one_of_a_higher_tier(late: bool) -> None:
    stack = stack_of()
    stack.models.failing, stack.models.fails_late = {"small-llm": [Retryable(AWAY), Retryable(AWAY)]}, late
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert (completion.model, completion.tier) == ("big", "large")
    record = stack.recorder.last
    assert outcomes(record) == [("small", "failed"), ("small", "failed"), ("big", "answered")]
    assert (record.model, record.tier, record.answer) == ("big", "large", "Hello there")
    assert [candidate.model for candidate in record.candidates if candidate.chosen] == ["small"]


async def test_the_one_that_stands_in_is_asked_in_its_own_words() -> None:
    stack = stack_of(None, deployment())
    stack.models.failing = {"specialist-shop-chat": [Retryable(AWAY), Retryable(AWAY)]}
    await stack.router.complete(stack.call(), ask("Hi"))
    first, _, last = stack.models.prompts
    assert first.messages[0]["content"] == "You are the specialist."
    assert (last.model, last.messages[0]["content"]) == ("small-llm", "Be kind.")
    assert stack.recorder.last.candidate_id == ""


async def test_no_model_stands_in_that_is_not_cleared() -> None:
    stack = stack_of()
    del stack.governance.cleared["big"]
    stack.models.failing = {"small-llm": [Retryable(AWAY), Retryable(AWAY)]}
    with pytest.raises(Retryable, match=AWAY):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert outcomes(stack.recorder.last) == [("small", "failed"), ("small", "failed")]


async def test_a_model_asked_for_by_name_is_stood_in_for_by_none() -> None:
    stack = stack_of()
    stack.models.failing = {"small-llm": [Retryable(AWAY), Retryable(AWAY)]}
    with pytest.raises(Retryable, match=AWAY):
        await stack.router.complete(stack.call(), ask("Hi", model="small"))


async def test_no_lower_tier_stands_in() -> None:
    stack = stack_of()
    stack.governance.cleared = {"small": Sensitivity.PUBLIC, "big": Sensitivity.RESTRICTED}
    stack.models.failing = {"big-llm": [Retryable(AWAY), Retryable(AWAY)]}
    with pytest.raises(Retryable, match=AWAY):
        await stack.router.complete(stack.call(), ask("Hi"))


async def test_what_a_model_refuses_to_read_another_may_read_but_nobody_is_asked_twice() -> None:
    stack = stack_of()
    stack.models.failing = {"small-llm": [InvalidArgument("messages: too long")]}
    await stack.router.complete(stack.call(), ask("Hi"))
    assert outcomes(stack.recorder.last) == [("small", "failed"), ("big", "answered")]
    stack.models.failing = {name: [InvalidArgument("messages: too long")] for name in ("small-llm", "big-llm")}
    with pytest.raises(InvalidArgument, match="too long"):
        await stack.router.complete(stack.call(), ask("Hi"))


async def test_a_model_that_does_not_begin_in_time_is_stood_in_for(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = stack_of()
    monkeypatch.setattr("services.router.inference.BEGINNING_SHARE", 0.0)
    stack.models.hangs_after, stack.models.hanging_model = 0, "small-llm"
    completion = await stack.router.complete(stack.call(), ask("Hi"))
    assert completion.model == "big"
    assert stack.recorder.last.attempts[0].reason == "model 'small' did not answer in time"


async def test_a_stream_that_has_not_begun_is_tried_again_without_the_caller_noticing() -> None:
    stack = stack_of()
    stack.models.failing = {"small-llm": [Retryable(AWAY)]}
    texts, completion = await collect(stack, ask("Hi"))
    assert ("".join(texts), completion.model) == ("Hello there", "small")
    assert [record.phase for record in stack.recorder.interactions] == ["opened", "finished"]


async def test_a_stream_that_has_begun_is_never_tried_again() -> None:
    stack = stack_of()
    stack.models.pieces = ["Once upon a time there was a model that answered at great length. ", *["Word. "] * 40]
    stack.models.failing, stack.models.fails_late = {"small-llm": [Retryable(AWAY)]}, True
    texts: list[str] = []
    with pytest.raises(Retryable, match=AWAY):
        async for piece in stack.router.stream(stack.call(), ask("Hi")):
            assert not isinstance(piece, Completion)
            texts.append(piece.text)
    assert texts
    assert "".join(texts) == stack.recorder.last.answer
    assert outcomes(stack.recorder.last) == [("small", "failed")]


async def test_a_streamed_call_leaves_whole_so_its_failure_is_made_good_at_any_time() -> None:
    stack = stack_of()
    stack.models.pieces = [CALL[:10], CALL[10:]]
    stack.models.failing, stack.models.fails_late = {"small-llm": [Retryable(AWAY)]}, True
    _, completion = await collect(stack, ask("Light!", task="calls", tools=(LIGHTS,)))
    assert completion.message.tool_calls[0].name == "lights"


async def test_a_model_that_keeps_failing_is_left_alone_and_the_record_says_so() -> None:
    stack = stack_of()
    stack.models.failing = {"small-llm": [Retryable(AWAY)] * FAILURES}
    for _ in range((FAILURES + 1) // 2):
        await stack.router.complete(stack.call(), ask("Hi"))
    await stack.router.complete(stack.call(), ask("Hi"))
    assert outcomes(stack.recorder.last) == [("small", "skipped"), ("big", "answered")]
    stack.time.advance(60)
    await stack.router.complete(stack.call(), ask("Hi"))
    assert outcomes(stack.recorder.last) == [("small", "answered")]


async def test_where_everybody_is_left_alone_a_request_fails_at_once() -> None:
    stack = stack_of()
    stack.models.failing = {name: [Retryable(AWAY)] * 100 for name in ("small-llm", "big-llm")}
    for _ in range(FAILURES):
        with pytest.raises(Retryable):
            await stack.router.complete(stack.call(), ask("Hi"))
    asked = len(stack.models.prompts)
    with pytest.raises(Retryable, match="is not asked for now"):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert len(stack.models.prompts) == asked


async def test_second_attempts_are_paid_for_by_other_requests() -> None:
    stack = stack_of()
    del stack.governance.cleared["big"]
    for _ in range(int(RETRIES_SAVED) + FAILURES):
        stack.models.failing = {"small-llm": [Retryable(AWAY)]}
        with suppress(Retryable):
            await stack.router.complete(stack.call(), ask("Hi"))
    tried_again = [record for record in stack.recorder.interactions if len(record.attempts) == 2]
    assert len(tried_again) == RETRIES_SAVED + 1  # what was saved, and a tenth of so many requests
    assert stack.recorder.last.finish_reason == "error"


async def test_a_model_that_is_left_alone_is_stood_in_for_as_long_as_it_takes() -> None:
    stack = stack_of()
    stack.models.failing = {"small-llm": [Retryable(AWAY)] * 1000}
    for _ in range(5 * int(RETRIES_SAVED)):
        completion = await stack.router.complete(stack.call(), ask("Hi"))
        assert completion.model == "big"


async def test_no_more_answers_are_written_at_once_than_the_upstream_may() -> None:
    stack = stack_of()
    bundle = stack.catalogue.bundle.model_validate(
        {**stack.catalogue.bundle.model_dump(), "upstreams": {"triton": {"concurrency": 1}}}
    )
    use(stack, bundle)
    stack.models.hangs_after = 0
    first = asyncio.create_task(stack.router.complete(stack.call(), ask("Hi")))
    await stack.models.hanging.wait()
    second = asyncio.create_task(stack.router.complete(stack.call(), ask("Hi")))
    await asyncio.sleep(0.01)
    assert len(stack.models.prompts) == 1
    stack.models.hangs_after = None
    first.cancel()
    await second
    assert len(stack.models.prompts) == 2


async def test_a_request_that_waits_too_long_for_its_upstream_is_told_so() -> None:
    stack = stack_of()
    del stack.governance.cleared["big"]
    bundle = stack.catalogue.bundle.model_validate(
        {**stack.catalogue.bundle.model_dump(), "upstreams": {"triton": {"concurrency": 1}}}
    )
    use(stack, bundle)
    stack.models.hangs_after = 0
    first = asyncio.create_task(stack.router.complete(stack.call(), ask("Hi")))
    await stack.models.hanging.wait()
    with pytest.raises(DeadlineExceeded, match="upstream 'triton' is busy"):
        await stack.router.complete(stack.call(deadline_seconds=0.05), ask("Hi"))
    first.cancel()


async def test_a_queue_that_would_take_longer_than_there_is_time_is_not_joined() -> None:
    stack = stack_of()
    bundle = stack.catalogue.bundle.model_validate(
        {**stack.catalogue.bundle.model_dump(), "upstreams": {"triton": {"concurrency": 1}}}
    )
    use(stack, bundle)
    stack.models.seconds_a_piece = 3.0
    await stack.router.complete(stack.call(), ask("Hi"))
    stack.models.seconds_a_piece, stack.models.hangs_after = 0.0, 0
    first = asyncio.create_task(stack.router.complete(stack.call(), ask("Hi")))
    await stack.models.hanging.wait()
    with pytest.raises(Overloaded, match="0 requests waiting"):
        await stack.router.complete(stack.call(deadline_seconds=5.0), ask("Hi"))
    first.cancel()


class TestCascade:
    async def test_an_unsure_answer_has_the_next_better_model_asked(self) -> None:
        stack = stack_of(Cascade(chance=0.3))
        stack.models.answers = {"small-llm": "Perhaps.", "big-llm": "Surely."}
        stack.models.sum_logprobs = {"small-llm": -7.5}
        completion = await stack.router.complete(stack.call(), ask("Hi"))
        assert (completion.model, completion.message.content) == ("big", "Surely.")
        record = stack.recorder.last
        assert outcomes(record) == [("small", "unsure"), ("big", "answered")]
        assert record.attempts[0].reason == "right with a chance of 0.20, below 0.3"
        assert (record.attempts[0].prompt_tokens, record.sum_logprob) == (11, -1.5)
        assert stack.governance.outputs == ["Surely."]

    async def test_however_many_answers_are_unsure(self) -> None:
        stack = stack_of(Cascade(chance=0.3))
        stack.models.sum_logprobs = {"small-llm": -7.5}
        for _ in range(5 * int(RETRIES_SAVED)):
            assert (await stack.router.complete(stack.call(), ask("Hi"))).model == "big"

    async def test_a_sure_answer_is_enough(self) -> None:
        stack = stack_of(Cascade(chance=0.3))
        await stack.router.complete(stack.call(), ask("Hi"))
        assert outcomes(stack.recorder.last) == [("small", "answered")]

    async def test_an_answer_of_the_wrong_form_is_not(self) -> None:
        stack = stack_of(Cascade())
        stack.models.answers = {"small-llm": "I would turn on the li", "big-llm": CALL}
        completion = await stack.router.complete(stack.call(), ask("Light!", task="calls", tools=(LIGHTS,)))
        assert completion.message.tool_calls[0].name == "lights"
        assert stack.recorder.last.attempts[0].reason == "its form is not the one that was asked for"

    async def test_an_unsure_answer_is_better_than_none(self) -> None:
        stack = stack_of(Cascade(chance=0.3))
        stack.models.answers = {"small-llm": "Perhaps."}
        stack.models.sum_logprobs = {"small-llm": -7.5}
        stack.models.failing = {"big-llm": [Retryable(AWAY), Retryable(AWAY)]}
        completion = await stack.router.complete(stack.call(), ask("Hi"))
        assert (completion.model, completion.message.content) == ("small", "Perhaps.")
        record = stack.recorder.last
        assert (record.model, record.sum_logprob) == ("small", -7.5)
        assert outcomes(record) == [("small", "unsure"), ("big", "failed"), ("big", "failed")]

    async def test_the_last_answer_counts_however_unsure(self) -> None:
        stack = stack_of(Cascade(chance=0.3))
        stack.models.sum_logprobs = {"small-llm": -7.5, "big-llm": -9.0}
        completion = await stack.router.complete(stack.call(), ask("Hi"))
        assert completion.model == "big"
        assert outcomes(stack.recorder.last) == [("small", "unsure"), ("big", "answered")]

    async def test_whoever_promises_less_than_the_answer_holds_is_not_asked(self) -> None:
        stack = stack_of(Cascade(chance=0.3), space=space)
        stack.models.sum_logprobs = {"small-llm": -7.5}
        assert (await stack.router.complete(stack.call(), ask("Hi"))).model == "big"
        for _ in range(50):
            stack.experience.take_outcome(outcome("Hi", 0.0, "big", "large"))
        assert (await stack.router.complete(stack.call(), ask("Hi"))).model == "small"
        assert outcomes(stack.recorder.last) == [("small", "answered")]
        assert stack.recorder.last.attempts[0].reason == "right with a chance of 0.20, below 0.3"

    async def test_of_whom_nothing_is_known_is_asked_whatever_is_known_of_others(self) -> None:
        stack = stack_of(Cascade(chance=0.8), space=space)
        stack.models.sum_logprobs = {"small-llm": -0.05}
        assert (await stack.router.complete(stack.call(), ask("Hi"))).model == "big"
        stack.experience.take_outcome(msgspec.structs.replace(outcome("Hi", 1.0), tenant="bank"))
        assert (await stack.router.complete(stack.call(), ask("Hi"))).model == "big"

    async def test_what_a_gate_found_tells_which_answers_are_sure(self) -> None:
        live = msgspec.structs.replace(deployment(), gate_items=60, candidate_answers=answers(sure=-5.0, unsure=-25.0))
        stack = stack_of(Cascade(chance=0.5), live)
        stack.experience.take_deployment(live)
        for sum_logprob, tier in ((-5.0, "specialist"), (-25.0, "small")):
            stack.models.sum_logprobs = {live.model: sum_logprob, "small-llm": -0.01}
            assert (await stack.router.complete(stack.call(), ask("Hi"))).tier == tier

    async def test_nothing_of_an_unsure_answer_streams_out(self) -> None:
        stack = stack_of(Cascade(chance=0.3))
        stack.models.answers = {"small-llm": "Perhaps. " * 50, "big-llm": "Surely."}
        stack.models.sum_logprobs = {"small-llm": -7.5}
        texts, _ = await collect(stack, ask("Hi"))
        assert "".join(texts) == "Surely."
