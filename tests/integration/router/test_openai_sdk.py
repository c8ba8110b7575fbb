"""The unmodified openai SDK against the router's own HTTP server; what stands behind its ports is scripted."""

import asyncio
import json

import httpx
import pytest
from openai import (
    APIError,
    APIStatusError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from prometheus_client import REGISTRY
from pydantic import BaseModel

from services.runtime.errors import DeadlineExceeded
from tests.router_on_fakes import RouterOnFakes
from tests.unit.router.fakes import DENIED, KEY

TOOL = {
    "type": "function",
    "function": {
        "name": "lights",
        "description": "Turns lights on",
        "parameters": {"type": "object", "properties": {"room": {"type": "string"}}},
    },
}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
HI = [{"role": "user", "content": "Hi"}]


async def test_a_plain_answer(served: RouterOnFakes) -> None:
    async with served.client() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="auto", messages=HI, metadata={"task": "chat", "conversation_id": "c1"}, user="ann", seed=1
        )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 13
    assert raw.headers["x-request-id"] == answer.id == served.stack.recorder.last.request_id
    assert (served.stack.recorder.last.user, served.stack.recorder.last.conversation_id) == ("ann", "c1")


async def test_every_answer_is_timed_by_route_and_status(served: RouterOnFakes) -> None:
    def counted(status: str) -> float:
        labels = {"route": "/v1/chat/completions", "status": status}
        return REGISTRY.get_sample_value("gyre_http_seconds_count", labels) or 0.0

    before = {status: counted(status) for status in ("200", "401")}
    async with served.client() as client:
        await client.chat.completions.create(model="auto", messages=HI)
    async with served.client("nobody's") as client:
        with pytest.raises(AuthenticationError):
            await client.chat.completions.create(model="auto", messages=HI)
    assert {status: counted(status) - count for status, count in before.items()} == {"200": 1, "401": 1}


async def test_a_streamed_answer_with_usage(served: RouterOnFakes) -> None:
    served.stack.models.pieces = [f"word{i} " for i in range(60)]
    async with served.client() as client:
        stream = await client.chat.completions.create(
            model="chat", messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "".join(served.stack.models.pieces)
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 60
    assert len({chunk.id for chunk in chunks}) == 1
    assert [record.phase for record in served.stack.recorder.interactions] == ["opened", "finished"]


async def test_the_tokens_of_an_answer_come_with_it_and_those_of_a_stream_with_its_end(served: RouterOnFakes) -> None:
    async with served.client() as client:
        answer = await client.chat.completions.create(model="auto", messages=HI, logprobs=True)
        async with client.chat.completions.stream(model="auto", messages=HI, logprobs=True) as stream:
            streamed = await stream.get_final_completion()
    for choice in (answer.choices[0], streamed.choices[0]):
        assert choice.logprobs is not None
        assert choice.logprobs.content is not None
        assert [(token.token, token.logprob) for token in choice.logprobs.content] == [
            ("Hello", -0.5),
            (" there", -0.5),
        ]
        assert bytes(choice.logprobs.content[0].bytes or ()) == b"Hello"
        assert choice.logprobs.content[0].top_logprobs == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_tool_calls(served: RouterOnFakes, streamed: bool) -> None:
    served.stack.models.pieces = ['{"name": "lights", "arguments": {"room": "hall"}}']
    async with served.client() as client:
        if streamed:
            chunks = [
                chunk
                async for chunk in await client.chat.completions.create(
                    model="calls", messages=HI, tools=[TOOL], stream=True
                )
            ]
            (call,) = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
            finish_reason = chunks[-1].choices[0].finish_reason
        else:
            answer = await client.chat.completions.create(
                model="auto", messages=HI, tools=[TOOL], extra_headers={"x-gyre-task": "calls"}
            )
            (call,) = answer.choices[0].message.tool_calls or ()
            finish_reason = answer.choices[0].finish_reason
            again = await client.chat.completions.create(
                model="calls",
                messages=[
                    *HI,
                    answer.choices[0].message,
                    {"role": "tool", "tool_call_id": call.id, "content": "on"},
                    *HI,
                ],
                tools=[TOOL],
            )
            assert again.choices[0].finish_reason == "tool_calls"
    assert finish_reason == "tool_calls"
    assert call.function is not None
    assert (call.function.name, json.loads(call.function.arguments or "")) == ("lights", {"room": "hall"})


async def test_a_response_format_reaches_the_model(served: RouterOnFakes) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    async with served.client() as client:
        await client.chat.completions.create(
            model="auto",
            messages=HI,
            response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema, "strict": True}},
        )
    assert served.stack.models.prompts[0].sampling["response_format"]["json_schema"]["schema"] == schema


async def test_a_response_format_that_is_no_schema_is_refused_where_it_is_wrong(served: RouterOnFakes) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"a": {"type": "strin"}}}}}
    async with served.client() as client:
        with pytest.raises(BadRequestError) as raised:
            await client.chat.completions.create(model="auto", messages=HI, response_format=wanted)
    assert raised.value.param == "response_format.json_schema.schema.properties.a.type"
    assert served.stack.models.prompts == []


class Where(BaseModel):
    """Where somebody is."""

    room: str


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # of the SDK, about its own `parsed`
async def test_an_answer_is_parsed_as_a_pydantic_model_and_can_be_sent_back(served: RouterOnFakes) -> None:
    served.stack.models.pieces = ['{"room": "hall"}']
    async with served.client() as client:
        answer = await client.chat.completions.parse(model="auto", messages=HI, response_format=Where)
        message = answer.choices[0].message
        assert message.parsed == Where(room="hall")
        await client.chat.completions.create(model="auto", messages=[*HI, message, *HI])
    sent = served.stack.models.prompts[0].sampling["response_format"]["json_schema"]["schema"]
    assert (sent["required"], sent["additionalProperties"]) == (["room"], False)
    assert '{"room": "hall"}' in [message["content"] for message in served.stack.models.prompts[1].messages]


async def test_json_mode_holds_the_answer_to_an_object(served: RouterOnFakes) -> None:
    async with served.client() as client:
        await client.chat.completions.create(model="auto", messages=HI, response_format={"type": "json_object"})
    wanted = served.stack.models.prompts[0].sampling["response_format"]
    assert wanted["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "lights"}}])
async def test_a_call_that_is_required_is_what_the_model_is_held_to(served: RouterOnFakes, choice: object) -> None:
    served.stack.models.pieces = ['{"name": "lights", "arguments": {"room": "hall"}}']
    other = {"type": "function", "function": {"name": "doors"}}
    async with served.client() as client:
        await client.chat.completions.create(model="calls", messages=HI, tools=[TOOL, other], tool_choice=choice)
    schema = served.stack.models.prompts[0].sampling["response_format"]["json_schema"]["schema"]
    names = [call["properties"]["name"]["const"] for call in schema["anyOf"]]
    assert names == (["lights", "doors"] if choice == "required" else ["lights"])


async def test_sampling_reaches_the_model(served: RouterOnFakes) -> None:
    sampling = {"temperature": 0.3, "seed": 5, "top_p": 0.8, "presence_penalty": 0.5, "frequency_penalty": -0.5}
    async with served.client() as client:
        await client.chat.completions.create(model="auto", messages=HI, stop=["\n"], max_tokens=9, **sampling)
    assert served.stack.models.prompts[0].sampling == {**sampling, "stop": ["\n"], "max_tokens": 9}


async def test_each_choice_is_an_interaction_of_its_own(served: RouterOnFakes) -> None:
    async with served.client() as client:
        raw = await client.chat.completions.with_raw_response.create(model="auto", messages=HI, n=3, seed=7)
    answer = raw.parse()
    ids = [choice.model_extra["gyre"]["request_id"] for choice in answer.choices]
    assert ids == [record.request_id for record in served.stack.recorder.interactions]
    assert len(set(ids)) == 3
    assert raw.headers["x-request-id"] == answer.id == ids[0]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert [prompt.sampling["seed"] for prompt in served.stack.models.prompts] == [7, 8, 9]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (33, 39)


async def test_a_choice_that_is_refused_says_so_beside_those_that_are_not(served: RouterOnFakes) -> None:
    served.stack.models.by_seed = {8: [DENIED]}
    async with served.client() as client:
        answer = await client.chat.completions.create(model="auto", messages=HI, n=2, seed=7)
        assert [choice.finish_reason for choice in answer.choices] == ["stop", "content_filter"]
        refused = answer.choices[1]
        assert refused.message.content is None
        assert "denied" in (refused.message.refusal or "")
        assert DENIED not in answer.to_json()
        assert served.stack.recorder.last.finish_reason == "refused"
        served.stack.models.pieces = [DENIED]
        with pytest.raises(PermissionDeniedError):
            await client.chat.completions.create(model="auto", messages=HI, n=2)


async def test_every_chunk_names_the_model_that_answers(served: RouterOnFakes) -> None:
    served.stack.models.pieces = ["word " * 60] * 2
    async with served.client() as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(model="auto", messages=HI, stream=True)]
    assert len(chunks) > 2
    assert {chunk.model for chunk in chunks} == {"small"}


async def test_the_blocking_client_works_as_well(served: RouterOnFakes) -> None:
    served.stack.models.pieces = ["one ", "two"]

    def ask() -> tuple[str | None, str]:
        with served.blocking_client() as client:
            answer = client.chat.completions.create(model="auto", messages=HI)
            with client.chat.completions.stream(model="auto", messages=HI) as stream:
                text = "".join(event.delta for event in stream if event.type == "content.delta")
        return answer.choices[0].message.content, text

    assert await asyncio.to_thread(ask) == ("one two", "one two")


async def test_the_sdk_tries_again_what_may_work_later_and_nothing_else(served: RouterOnFakes) -> None:
    served.stack.governance.silent = True
    async with served.client(retries=2) as client:
        with pytest.raises(InternalServerError):
            await client.chat.completions.create(model="auto", messages=HI)
        assert len(served.stack.recorder.interactions) == 3
        with pytest.raises(BadRequestError):
            await client.chat.completions.create(model="auto", messages=[])
    assert len(served.stack.recorder.interactions) == 3


AGAIN = {"Idempotency-Key": "k"}


async def test_the_same_key_gets_the_same_answer_and_no_model_is_asked_again(served: RouterOnFakes) -> None:
    async with served.client() as client:
        create = client.chat.completions.with_raw_response.create
        raws = [await create(model="auto", messages=HI, n=2, extra_headers=AGAIN) for _ in range(2)]
        assert raws[0].content == raws[1].content
        assert {raw.headers["x-request-id"] for raw in raws} == {raws[0].parse().id}
        assert len(served.stack.models.prompts) == 2
        with pytest.raises(UnprocessableEntityError) as reused:
            await client.chat.completions.create(model="auto", messages=HI, extra_headers=AGAIN)
        with pytest.raises(BadRequestError) as streamed:
            await client.chat.completions.create(model="auto", messages=HI, stream=True, extra_headers=AGAIN)
        with pytest.raises(AuthenticationError):
            await client.with_options(api_key="nobody's").chat.completions.create(
                model="auto", messages=HI, extra_headers=AGAIN
            )
    assert reused.value.code == "idempotency_key_reused"
    assert streamed.value.param == "idempotency-key"


async def test_what_failed_is_tried_again_with_the_same_key(served: RouterOnFakes) -> None:
    served.stack.recorder.silent = True
    async with served.client() as client:
        with pytest.raises(InternalServerError):
            await client.chat.completions.create(model="auto", messages=HI, extra_headers=AGAIN)
        served.stack.recorder.silent = False
        answer = await client.chat.completions.create(model="auto", messages=HI, extra_headers=AGAIN)
    assert answer.id == served.stack.recorder.last.request_id


async def test_a_retry_that_comes_while_the_first_is_under_way_waits_for_it(served: RouterOnFakes) -> None:
    served.stack.models.hangs_after = 1
    async with served.client() as client:
        first, second = (
            asyncio.create_task(client.chat.completions.create(model="auto", messages=HI, extra_headers=AGAIN))
            for _ in range(2)
        )
        await served.stack.models.hanging.wait()
        first.cancel()
        served.stack.models.hangs_after = None
        answer = await second
    assert answer.choices[0].message.content == "Hello there"
    assert len(served.stack.models.prompts) == 2  # the first one's caller went away, and its model stopped


async def test_a_deadline_that_passes_is_said(served: RouterOnFakes) -> None:
    served.stack.models.fails_with = DeadlineExceeded("the deadline of the request has passed")
    async with served.client() as client:
        with pytest.raises(InternalServerError) as raised:
            await client.chat.completions.create(model="auto", messages=HI)
    assert (raised.value.status_code, raised.value.code) == (504, "deadline_exceeded")


async def test_models_are_listed(served: RouterOnFakes) -> None:
    async with served.client() as client:
        names = [model.id async for model in client.models.list()]
    assert names == ["auto", "chat", "calls", "small", "big", "specialist-shop-calls"]


async def test_feedback(served: RouterOnFakes) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
        body = {"request_id": "0199e000-0000-7000-8000-000000000001", "correct_answer": "42"}
        answer = await client.post(f"{served.url}/v1/feedback", json=body)
        again = [await client.post(f"{served.url}/v1/feedback", json=body, headers=AGAIN) for _ in range(2)]
        wrong = await client.post(f"{served.url}/v1/feedback", json={**body, "request_id": "7"})
    assert answer.status_code == 200
    assert answer.json()["feedback_id"] == served.stack.recorder.feedbacks[0].feedback_id
    assert again[0].json() == again[1].json()
    assert len(served.stack.recorder.feedbacks) == 2
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "request_id")


@pytest.mark.parametrize(
    ("arguments", "error", "param"),
    [
        ({"messages": []}, BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, BadRequestError, "messages[0].content"),
        ({"model": "nope"}, NotFoundError, None),
        ({"metadata": {"task": "nope"}}, NotFoundError, None),
        ({"temperature": 9}, BadRequestError, "temperature"),
        ({"logprobs": True, "top_logprobs": 1}, BadRequestError, "top_logprobs"),
        ({"tools": [TOOL]}, BadRequestError, "tools"),
        ({"model": "calls", "tools": [TOOL, TOOL]}, BadRequestError, "tools[1].function.name"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, BadRequestError, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": DENIED}]}, PermissionDeniedError, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors_are_openais_and_name_the_request(
    served: RouterOnFakes, arguments: dict[str, object], error: type[APIStatusError], param: str | None, stream: bool
) -> None:
    async with served.client() as client:
        with pytest.raises(error) as raised:
            await client.chat.completions.create(**{"model": "auto", "messages": HI, "stream": stream, **arguments})
    assert raised.value.param == param
    assert raised.value.message
    assert raised.value.request_id


async def test_an_unknown_key_is_turned_away(served: RouterOnFakes) -> None:
    async with served.client(key="wrong") as client:
        with pytest.raises(AuthenticationError) as raised:
            await client.chat.completions.create(model="auto", messages=HI)
    assert raised.value.code == "invalid_api_key"


@pytest.mark.parametrize("part", ["governance", "recorder"])
async def test_without_governance_or_the_record_there_is_no_answer(served: RouterOnFakes, part: str) -> None:
    getattr(served.stack, part).silent = True
    async with served.client() as client:
        with pytest.raises(InternalServerError) as raised:
            await client.chat.completions.create(model="auto", messages=HI)
    assert (raised.value.status_code, raised.value.code) == (503, "unavailable")


async def test_a_denied_text_in_the_middle_of_a_stream_ends_it_with_an_error(served: RouterOnFakes) -> None:
    served.stack.models.pieces = ["fine words " * 30, DENIED]
    released = ""

    async def read() -> None:
        nonlocal released
        async with served.client() as client:
            async for chunk in await client.chat.completions.create(model="auto", messages=HI, stream=True):
                released += chunk.choices[0].delta.content or ""

    with pytest.raises(APIError) as raised:
        await read()
    assert raised.value.code == "content_filter"
    assert set(released.split()) == {"fine", "words"}


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_client_that_goes_away_stops_the_model(served: RouterOnFakes, streamed: bool) -> None:
    models = served.stack.models
    models.pieces = ["word " * 60, "never"]
    models.hangs_after = 1
    async with served.client() as client:
        answering = asyncio.create_task(client.chat.completions.create(model="auto", messages=HI, stream=streamed))
        await models.hanging.wait()
        if streamed:
            stream = await answering
            await stream.close()
        else:
            answering.cancel()
    async with asyncio.timeout(10):
        await models.stopped.wait()
        await asyncio.sleep(0)
        await served.stack.router.drain()
    assert served.stack.recorder.last.finish_reason == "cancelled"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", b"\xff\xfe", 400),
        ("/v1/chat/completions", b"{" * 100, 400),
        ("/v1/chat/completions", b" " * (5 * 1024 * 1024), 413),
        ("/nowhere", b"", 404),
        ("/v1/models", b"", 405),
    ],
)
async def test_bytes_that_no_sdk_would_send_get_an_error_in_the_same_shape(
    served: RouterOnFakes, path: str, body: bytes, status: int
) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
        answer = await client.post(f"{served.url}{path}", content=body)
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
