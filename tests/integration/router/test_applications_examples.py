"""Every example of docs/applications.md runs, against a router on fakes that answers as it is told to."""

import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from schemas.prompts import Generated, Prompt
from services.router.openai.requests import ChatRequest
from tests.router_on_fakes import RouterOnFakes
from tests.unit.router.fakes import KEY, FakeModels


def oblige(models: FakeModels) -> None:
    """Have models answer in the schema that they are held to."""
    plain = models.generate

    async def generate(prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        wanted = prompt.sampling.get("response_format")
        models.pieces = [json.dumps(instance(wanted["json_schema"]["schema"]))] if wanted else ["Lumi ", "the lamp"]
        async for piece in plain(prompt, timeout_seconds):
            yield piece

    models.generate = generate  # type: ignore[method-assign] # for this test


def instance(schema: dict[str, Any]) -> Any:
    """Return something that obeys a schema of the examples."""
    if "anyOf" in schema:
        return instance(schema["anyOf"][0])
    if "const" in schema:
        return schema["const"]
    by_type = {"string": "lamp", "integer": 1, "object": None}
    if schema["type"] != "object":
        return by_type[schema["type"]]
    return {name: instance(each) for name, each in schema.get("properties", {}).items()}


def examples(rootpath: Any, language: str, served: RouterOnFakes) -> list[str]:
    text = (rootpath / "docs" / "applications.md").read_text()
    for theirs, ours in {
        "http://127.0.0.1:18080": served.url,
        "127.0.0.1:18081": served.target,
        "gyre-demo-key": KEY,
        "consumer-services": "calls",
    }.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


async def test_every_python_example_runs(
    served: RouterOnFakes, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    oblige(served.stack.models)
    found = examples(request.config.rootpath, "python", served)
    assert len(found) >= 15
    names: dict[str, Any] = {"__name__": "example"}

    def run() -> None:
        for example in found:
            exec(example, names)  # our own document

    await asyncio.to_thread(run)
    printed = capsys.readouterr().out
    for expected in (
        "Lumi the lamp small",
        'lights {"room":"lamp"}',
        "lights {'room': 'lamp'}",
        "specialist-shop-calls True",
        "product='lamp' stars=1",
        "{'product': 'lamp', 'stars': 1}",
        "store ",
        "('sampling.temperature',)",
    ):
        assert expected in printed
    said = [feedback.kind for feedback in served.stack.recorder.feedbacks]
    assert said == ["rating", "rating", "rating", "outcome", "correct_answer"]


def test_every_field_that_the_edge_takes_is_in_the_table(request: pytest.FixtureRequest) -> None:
    text = (request.config.rootpath / "docs" / "applications.md").read_text()
    table = text[text.index("## OpenAI's fields") : text.index("## Finding a request")]
    assert [name for name in ChatRequest.__struct_fields__ if f"`{name}`" not in table] == []


async def test_every_curl_example_is_answered(served: RouterOnFakes, request: pytest.FixtureRequest) -> None:
    found = examples(request.config.rootpath, "sh", served)
    assert len(found) == 2
    environment = {**os.environ, "REQUEST_ID": "0199e000-0000-7000-8000-000000000001"}
    for example in found:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", example.replace("curl ", "curl --silent --fail-with-body "), stdout=asyncio.subprocess.PIPE,
            env=environment,
        )  # fmt: skip
        out, _ = await process.communicate()
        assert process.returncode == 0, out
    assert served.stack.recorder.last.answer == "Hello there"
    assert [feedback.kind for feedback in served.stack.recorder.feedbacks] == ["rating"]
