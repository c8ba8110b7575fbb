"""The router's adapters against servers of the same protos: what crosses the wire, and what its failures become."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import Finding, Message, Sensitivity
from schemas.prompts import Generated, Prompt
from services.router.adapters import RemoteContext, RemoteGovernance
from services.router.domain.answers import Asked
from services.router.domain.knowledge import Clearance, InputVerdict, Knowledge, Mask, OutputVerdict, Passage, Turn
from services.router.ports import Context, Governance, Models
from services.runtime.errors import DeadlineExceeded, InvalidArgument, Retryable, ServiceError
from services.runtime.exchange import ExchangeChannel
from services.runtime.rpc import Registration
from services.runtime.triton import TritonModels
from tests.served import channel_to

PROMPT = Prompt("small", "", [{"role": "user", "content": "Hi"}], {"temperature": 0.0, "max_tokens": 8})
USAGE = {
    "finish_reason": "stop",
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "sum_logprob": -1.0,
    "mean_logprob": -0.5,
    "min_logprob": -0.75,
}


@asynccontextmanager
async def served(add: Callable[[Any, grpc.aio.Server], None], servicer: Any) -> AsyncIterator[str]:
    server = grpc.aio.server()
    add(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(0)


def governance(servicer: Any) -> Registration:
    add = governance_pb2_grpc.add_GovernanceServicer_to_server
    return Registration(add, servicer, "gyre.api.governance.v1.Governance")


def context(servicer: Any) -> Registration:
    add = context_pb2_grpc.add_ContextServicer_to_server
    return Registration(add, servicer, "gyre.api.context.v1.Context")


class GovernanceServer(governance_pb2_grpc.GovernanceServicer):
    asked: Any = None
    verdict = governance_pb2.VERDICT_MASK

    async def CheckInput(self, request: Any, context: Any) -> governance_pb2.CheckInputResponse:  # noqa: N802
        self.asked = request
        return governance_pb2.CheckInputResponse(
            verdict=self.verdict,
            texts=["<EMAIL_1>"],
            findings=[types_pb2.Finding(kind="email", action="mask", text_index=0, start=0, end=7)],
            sensitivity=types_pb2.SENSITIVITY_CONFIDENTIAL,
            clearances=[
                governance_pb2.Clearance(
                    sensitivity=types_pb2.SENSITIVITY_CONFIDENTIAL,
                    models=["small"],
                    policies=["p"],
                    forbidden=[governance_pb2.Forbidden(model="big", policies=["q"])],
                )
            ],
            bundle_version="b1",
            policy_us=12,
            masks=[governance_pb2.Mask(placeholder="<EMAIL_1>", value="a@b.com", text="A@b.com")],
        )

    async def CheckOutput(self, request: Any, context: Any) -> governance_pb2.CheckOutputResponse:  # noqa: N802
        self.asked = request
        if request.text == "slow":
            await asyncio.sleep(60)
        return governance_pb2.CheckOutputResponse(
            verdict=governance_pb2.VERDICT_PASS,
            text=request.text,
            bundle_version="b1",
            masks=[governance_pb2.Mask(placeholder="<CARD_1>", value="42", text="4 2")],
        )


async def test_governances_verdicts_arrive_whole() -> None:
    server = GovernanceServer()
    async with channel_to(governance(server)) as channel:
        verdicts: Governance = RemoteGovernance(channel)
        verdict = await verdicts.check_input("web", "chat", ["a@b.com"], [0], 5)
        output = await verdicts.check_output("web", "chat", "fine", Asked(("Be kind.",), "{}"), 5)
    finding = Finding(direction="input", kind="email", action="mask", text_index=0, start=0, end=7)
    assert verdict == InputVerdict(
        verdict="mask",
        texts=("<EMAIL_1>",),
        sensitivity=Sensitivity.CONFIDENTIAL,
        clearances={Sensitivity.CONFIDENTIAL: Clearance(frozenset({"small"}), ("p",), {"big": ("q",)})},
        bundle_version="b1",
        findings=(finding,),
        policy_us=12,
        masks=(Mask("<EMAIL_1>", "a@b.com", "A@b.com"),),
    )
    assert output == OutputVerdict("pass", "fine", "b1", masks=(Mask("<CARD_1>", "42", "4 2"),))
    assert (server.asked.application, server.asked.task, server.asked.text) == ("web", "chat", "fine")
    assert (list(server.asked.instructions), server.asked.schema) == (["Be kind."], "{}")


async def test_a_verdict_that_is_none_does_not_pass() -> None:
    server = GovernanceServer()
    server.verdict = governance_pb2.VERDICT_UNSPECIFIED
    async with channel_to(governance(server)) as channel:
        with pytest.raises(Retryable, match="verdict 0"):
            await RemoteGovernance(channel).check_input("web", "chat", ["x"], [], 5)


async def test_a_slow_verdict_is_waited_for_no_longer_than_allowed() -> None:
    async with channel_to(governance(GovernanceServer())) as channel:
        with pytest.raises(DeadlineExceeded):
            await RemoteGovernance(channel).check_output("web", "chat", "slow", Asked(), 0.05)


class ContextServer(context_pb2_grpc.ContextServicer):
    async def Stitch(self, request: Any, context: Any) -> context_pb2.StitchResponse:  # noqa: N802
        assert (request.tenant, request.task, request.query) == ("shop", "chat", "where?")
        assert (request.conversation_id, request.budget_tokens) == ("c", 99)
        return context_pb2.StitchResponse(
            passages=[
                context_pb2.Passage(
                    document_id="d",
                    title="T",
                    text="here",
                    sensitivity=types_pb2.SENSITIVITY_PUBLIC,
                    tokens=1,
                    score=0.5,
                )
            ],
            turns=[
                context_pb2.Turn(
                    message=types_pb2.Message(role="user", content="before"),
                    sensitivity=request.max_sensitivity,
                    tokens=2,
                )
            ],
        )


async def test_contexts_knowledge_arrives_whole() -> None:
    async with channel_to(context(ContextServer())) as channel:
        adapter: Context = RemoteContext(channel)
        knowledge = await adapter.stitch("shop", "chat", "where?", "c", 99, Sensitivity.RESTRICTED, 5)
    assert knowledge == Knowledge(
        passages=(Passage("d", "T", "here", Sensitivity.PUBLIC, 1, 0.5),),
        turns=(Turn(Message(role="user", content="before"), Sensitivity.RESTRICTED, 2),),
    )


async def test_whoever_is_away_is_to_be_tried_again() -> None:
    async with ExchangeChannel("127.0.0.1:1") as channel:
        with pytest.raises(Retryable):
            await RemoteGovernance(channel).check_output("web", "chat", "x", Asked(), 5)
        with pytest.raises(Retryable):
            await RemoteContext(channel).stitch("shop", "chat", "q", "", 1, Sensitivity.PUBLIC, 5)
    async with TritonModels("127.0.0.1:1") as models:
        with pytest.raises(Retryable):
            await collect(models)


class TritonServer(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc] # published without types
    """Answers as the script says: text, usage, an error, or silence."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.asked: Any = None
        self.cancelled = asyncio.Event()

    async def ModelStreamInfer(self, requests: Any, context: Any) -> Any:  # noqa: N802
        self.asked = await anext(aiter(requests))
        try:
            for step in self.script:
                if step is None:
                    await asyncio.Event().wait()
                elif isinstance(step, Exception):
                    yield service_pb2.ModelStreamInferResponse(error_message=str(step))
                    return
                else:
                    yield _response(*step)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def _response(text: str, usage: str = "") -> Any:
    tensors = [("text_output", text), ("usage", usage)]
    return service_pb2.ModelStreamInferResponse(
        infer_response=service_pb2.ModelInferResponse(
            model_name="small",
            model_version="7",
            outputs=[
                service_pb2.ModelInferResponse.InferOutputTensor(name=name, datatype="BYTES", shape=[1])
                for name, _ in tensors
            ],
            raw_output_contents=[len(v.encode()).to_bytes(4, "little") + v.encode() for _, v in tensors],
        )
    )


async def collect(models: Models, seconds: float = 5) -> list[str | Generated]:
    async with aclosing(models.generate(PROMPT, seconds)) as pieces:
        return [piece async for piece in pieces]


@asynccontextmanager
async def triton(*script: Any) -> AsyncIterator[tuple[TritonServer, TritonModels]]:
    server = TritonServer(*script)
    add = service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
    async with served(add, server) as url, TritonModels(url) as models:
        yield server, models


async def test_an_answer_arrives_piece_by_piece_and_says_what_it_took() -> None:
    async with triton(("Hel",), ("lo é",), ("", json.dumps(USAGE))) as (server, models):
        assert await collect(models) == ["Hel", "lo é", Generated(model_version="7", **USAGE)]  # type: ignore[arg-type]
    inputs = {
        tensor.name: raw for tensor, raw in zip(server.asked.inputs, server.asked.raw_input_contents, strict=True)
    }
    assert json.loads(inputs["text_input"][4:]) == PROMPT.messages
    assert json.loads(inputs["sampling_parameters"][4:]) == PROMPT.sampling
    assert inputs["stream"] == b"\x01"


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("text_input: 5000 tokens; wanted fewer than 4096", InvalidArgument),
        ("sampling_parameters or text_input: llama.cpp refuses them", InvalidArgument),
        ("Request for unknown model: 'small' is not found", Retryable),
    ],
)
async def test_a_models_error_is_the_callers_or_the_models(message: str, kind: type[ServiceError]) -> None:
    async with triton(("Hel",), RuntimeError(message)) as (_, models):
        with pytest.raises(kind, match="small"):
            await collect(models)


@pytest.mark.parametrize("usage", ["{", "[]", "{}", '{"finish_reason": 1}'])
async def test_an_answer_that_does_not_say_what_it_took_is_an_error(usage: str) -> None:
    async with triton(("Hel",), ("", usage)) as (_, models):
        with pytest.raises(Retryable, match="did not say"):
            await collect(models)


async def test_closing_the_generator_stops_the_generation() -> None:
    async with triton(("Hel",), None) as (server, models):
        async with aclosing(models.generate(PROMPT, 60)) as pieces:
            assert await anext(pieces) == "Hel"
        async with asyncio.timeout(10):
            await server.cancelled.wait()


async def test_a_generation_ends_at_its_deadline() -> None:
    async with triton(("Hel",), None) as (server, models):
        with pytest.raises(DeadlineExceeded):
            await collect(models, 0.1)
        async with asyncio.timeout(10):
            await server.cancelled.wait()
