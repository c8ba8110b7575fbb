"""What the router's benchmark runs beside the router: a stand-in for a model's server, and the floor.

`python -m benchmarks.router_parts stand-in PORT [ANSWER ...]`: speaks the OpenAI protocol, is no model, gives at once
the next of the answers; told none, the same short sentence.
`python -m benchmarks.router_parts floor PORT`: bare aiohttp that parses a chat request, has Kafka acknowledge a record
of the size of an interaction, and answers: what no router on these libraries can be faster than.
"""

import asyncio
import sys
from itertools import cycle
from typing import Any

import msgspec
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer

from services.runtime.settings import KafkaSettings

FLOOR_TOPIC = "benchmark.floor"
RECORD_BYTES = 1500
ANSWER = "Your parcel leaves our warehouse tomorrow."
HEAD = {"id": "1", "created": 1, "model": "stand-in"}


def _usage(answer: str) -> dict[str, int]:
    words = len(answer.split())
    return {"prompt_tokens": 30, "completion_tokens": words, "total_tokens": 30 + words}


def _event(choices: list[dict[str, Any]], **more: Any) -> bytes:
    chunk = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


def _whole(answer: str) -> bytes:
    message = {"role": "assistant", "content": answer}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    return msgspec.json.encode({**HEAD, "object": "chat.completion", "choices": choices, "usage": _usage(answer)})


def _streamed(answer: str) -> bytes:
    logprobs = {"content": [{"token": word, "logprob": -0.1, "bytes": None} for word in answer.split()]}
    return b"".join(
        [
            _event([{"index": 0, "delta": {"content": answer}, "logprobs": logprobs, "finish_reason": None}]),
            _event([{"index": 0, "delta": {}, "finish_reason": "stop"}]),
            _event([], usage=_usage(answer)),
            b"data: [DONE]\n\n",
        ]
    )


async def _serve_stand_in(port: int, *answers: str) -> None:
    bodies = cycle([(_whole(answer), _streamed(answer)) for answer in answers or (ANSWER,)])

    async def chat(request: web.Request) -> web.Response:
        is_streamed = msgspec.json.decode(await request.read()).get("stream", False)
        whole, streamed = next(bodies)
        if is_streamed:
            return web.Response(body=streamed, content_type="text/event-stream")
        return web.Response(body=whole, content_type="application/json")

    await _serve(chat, port)


async def _serve_floor(port: int) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=KafkaSettings().bootstrap_servers, enable_idempotence=True, acks="all", compression_type="lz4"
    )
    await producer.start()
    record = bytes(range(250)) * (RECORD_BYTES // 250)
    answer = _whole(ANSWER)

    async def chat(request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read())
        await producer.send_and_wait(FLOOR_TOPIC, record, key=str(id(asked)).encode())
        return web.Response(body=answer, content_type="application/json")

    await _serve(chat, port)


async def _serve(chat: Any, port: int) -> None:
    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"stand-in": _serve_stand_in, "floor": _serve_floor}[sys.argv[1]](int(sys.argv[2]), *sys.argv[3:]))
