"""Models behind an OpenAI-compatible server: what crosses the wire, and what its failures become.

The server here is a script; `tests/integration/router/test_upstreams.py` asks a real one.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from schemas.prompts import Generated, Prompt, Token
from services.router.ports import Models
from services.runtime.errors import DeadlineExceeded, InvalidArgument, Retryable, ServiceError
from services.runtime.models import ModelServers
from services.runtime.settings import UpstreamSettings

KEY = "sk-of-the-upstream"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def chunk(text: str | None = None, finish_reason: str | None = None, *logprobs: float, **more: Any) -> dict[str, Any]:
    content = [{"token": "x", "logprob": logprob, "bytes": None} for logprob in logprobs]
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish_reason, "logprobs": {"content": content}}
    return {"object": "chat.completion.chunk", "model": "llm-2026-01", "choices": [choice], **more}


def usage() -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "model": "llm-2026-01", "choices": [], "usage": USAGE}


class Server:
    """Answers as the script says: chunks, bytes as they are, or silence (None)."""

    def __init__(self, *script: Any, status: int = 200, body: Any = None) -> None:
        self.script, self.status, self.body = script, status, body
        self.asked: Any = None
        self.headers: Any = None
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked, self.headers = await request.json(), request.headers
        if self.status != 200:
            return web.json_response(self.body, status=self.status, headers={"location": "/elsewhere"})
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for step in self.script:
                if step is None:
                    await asyncio.Event().wait()
                data = step if isinstance(step, bytes) else b"data: " + json.dumps(step).encode() + b"\n\n"
                await response.write(data)
        except asyncio.CancelledError:
            self.left.set()
            raise
        return response


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[tuple[Models, str]]:
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", server.answer)])
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    settings = UpstreamSettings(triton_url="127.0.0.1:1", upstream_keys={"cloud": SecretStr(KEY)})
    async with ModelServers(settings) as models:
        yield models, f"http://127.0.0.1:{port}/v1"
    await runner.cleanup()


def prompt(url: str, upstream: str = "cloud") -> Prompt:
    messages = [{"role": "user", "content": "Hi"}, {"role": "tool", "content": "21 degrees"}]
    sampling = {"temperature": 0.0, "max_tokens": 8, "stop": ["\n"]}
    return Prompt("llm", "", messages, sampling, upstream, url)


async def collect(models: Models, question: Prompt, seconds: float = 5) -> list[str | Generated]:
    async with aclosing(models.generate(question, seconds)) as pieces:
        return [piece async for piece in pieces]


async def test_an_answer_arrives_piece_by_piece_and_says_what_it_took() -> None:
    server = Server(
        b": a comment\n\n", chunk("Hel", None, -0.5), chunk("lo é", None, -1.0), chunk(None, "stop"), usage()
    )
    async with served(server) as (models, url):
        *pieces, generated = await collect(models, prompt(url))
    assert pieces == ["Hel", "lo é"]
    assert generated == Generated(
        model_version="llm-2026-01",
        finish_reason="stop",
        prompt_tokens=3,
        completion_tokens=2,
        sum_logprob=-1.5,
        mean_logprob=-0.75,
        min_logprob=-1.0,
    )
    assert (server.asked["model"], server.asked["max_tokens"], server.asked["stop"]) == ("llm", 8, ["\n"])
    assert [message["role"] for message in server.asked["messages"]] == ["user", "user"]
    assert server.asked["stream_options"] == {"include_usage": True}


async def test_the_tokens_come_with_how_it_ended_if_they_are_asked_for() -> None:
    server = Server(chunk("Hel", None, -0.5), chunk("lo", "stop", -1.0), usage())
    async with served(server) as (models, url):
        question = prompt(url)
        generated = (await collect(models, replace(question, sampling=question.sampling | {"logprobs": True})))[-1]
    assert isinstance(generated, Generated)
    assert generated.tokens == (Token("x", -0.5), Token("x", -1.0))


@pytest.mark.parametrize("odd", [{}, {"token": 7}, {"token": "x", "bytes": [999]}])
async def test_a_server_that_tells_no_texts_of_tokens_answers_all_the_same(odd: dict[str, Any]) -> None:
    told = chunk("Hi", "stop")
    told["choices"][0]["logprobs"]["content"] = [{**odd, "logprob": -1.0}]
    async with served(Server(told, usage())) as (models, url):
        question = prompt(url)
        generated = (await collect(models, replace(question, sampling=question.sampling | {"logprobs": True})))[-1]
    assert isinstance(generated, Generated)
    assert (generated.sum_logprob, generated.tokens) == (-1.0, ())


async def test_without_log_probabilities_there_are_none() -> None:
    async with served(Server(chunk("Hi"), chunk(None, "length"), usage(), b"data: [DONE]\n\n")) as (models, url):
        generated = (await collect(models, prompt(url)))[-1]
    assert isinstance(generated, Generated)
    assert (generated.finish_reason, generated.sum_logprob, generated.mean_logprob) == ("length", None, None)


async def test_the_key_goes_to_the_upstream_that_it_is_for_and_into_no_error() -> None:
    server = Server(status=401, body={"error": {"message": "Incorrect API key provided"}})
    async with served(server) as (models, url):
        with pytest.raises(Retryable, match="401 Incorrect API key") as caught:
            await collect(models, prompt(url))
        assert server.headers["authorization"] == f"Bearer {KEY}"
        assert KEY not in str(caught.value)
        with pytest.raises(Retryable):
            await collect(models, prompt(url, "another"))
        assert "authorization" not in server.headers


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"error": {"message": "maximum context length is 4096 tokens"}}, InvalidArgument),
        (422, {"error": "no such response_format"}, InvalidArgument),
        (400, ["?"], InvalidArgument),
        (302, None, Retryable),
        (404, {"error": {"message": "no such model"}}, Retryable),
        (429, {"error": {"message": "slow down"}}, Retryable),
        (500, None, Retryable),
    ],
)
async def test_an_error_is_the_callers_or_the_servers(status: int, body: Any, kind: type[ServiceError]) -> None:
    async with served(Server(status=status, body=body)) as (models, url):
        with pytest.raises(kind, match="'llm'"):
            await collect(models, prompt(url))


@pytest.mark.parametrize(
    "script",
    [
        [],
        [chunk("Hel")],
        [chunk("Hel"), chunk(None, "stop")],
        [chunk("Hel"), chunk(None, "content_filter"), usage()],
        [chunk("Hel"), {"error": {"message": "out of memory"}}],
        [b"data: {\n\n"],
        [b'data: {"choices": [{"delta": {"content": 7}}]}\n\n'],
        [b"data: " + b"x" * 1_000_000],
        [b"data: \xff\n\n"],
    ],
)
async def test_an_answer_that_is_no_whole_one_is_an_error(script: list[Any]) -> None:
    async with served(Server(*script)) as (models, url):
        with pytest.raises(Retryable, match="'llm'"):
            await collect(models, prompt(url))


async def test_whoever_is_away_is_to_be_tried_again() -> None:
    async with ModelServers(UpstreamSettings()) as models:
        with pytest.raises(Retryable):
            await collect(models, prompt("http://127.0.0.1:1/v1"))


async def test_closing_the_generator_stops_the_generation() -> None:
    server = Server(chunk("Hel"), None)
    async with served(server) as (models, url):
        async with aclosing(models.generate(prompt(url), 60)) as pieces:
            assert await anext(pieces) == "Hel"
        async with asyncio.timeout(10):
            await server.left.wait()


async def test_a_generation_ends_at_its_deadline() -> None:
    server = Server(chunk("Hel"), None)
    async with served(server) as (models, url):
        with pytest.raises(DeadlineExceeded):
            await collect(models, prompt(url), 0.1)
        async with asyncio.timeout(10):
            await server.left.wait()
