"""Plays requests through the router, as an application would: by its OpenAI-compatible HTTP interface."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import httpx

from gyre.demo.checker import is_right, right_function
from gyre.demo.traffic import TrafficRequest

# The demo's key in the sample bundle (deploy/bundle/applications.yaml); it opens nothing else.
DEMO_KEY = "gyre-demo-key"
IN_FLIGHT = 2
TIMEOUT_SECONDS = 120.0
TRIES = 60
RETRY_SECONDS = 1.0


class DemoError(RuntimeError):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True)
class Played:
    """What came back for one request.

    Attributes:
        traffic_id: The request's id in the traffic.
        request_id: Gyre's id of the interaction.
        model: Who answered.
        answer: The function call as JSON text, or whatever text came instead.
        right: By the official checker.
        right_function: Whether the function was the right one.
        prompt_tokens: Tokens that the model was shown.
        completion_tokens: Tokens that it answered.
        seconds: From sending to the whole answer.
    """

    traffic_id: str
    request_id: str
    model: str
    answer: str
    right: bool
    right_function: bool
    prompt_tokens: int
    completion_tokens: int
    seconds: float


async def play(
    router: str, requests: Sequence[TrafficRequest], done: Callable[[], None], model: str = "auto"
) -> list[Played]:
    """Send requests as a few applications would, each one at a time, and return what came back, as it came.

    Neighbours that offer the same functions come from one application: a model that keeps the last prompt's beginning
    then reads their function documents once.

    Args:
        router: Base URL of the router's HTTP interface.
        requests: What to send.
        done: Called after each answer.
        model: Who is to answer; by default that is the router's to decide.

    Raises:
        DemoError: The router refused a request or did not answer.
    """
    offers = (list(group) for _, group in groupby(requests, key=lambda request: request.tools))
    played: list[Played] = []
    async with httpx.AsyncClient(
        base_url=router, headers={"Authorization": f"Bearer {DEMO_KEY}"}, timeout=TIMEOUT_SECONDS
    ) as client:

        async def application() -> None:
            for offer in offers:
                for request in offer:
                    played.append(await _ask(client, request, model))
                    done()

        await asyncio.gather(*(application() for _ in range(IN_FLIGHT)))
    return played


async def _ask(client: httpx.AsyncClient, request: TrafficRequest, model: str) -> Played:
    body = {
        "model": model,
        "messages": request.messages,
        "tools": request.tools,
        "temperature": 0,
        "metadata": {"task": request.task},
        "user": request.id,  # each from another person, whom `gyre audit erase` can take out again
    }
    for _ in range(TRIES):
        started = time.perf_counter()
        try:
            response = await client.post("/v1/chat/completions", json=body)
        except httpx.HTTPError as error:
            raise DemoError(
                f"The router at {client.base_url} does not answer ({error!r}). Look at `gyre status`."
            ) from error
        seconds = time.perf_counter() - started
        if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        await asyncio.sleep(RETRY_SECONDS)  # the model may still be loading
    if response.status_code != httpx.codes.OK:
        raise DemoError(f"The router refused request {request.id}: {response.status_code} {response.text[:300]}")
    completion = response.json()
    answer = _answer(completion["choices"][0]["message"])
    return Played(
        traffic_id=request.id,
        request_id=completion["id"],
        model=completion["model"],
        answer=answer,
        right=is_right(request, answer),
        right_function=right_function(request, answer),
        prompt_tokens=completion["usage"]["prompt_tokens"],
        completion_tokens=completion["usage"]["completion_tokens"],
        seconds=seconds,
    )


def _answer(message: dict[str, object]) -> str:
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        function = calls[0]["function"]
        return json.dumps({"name": function["name"], "arguments": json.loads(function["arguments"])})
    return str(message.get("content") or "")
