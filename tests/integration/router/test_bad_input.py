"""Whatever comes in gets an answer that is on record, or an error that says what was wanted: no crash and no hang."""

import asyncio
import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import aiohttp
import grpc
import grpc.aio
import pytest

from gyre.api.router.v1 import router_pb2
from services.router import http
from services.runtime import http as runtime_http
from tests.router_on_fakes import RouterOnFakes
from tests.unit.router.fakes import KEY

HTTP_REQUESTS, GRPC_REQUESTS = 7_000, 3_000
AT_ONCE = 16
SECONDS = 30  # that one request may take on a busy machine
CHAT: dict[str, Any] = {
    "model": "auto",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Turn on the light, jo@example.com"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "lights", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": "done"},
        {"role": "user", "content": "Thanks"},
    ],
    "metadata": {"task": "calls", "conversation_id": "c-1"},
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "lights",
                "description": "Turns lights on",
                "parameters": {"type": "object", "properties": {"room": {"type": "string", "enum": ["hall"]}}},
            },
        }
    ],
    "temperature": 0.5,
    "max_tokens": 16,
    "stop": ["\n"],
    "seed": 7,
    "user": "ann",
    "stream": False,
}
PLAIN = {
    "model": "auto",
    "messages": [{"role": "user", "content": "Hi"}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "stream": True,
    "stream_options": {"include_usage": True},
}
FEEDBACK = {"request_id": "0199e000-0000-7000-8000-000000000001", "rating": 1.0, "comment": "good", "user": "ann"}
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2**63,
    1e308,
    -0.0,
    "",
    " ",
    "x" * 5_000,
    "\x00\x1b[31m",
    "\u202e\u200b\ufeff",
    "\ud800",
    "🏳️‍🌈" * 40,
    "<EMAIL_1>",
    "../../etc/passwd",
    "{{tools}}{0}%s",
    [],
    {},
    [[[[[]]]]],
    {"a": {"b": {"c": None}}},
    ["x"] * 300,
    {"type": "image_url", "image_url": {"url": "http://127.0.0.1/"}},
]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each place in a JSON value: what holds it, and under which key."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    for key in keys:
        yield value, key
        yield from places(value[key])


def mutated(body: dict[str, Any], chance: random.Random) -> bytes:
    """Return a body with one to three things wrong with it."""
    body = copy.deepcopy(body)
    for _ in range(chance.choice((1, 1, 2, 3))):
        holder, key = chance.choice([*places(body)])
        match chance.randrange(5):
            case 0:
                del holder[key]
            case 1:
                holder[key] = copy.deepcopy(chance.choice(ODD))
            case 2:
                holder[key] = [holder[key]] * chance.choice((1, 2, 200))
            case 3 if isinstance(holder, dict):
                holder[chance.choice(("x", "", "n", "logprobs", "functions", "model ", "\ud800"))] = chance.choice(ODD)
            case _:
                holder[key] = {"": holder[key]}
    raw = json.dumps(body).encode()
    match chance.randrange(12):
        case 0:
            raw = raw[: chance.randrange(len(raw))]
        case 1:
            place = chance.randrange(len(raw))
            raw = raw[:place] + bytes([chance.randrange(256)]) + raw[place + 1 :]
        case 2:
            depth = chance.choice((50, 2_000, 100_000))
            raw = raw[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"
    return raw


def recorded(served: RouterOnFakes) -> set[str]:
    """Return the ids of the interactions that are on record."""
    return {each.request_id for each in served.stack.recorder.interactions}


async def test_mutated_http_requests_are_answered_on_record_or_refused_by_name(served: RouterOnFakes) -> None:
    chance = random.Random(20261128)
    statuses = Counter[int]()
    bodies = [
        (path, mutated(body, chance))
        for path, body in chance.choices(
            [("chat/completions", CHAT), ("chat/completions", PLAIN), ("feedback", FEEDBACK)],
            (5, 3, 2),
            k=HTTP_REQUESTS,
        )
    ]

    async def send(session: aiohttp.ClientSession, path: str, body: bytes) -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
        async with asyncio.timeout(SECONDS):
            async with session.post(f"{served.url}/v1/{path}", data=body, headers=headers) as response:
                answer = await response.read()
        statuses[response.status] += 1
        assert b"Traceback" not in answer
        assert response.headers["x-request-id"]
        if response.status == 200:
            if path == "chat/completions":
                assert response.headers["x-request-id"] in recorded(served)
            return
        error = json.loads(answer)["error"]
        assert response.status in (400, 403, 404, 413, 422), (response.status, body[:300])
        assert error["message"]

    async with aiohttp.ClientSession() as session:
        for first in range(0, len(bodies), AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for path, body in bodies[first : first + AT_ONCE]:
                    group.create_task(send(session, path, body))
            del served.stack.recorder.interactions[: -4 * AT_ONCE]
    assert statuses[200] > HTTP_REQUESTS // 50
    assert statuses[400] > HTTP_REQUESTS // 2


def grpc_bytes(chance: random.Random) -> bytes:
    """Return a `CompleteRequest` as bytes with some of them wrong."""
    request = router_pb2.CompleteRequest(task="calls", model="auto", conversation_id="c", user="ann")
    for message in CHAT["messages"]:
        content = message["content"]
        request.messages.add(role=message["role"], content=content if isinstance(content, str) else "Hi")
    request.tools.add(name="lights", parameters_json='{"type":"object"}')
    request.sampling.temperature = chance.choice((0.0, 0.5, -1.0, 1e9))
    raw = bytearray(request.SerializeToString())
    for _ in range(chance.choice((0, 1, 2, 8))):
        raw[chance.randrange(len(raw))] = chance.randrange(256)
    if chance.randrange(8) == 0:
        del raw[chance.randrange(len(raw)) :]
    return bytes(raw)


async def test_mutated_grpc_requests_are_answered_on_record_or_refused(served: RouterOnFakes) -> None:
    chance = random.Random(20261128)
    codes = Counter[grpc.StatusCode]()

    async def send(channel: grpc.aio.Channel, raw: bytes) -> None:
        call = channel.unary_unary("/gyre.api.router.v1.Router/Complete")(
            raw, metadata=[("authorization", f"Bearer {KEY}")], timeout=SECONDS
        )
        code = await call.code()
        codes[code] += 1
        if code is grpc.StatusCode.OK:
            id_ = dict(await call.initial_metadata())["x-request-id"]
            assert id_ in recorded(served)
        else:
            assert "Traceback" not in (await call.details() or "")

    async with grpc.aio.insecure_channel(served.target) as channel:
        for _ in range(GRPC_REQUESTS // AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(send(channel, grpc_bytes(chance)))
            del served.stack.recorder.interactions[: -2 * AT_ONCE]
    assert set(codes) <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
    }
    assert codes[grpc.StatusCode.OK] > GRPC_REQUESTS // 50
    assert codes[grpc.StatusCode.INVALID_ARGUMENT] > GRPC_REQUESTS // 10


async def raw_connection(served: RouterOnFakes, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rsplit(":", 1)[1]))
    writer.write(sent)
    await writer.drain()
    return reader, writer


async def test_a_body_that_comes_too_slowly_is_refused(served: RouterOnFakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "BODY_SECONDS", 0.2)
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer a-key\r\ncontent-length: 99\r\n\r\n{"
    )
    reader, writer = await raw_connection(served, head)
    async with asyncio.timeout(SECONDS):
        assert (await reader.readline()).startswith(b"HTTP/1.1 408")
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"POST /v1/chat/completions HTTP/1.1\r\nhost:"])
async def test_connections_on_which_nothing_comes_are_closed_and_others_served_meanwhile(
    served: RouterOnFakes, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    connections = [await raw_connection(served, sent) for _ in range(500)]
    async with aiohttp.ClientSession() as session, session.get(f"{served.url}/healthz") as response:
        assert response.status == 200
    monkeypatch.setattr(runtime_http, "IDLE_SECONDS", 0.1)
    async with asyncio.timeout(SECONDS):
        for reader, writer in connections:
            assert await reader.read() == b""
            writer.close()


@pytest.mark.parametrize(
    "headers",
    [{f"x-{i}": "y" for i in range(5_000)}, {"x-long": "y" * 100_000}, {"authorization": "Bearer " + "é" * 99}],
)
async def test_odd_headers_are_refused(served: RouterOnFakes, headers: dict[str, str]) -> None:
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(f"{served.url}/v1/chat/completions", json=PLAIN, headers=headers) as response:
                assert response.status in (400, 401, 431)
        except aiohttp.ClientConnectionError:
            pass  # hung up on while it was still sending
        async with session.get(f"{served.url}/healthz") as response:
            assert response.status == 200
