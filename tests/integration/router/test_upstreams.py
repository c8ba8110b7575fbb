"""A real OpenAI-compatible server as an upstream: llama.cpp's own."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import pytest
from pydantic import SecretStr

from embedded.stack import Stack
from schemas.prompts import Generated, Prompt
from services.runtime.errors import InvalidArgument, Retryable
from services.runtime.models import ModelServers
from services.runtime.settings import UpstreamSettings

KEY = "a-key-of-the-upstream"


@pytest.fixture(scope="module")
def llama(stack: Stack, models: Path) -> Iterator[str]:
    """The address of a llama.cpp server with the base model."""
    command = [
        stack.settings.triton_python,
        Path(__file__).with_name("llama_server.py"),
        models / "base.Q8_0.gguf",
        KEY,
    ]
    with Popen(command, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
async def servers() -> AsyncIterator[ModelServers]:
    async with ModelServers(UpstreamSettings(upstream_keys={"llama": SecretStr(KEY)})) as servers:
        yield servers


def prompt(url: str, upstream: str = "llama", said: str = "Say hello.", **sampling: Any) -> Prompt:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": said}]
    return Prompt("base", "", messages, {"temperature": 0.0, "max_tokens": 16, **sampling}, upstream, f"{url}/v1")


async def test_it_answers_piece_by_piece_with_its_log_probabilities(llama: str, servers: ModelServers) -> None:
    async with aclosing(servers.generate(prompt(llama), 60)) as answer:
        *pieces, generated = [piece async for piece in answer]
    assert len(pieces) > 1
    assert isinstance(generated, Generated)
    assert generated.prompt_tokens > 0
    assert 0 < generated.completion_tokens <= 16
    assert generated.sum_logprob is not None
    assert generated.sum_logprob < 0


async def test_it_holds_an_answer_to_a_schema(llama: str, servers: ModelServers) -> None:
    schema = {"type": "object", "properties": {"room": {"enum": ["hall", "attic"]}}, "required": ["room"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    text, _ = await servers.answer(prompt(llama, response_format=wanted, max_tokens=64), 60)
    assert json.loads(text)["room"] in ("hall", "attic")


async def test_what_it_cannot_read_is_the_callers_mistake(llama: str, servers: ModelServers) -> None:
    with pytest.raises(InvalidArgument, match="'base' refuses"):
        await servers.answer(prompt(llama, said="word " * 2000), 60)


async def test_without_its_key_it_is_away(llama: str, servers: ModelServers) -> None:
    with pytest.raises(Retryable, match="401"):
        await servers.answer(prompt(llama, upstream="another"), 60)
