"""LangChain's unmodified ChatOpenAI against the router's own HTTP server; what stands behind its ports is scripted."""

import asyncio
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from openai import AuthenticationError, BadRequestError, InternalServerError, NotFoundError, PermissionDeniedError
from pydantic import BaseModel

from tests.router_on_fakes import RouterOnFakes
from tests.unit.router.fakes import DENIED, KEY

LIGHTS_ON = '{"name": "lights", "arguments": {"room": "hall"}}'


@tool
def lights(room: str) -> str:
    """Turns lights on."""
    return f"lights on in the {room}"


@tool
def doors(room: str) -> str:
    """Opens doors."""
    return f"doors open in the {room}"


class Where(BaseModel):
    """Where somebody is."""

    room: str


def chat(served: RouterOnFakes, model: str = "auto", key: str = KEY, **more: Any) -> ChatOpenAI:
    return ChatOpenAI(base_url=f"{served.url}/v1", api_key=key, model=model, max_retries=0, timeout=10, **more)


async def test_invoke(served: RouterOnFakes) -> None:
    answer = await chat(served).ainvoke([SystemMessage("Be brief."), HumanMessage("Hi")])
    assert answer.content == "Hello there"
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["total_tokens"] == 13
    assert answer.response_metadata["model_name"] == "small"
    assert answer.response_metadata["finish_reason"] == "stop"
    assert answer.response_metadata["id"] == served.stack.recorder.last.request_id


async def test_invoke_without_a_loop(served: RouterOnFakes) -> None:
    answer = await asyncio.to_thread(chat(served).invoke, "Hi")
    assert answer.content == "Hello there"


async def test_a_stream_with_usage(served: RouterOnFakes) -> None:
    served.stack.models.pieces = [f"word{i} " for i in range(60)]
    whole: AIMessageChunk | None = None
    pieces = 0
    async for chunk in chat(served, stream_usage=True).astream("Hi"):
        assert isinstance(chunk, AIMessageChunk)
        whole = chunk if whole is None else whole + chunk
        pieces += bool(chunk.content)
    assert whole is not None
    assert whole.content == "".join(served.stack.models.pieces)
    assert pieces > 1
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] == 60
    assert whole.response_metadata["model_name"] == "small"


async def test_a_batch(served: RouterOnFakes) -> None:
    answers = await chat(served).abatch(["Hi", "Ho", "Hu"])
    assert [answer.content for answer in answers] == ["Hello there"] * 3
    assert len({answer.response_metadata["id"] for answer in answers}) == 3


async def test_several_choices(served: RouterOnFakes) -> None:
    served.stack.models.by_seed = {1: ["one"], 2: ["two"]}
    result = await chat(served, n=2, seed=1).agenerate([[HumanMessage("Hi")]])
    assert [choice.text for choice in result.generations[0]] == ["one", "two"]


async def test_sampling_reaches_the_model(served: RouterOnFakes) -> None:
    model = chat(served, temperature=0.5, top_p=0.9, presence_penalty=0.1, frequency_penalty=0.2, seed=3, max_tokens=9)
    await model.ainvoke("Hi", stop=["END"])
    assert served.stack.models.prompts[0].sampling == {
        "temperature": 0.5,
        "top_p": 0.9,
        "presence_penalty": 0.1,
        "frequency_penalty": 0.2,
        "seed": 3,
        "max_tokens": 9,
        "stop": ["END"],
    }


@pytest.mark.parametrize("streamed", [False, True])
async def test_tools_and_what_they_said(served: RouterOnFakes, streamed: bool) -> None:
    served.stack.models.pieces = [LIGHTS_ON]
    model = chat(served, "calls").bind_tools([lights, doors])
    asked = [HumanMessage("Light!")]
    if streamed:
        chunks = [chunk async for chunk in model.astream(asked)]
        answer: Any = sum(chunks[1:], chunks[0])
    else:
        answer = await model.ainvoke(asked)
    (call,) = answer.tool_calls
    assert (call["name"], call["args"]) == ("lights", {"room": "hall"})
    said = await lights.ainvoke(call)
    assert isinstance(said, ToolMessage)
    served.stack.models.pieces = ["The lights are on."]
    finished = await model.bind(tool_choice="none").ainvoke([*asked, answer, said])
    assert finished.content == "The lights are on."
    assert "lights on in the hall" in [message["content"] for message in served.stack.models.prompts[-1].messages]


@pytest.mark.parametrize(
    ("choice", "offered"), [("any", ["lights", "doors"]), ("lights", ["lights"]), ("auto", ["lights", "doors"])]
)
async def test_a_tool_choice_is_what_the_model_is_held_to(
    served: RouterOnFakes, choice: str, offered: list[str]
) -> None:
    served.stack.models.pieces = [LIGHTS_ON]
    await chat(served, "calls").bind_tools([lights, doors], tool_choice=choice).ainvoke("Light!")
    schema = served.stack.models.prompts[0].sampling["response_format"]["json_schema"]["schema"]
    assert [call["properties"]["name"]["const"] for call in schema["anyOf"]] == offered


@pytest.mark.parametrize(
    ("method", "model", "answer"),
    [
        ("json_schema", "chat", '{"room": "hall"}'),
        ("json_mode", "chat", '{"room": "hall"}'),
        ("function_calling", "calls", '{"name": "Where", "arguments": {"room": "hall"}}'),
    ],
)
async def test_structured_output(
    served: RouterOnFakes, method: Literal["json_schema", "json_mode", "function_calling"], model: str, answer: str
) -> None:
    served.stack.models.pieces = [answer]
    found = await chat(served, model).with_structured_output(Where, method=method).ainvoke("Where, as JSON?")
    assert found == Where(room="hall")
    assert "response_format" in served.stack.models.prompts[0].sampling


async def test_log_probabilities(served: RouterOnFakes) -> None:
    answer = await chat(served, logprobs=True).ainvoke("Hi")
    assert [token["token"] for token in answer.response_metadata["logprobs"]["content"]] == ["Hello", " there"]


@pytest.mark.parametrize(
    ("more", "text", "error"),
    [
        ({"key": "nobody's"}, "Hi", AuthenticationError),
        ({}, DENIED, PermissionDeniedError),
        ({"model": "nope"}, "Hi", NotFoundError),
        ({"logprobs": True, "top_logprobs": 2}, "Hi", BadRequestError),
        ({"reasoning_effort": "high"}, "Hi", BadRequestError),
    ],
)
async def test_errors_are_the_sdks(
    served: RouterOnFakes, more: dict[str, Any], text: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await chat(served, **more).ainvoke(text)


async def test_without_the_record_there_is_no_answer(served: RouterOnFakes) -> None:
    served.stack.recorder.silent = True
    with pytest.raises(InternalServerError):
        await chat(served).ainvoke("Hi")
