"""The router's gRPC edge with everything that a service of Gyre has around it; what stands behind it is scripted."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest

from gyre.api.router.v1 import router_pb2, router_pb2_grpc
from gyre.api.types.v1 import types_pb2
from services.runtime import rpc
from tests.router_on_fakes import router_on_fakes
from tests.unit.router.fakes import DENIED, KEY, Stack

METADATA = (("authorization", f"Bearer {KEY}"),)


def ask(text: str = "Hi", **more: Any) -> router_pb2.CompleteRequest:
    return router_pb2.CompleteRequest(messages=[types_pb2.Message(role="user", content=text)], **more)


class Served:
    def __init__(self, stack: Stack, channel: grpc.aio.Channel) -> None:
        self.stack = stack
        self.stub: Any = router_pb2_grpc.RouterStub(channel)


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with router_on_fakes() as router, rpc.channel(router.target) as channel:
        yield Served(router.stack, channel)


async def test_complete_answers_and_names_the_request(served: Served) -> None:
    call = served.stub.Complete(ask(user="ann", conversation_id="c"), metadata=METADATA, timeout=5)
    answer = await call
    assert answer.message.content == "Hello there"
    assert (answer.model, answer.tier, answer.finish_reason, answer.bundle_version) == ("small", "small", "stop", "b1")
    assert answer.sensitivity == types_pb2.SENSITIVITY_INTERNAL
    assert dict(await call.initial_metadata())["x-request-id"] == answer.request_id


async def test_a_stream_ends_with_the_whole(served: Served) -> None:
    served.stack.models.pieces = ["word " * 30] * 4
    request = router_pb2.CompleteStreamRequest(request=ask())
    messages = [message async for message in served.stub.CompleteStream(request, metadata=METADATA, timeout=5)]
    assert "".join(message.text_delta for message in messages) == "word " * 120
    assert messages[-1].final.message.content == "word " * 120
    assert not any(message.HasField("final") for message in messages[:-1])


async def test_tool_calls(served: Served) -> None:
    served.stack.models.pieces = ['{"name": "lights", "arguments": {"room": "hall"}}']
    tool = types_pb2.Tool(name="lights", parameters_json='{"type": "object"}')
    answer = await served.stub.Complete(ask(task="calls", tools=[tool]), metadata=METADATA, timeout=5)
    (call,) = answer.message.tool_calls
    assert (call.name, json.loads(call.arguments_json), answer.model) == (
        "lights",
        {"room": "hall"},
        "specialist-shop-calls",
    )


async def test_explain_names_the_candidates(served: Served) -> None:
    request = router_pb2.ExplainRequest(request=ask(task="calls"))
    answer = await served.stub.Explain(request, metadata=METADATA, timeout=5)
    assert [(c.model, c.chosen) for c in answer.candidates] == [
        ("specialist-shop-calls", True),
        ("small", False),
        ("big", False),
    ]
    assert [(c.HasField("chance"), c.price, c.HasField("seconds")) for c in answer.candidates] == [
        (False, 0.0, False)
    ] * 3
    refused = await served.stub.Explain(router_pb2.ExplainRequest(request=ask(DENIED)), metadata=METADATA, timeout=5)
    assert "denied" in refused.refusal
    assert (refused.verdict, refused.findings[0].kind) == ("refuse", "denied")


async def test_feedback(served: Served) -> None:
    request = router_pb2.SendFeedbackRequest(request_id="0199e000-0000-7000-8000-000000000001", rating=-1.0)
    answer = await served.stub.SendFeedback(request, metadata=METADATA, timeout=5)
    (recorded,) = served.stack.recorder.feedbacks
    assert (recorded.feedback_id, recorded.kind, recorded.rating) == (answer.feedback_id, "rating", -1.0)


AGAIN = (*METADATA, ("idempotency-key", "k"))


async def test_the_same_key_gets_the_same_answer_and_no_model_is_asked_again(served: Served) -> None:
    calls = [served.stub.Complete(ask(), metadata=AGAIN, timeout=5) for _ in range(3)]
    answers = [await call for call in calls]
    assert answers[0] == answers[1] == answers[2]
    named = {dict(await call.initial_metadata())["x-request-id"] for call in calls}
    assert named == {answers[0].request_id} == {record.request_id for record in served.stack.recorder.interactions}
    assert len(served.stack.models.prompts) == 1
    feedback = router_pb2.SendFeedbackRequest(request_id=answers[0].request_id, rating=1.0)
    given = [await served.stub.SendFeedback(feedback, metadata=AGAIN, timeout=5) for _ in range(2)]
    assert given[0] == given[1]
    assert len(served.stack.recorder.feedbacks) == 1


@pytest.mark.parametrize(
    ("key", "text", "code", "said"),
    [
        ("k", "Ho", grpc.StatusCode.FAILED_PRECONDITION, "it came with another request before"),
        ("", "Hi", grpc.StatusCode.INVALID_ARGUMENT, "idempotency-key: wanted 1 to 255"),
        ("k" * 256, "Hi", grpc.StatusCode.INVALID_ARGUMENT, "idempotency-key: wanted 1 to 255"),
    ],
)
async def test_a_key_that_stands_for_nothing_good_is_refused(
    served: Served, key: str, text: str, code: grpc.StatusCode, said: str
) -> None:
    await served.stub.Complete(ask("Hi"), metadata=AGAIN, timeout=5)
    metadata = (*METADATA, ("idempotency-key", key))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.stub.Complete(ask(text), metadata=metadata, timeout=5)
    assert raised.value.code() is code
    assert said in (raised.value.details() or "")
    assert dict(raised.value.initial_metadata())["x-request-id"]


async def test_a_stream_is_not_kept_and_says_so(served: Served) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await anext(aiter(served.stub.CompleteStream(router_pb2.CompleteStreamRequest(request=ask()), metadata=AGAIN)))
    assert "idempotency-key: a stream" in (raised.value.details() or "")


@pytest.mark.parametrize(
    ("request_", "metadata", "code", "said"),
    [
        (ask(), (), grpc.StatusCode.UNAUTHENTICATED, "authorization: Bearer"),
        (ask(), (("authorization", "Basic x"),), grpc.StatusCode.UNAUTHENTICATED, "Bearer"),
        (ask(), (("authorization", "Bearer wrong"),), grpc.StatusCode.UNAUTHENTICATED, "not known"),
        (router_pb2.CompleteRequest(), METADATA, grpc.StatusCode.INVALID_ARGUMENT, "messages: must have at least 1"),
        (ask(""), METADATA, grpc.StatusCode.INVALID_ARGUMENT, "messages[0].content"),
        (ask("x" * 262145), METADATA, grpc.StatusCode.INVALID_ARGUMENT, "messages[0].content: must have at most"),
        (ask(task="nope"), METADATA, grpc.StatusCode.NOT_FOUND, "task: 'nope'"),
        (ask(model="nope"), METADATA, grpc.StatusCode.NOT_FOUND, "model: 'nope'"),
        (
            ask(task="calls", tools=[types_pb2.Tool(name="t", parameters_json="{")]),
            METADATA,
            grpc.StatusCode.INVALID_ARGUMENT,
            "tools[0].parameters: wanted a JSON object",
        ),
        (ask(DENIED), METADATA, grpc.StatusCode.PERMISSION_DENIED, "refused"),
    ],
)
async def test_bad_input_gets_a_status_that_says_what_was_wanted(
    served: Served, request_: Any, metadata: Any, code: grpc.StatusCode, said: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.stub.Complete(request_, metadata=metadata, timeout=5)
    assert raised.value.code() is code
    assert said in (raised.value.details() or "")
    has_broken_a_rule = "must have" in said  # found before the router sees the call
    assert ("x-request-id" in dict(raised.value.initial_metadata())) is not has_broken_a_rule


@pytest.mark.parametrize("part", ["governance", "recorder"])
async def test_without_governance_or_the_record_there_is_no_answer(served: Served, part: str) -> None:
    getattr(served.stack, part).silent = True
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await served.stub.Complete(ask(), metadata=METADATA, timeout=5)
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_stops_the_model(served: Served, streamed: bool) -> None:
    models = served.stack.models
    models.pieces = ["word " * 60, "never"]
    models.hangs_after = 1
    if streamed:
        call = served.stub.CompleteStream(router_pb2.CompleteStreamRequest(request=ask()), metadata=METADATA)
        assert (await anext(aiter(call))).text_delta
    else:
        call = served.stub.Complete(ask(), metadata=METADATA)
    async with asyncio.timeout(10):
        await models.hanging.wait()
        call.cancel()
        await models.stopped.wait()
        await asyncio.sleep(0)
        await served.stack.router.drain()
    assert served.stack.recorder.last.finish_reason == "cancelled"
