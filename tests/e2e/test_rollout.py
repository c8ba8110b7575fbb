"""Specialists going live one after the other on the whole stack, under load."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import cycle
from threading import Event

import pytest
from openai import OpenAI

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.demo.story import TENANT
from schemas.events import Candidate, GateAnswer, Sensitivity
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings
from tests.integration.serving.adapters import write_random_adapter
from tests.whole_stack import CALL_SECONDS, TEXT, WholeStack, wait_for

pytestmark = pytest.mark.timeout(900)

THINGS = (
    "lamp",
    "desk",
    "river",
    "cloud",
    "violin",
    "bridge",
    "lemon",
    "castle",
    "candle",
    "forest",
    "mirror",
    "rocket",
)
VERBS = ("Describe", "Draw", "Sell me", "Explain")
QUESTIONS = [f"{verb} a {thing}." for verb in VERBS for thing in THINGS]
SWAPS, LOADS = 10, 3
SPECIALIST = f"specialist-{TENANT}-{TEXT}"


@dataclass(frozen=True)
class Answer:
    """What was answered, and by which version of which model; generic ones have no candidate."""

    request_id: str
    text: str
    model: str
    version: str


class Application:
    """Asks for short answers."""

    def __init__(self, gyre: WholeStack, client: OpenAI) -> None:
        self._gyre = gyre
        self._client = client

    def ask(self, question: str) -> Answer:
        """Ask one question, as a user of its own."""
        completion = self._client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": question}],
            metadata={"task": TEXT},
            max_tokens=8,
            temperature=0,
            user=question,
        )
        choice = completion.choices[0]
        version = choice.gyre["model_version"]  # type: ignore[attr-defined] # beyond OpenAI's
        return Answer(completion.id, choice.message.content or "", completion.model, version)


async def promote(gyre: WholeStack, candidate_id: str, strength: float) -> None:
    """Have a specialist go live whose gate, it says, found four of five right, and wait until the router knows it."""
    folder = gyre.stack.settings.artifacts_dir / candidate_id / "adapter"
    write_random_adapter(folder, seed=1, strength=strength)
    candidate = Candidate(
        candidate_id=candidate_id,
        run_id="none",
        tenant=TENANT,
        task=TEXT,
        created_at=datetime.now(UTC),
        verdict="promote",
        base_model="base",
        adapter_path=f"{candidate_id}/adapter",
        system_prompt=gyre.bundle.tasks[TEXT].generic_prompt,
        dataset_id="none",
        candidate_answers=tuple(GateAnswer(right=n % 5 > 0) for n in range(40)),
        sensitivity=Sensitivity.INTERNAL,
        bundle_version=gyre.bundle.version,
    )
    kafka = KafkaSettings(bootstrap_servers=gyre.stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"))
    async with Producer(kafka) as producer:
        await producer.send(Topic.CANDIDATES, candidate)
    wait_for(lambda: live(gyre) == candidate_id)


def live(gyre: WholeStack) -> str:
    """The candidate that is live for the task."""
    with gyre.channel("serving") as channel:
        stub = serving_pb2_grpc.ServingStub(channel)
        status = stub.Status(serving_pb2.StatusRequest(), timeout=CALL_SECONDS)
    return next((each.candidate_id for each in status.deployments if (each.task, each.state) == (TEXT, "live")), "")


async def test_ten_swaps_under_load_fail_no_request(gyre: WholeStack) -> None:
    versions: list[str] = []
    ended = Event()

    def load() -> None:
        with gyre.openai() as client:  # which tries nothing again
            application = Application(gyre, client)
            for question in cycle(QUESTIONS):
                if ended.is_set():
                    return
                versions.append(application.ask(question).version)

    with ThreadPoolExecutor(LOADS) as pool:
        loads = [pool.submit(load) for _ in range(LOADS)]
        try:
            for number in range(SWAPS):
                answered_by = len(set(versions))
                await promote(gyre, f"swap-{number}", strength=0)
                while len(set(versions)) == answered_by:
                    await asyncio.sleep(0.1)
        finally:
            ended.set()
        for each in loads:
            each.result()  # raises what a request failed with
    assert len(set(versions)) >= SWAPS
