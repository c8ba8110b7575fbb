"""What the router's benchmark runs beside the router: a stand-in for Triton, and the floor.

`python -m benchmarks.router_parts stand-in PORT`: speaks Triton's gRPC, is no model, answers the same words at once.
`python -m benchmarks.router_parts floor PORT`: bare aiohttp that parses a chat request, has Kafka acknowledge a record
of the size of an interaction, and answers: what no router on these libraries can be faster than.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import msgspec
import uvloop
from aiohttp import web
from aiokafka import AIOKafkaProducer
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.runtime.settings import KafkaSettings

FLOOR_TOPIC = "benchmark.floor"
RECORD_BYTES = 1500
ANSWER = "Your parcel leaves our warehouse tomorrow."
USAGE = {
    "finish_reason": "stop",
    "prompt_tokens": 30,
    "completion_tokens": 8,
    "sum_logprob": -1.0,
    "mean_logprob": -0.1,
    "min_logprob": -0.5,
}


class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc] # published without types
    """Answers every inference with the same words."""

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Answer as Gyre's models do: pieces, then what it took."""
        async for request in requests:
            yield _response(request.model_name, ANSWER, b"")
            yield _response(request.model_name, "", msgspec.json.encode(USAGE))


def _response(model: str, text: str, usage: bytes) -> Any:
    values = {"text_output": text.encode(), "usage": usage}
    return service_pb2.ModelStreamInferResponse(
        infer_response=service_pb2.ModelInferResponse(
            model_name=model,
            model_version="1",
            outputs=[
                service_pb2.ModelInferResponse.InferOutputTensor(name=name, datatype="BYTES", shape=[1])
                for name in values
            ],
            raw_output_contents=[len(value).to_bytes(4, "little") + value for value in values.values()],
        )
    )


async def _serve_stand_in(port: int) -> None:
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(StandIn(), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def _serve_floor(port: int) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=KafkaSettings().bootstrap_servers, enable_idempotence=True, acks="all", compression_type="lz4"
    )
    await producer.start()
    record = bytes(range(250)) * (RECORD_BYTES // 250)

    async def chat(request: web.Request) -> web.Response:
        asked = msgspec.json.decode(await request.read())
        await producer.send_and_wait(FLOOR_TOPIC, record, key=str(id(asked)).encode())
        return web.Response(body=msgspec.json.encode({"answer": ANSWER}), content_type="application/json")

    application = web.Application()
    application.add_routes([web.post("/v1/chat/completions", chat)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run({"stand-in": _serve_stand_in, "floor": _serve_floor}[sys.argv[1]](int(sys.argv[2])))
