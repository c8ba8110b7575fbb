"""Serving as a process of its own on a real broker and a real Triton."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer

from embedded.stack import Stack
from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from schemas.bundle import load_bundle
from schemas.codecs import codec, dead_letter_codec
from schemas.events import EVENTS, BundlePublished, Candidate, DeadLetter, Deployment, Event, Sensitivity
from schemas.prompts import Generated, Prompt
from schemas.topics import Topic
from services.runtime.errors import Retryable
from services.runtime.kafka import Producer
from services.runtime.rpc import channel
from services.runtime.settings import KafkaSettings
from services.runtime.triton import TritonModels
from tests.integration.service_process import ServiceProcess
from tests.integration.serving.adapters import write_random_adapter

TENANT, TASK = "customer-care", "serving-test"
MODEL = f"specialist-{TENANT}-{TASK}"

T = TypeVar("T")


async def until(look: Callable[[], Awaitable[T | None]], seconds: float = 60.0) -> T:
    """Look until there is something, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, f"{look} found nothing in {seconds} s"
        await asyncio.sleep(0.1)
    return found


class Loop:
    """What stands around serving: its process, its callers, the topics it reads and writes, and the models it keeps."""

    def __init__(
        self, process: ServiceProcess, kafka: KafkaSettings, producer: Producer, models: TritonModels, artifacts: Path
    ) -> None:
        self.process = process
        self.artifacts = artifacts
        self._kafka = kafka
        self._producer = producer
        self._models = models
        self._seed = 0

    def adapter(self, name: str, **options: Any) -> str:
        """Write a random adapter; return its path as events name it."""
        self._seed += 1
        write_random_adapter(self.artifacts / name / "adapter", self._seed, **options)
        dataset = self.artifacts / TENANT / TASK / "datasets" / "dataset"
        dataset.mkdir(parents=True, exist_ok=True)
        manifest = {"dataset_id": "dataset", "tenant": TENANT, "task": TASK}
        (dataset / "manifest.json").write_text(json.dumps(manifest))
        return f"{name}/adapter"

    async def call(self, method: str, request: Any) -> Any:
        """Call serving."""
        async with channel(self.process.target) as to:
            return await getattr(serving_pb2_grpc.ServingStub(to), method)(request, timeout=90)

    async def deploy(self, candidate_id: str, adapter_path: str) -> tuple[str, str]:
        """Load a candidate for trial; return model and version."""
        request = serving_pb2.DeployRequest(
            tenant=TENANT, task=TASK, candidate_id=candidate_id, adapter_path=adapter_path
        )
        response = await self.call("Deploy", request)
        return response.model, response.model_version

    async def roll_back(self, task: str = TASK) -> str:
        """Roll back; return the candidate that is live then."""
        request = serving_pb2.RollbackRequest(tenant=TENANT, task=task, reason="a test", asked_by="ann")
        response = await self.call("Rollback", request)
        return str(response.candidate_id)

    async def status(self, candidate_id: str) -> Any:
        """Return a candidate's status, or None."""
        response = await self.call("Status", serving_pb2.StatusRequest())
        return next((each for each in response.deployments if each.candidate_id == candidate_id), None)

    async def send(self, *events: Event) -> None:
        """Write events to their topics, at the same time."""
        topic_of = {event: topic for topic, event in EVENTS.items()}
        await asyncio.gather(*(self._producer.send(topic_of[type(event)], event) for event in events))

    async def tell(
        self, candidate_id: str, adapter_path: str, verdict: str = "promote", task: str = TASK, **changed: Any
    ) -> None:
        """Write a candidate to its topic."""
        candidate = Candidate(
            candidate_id=candidate_id,
            run_id=f"run of {candidate_id}",
            tenant=TENANT,
            task=task,
            created_at=datetime.now(UTC),
            verdict=verdict,
            reasons=("better on the hold-out",),
            base_model="base",
            adapter_path=adapter_path,
            system_prompt="Answer.",
            dataset_id="dataset",
            sensitivity=Sensitivity.INTERNAL,
            bundle_version="b1",
        )
        await self.send(msgspec.structs.replace(candidate, **changed))

    async def live(self, candidate_id: str, task: str = TASK, share: float = 1.0) -> Deployment:
        """Wait until a candidate is the newest deployment of a task, for a share of its callers."""

        async def newest() -> Deployment | None:
            told = await self.newest(task)
            return told if told and (told.candidate_id, told.share) == (candidate_id, share) else None

        return await until(newest)

    async def newest(self, task: str) -> Deployment | None:
        """Return the newest deployment of a task."""
        told = [each for each in await self._read(str(Topic.DEPLOYMENTS)) if each.task_key == f"{TENANT}/{task}"]
        return told[-1] if told else None

    async def dead_letters(self) -> list[DeadLetter]:
        """Return the candidates that serving gave up on."""
        return [letter for letter in await self._read(Topic.CANDIDATES.dead_letters) if letter.hop == "serving"]

    async def answer(self, model: str, version: str = "") -> Generated | None:
        """Ask a model; None when it does not answer."""
        prompt = Prompt(model, version, [{"role": "user", "content": "Hi"}], {"max_tokens": 4, "temperature": 0})
        try:
            return (await self._models.answer(prompt, 30))[1]
        except Retryable:
            return None

    def long_answer(self, model: str, version: str) -> AsyncGenerator[str | Generated, None]:
        """Ask for more than is said in a moment."""
        prompt = Prompt(model, version, [{"role": "user", "content": "Tell a long story."}], {"max_tokens": 300})
        return self._models.generate(prompt, 60)

    async def answers(self, model: str, version: str = "") -> Generated:
        """Wait until a model answers."""
        return await until(lambda: self.answer(model, version))

    async def is_gone(self, model: str, version: str) -> None:
        """Wait until a version answers no more."""

        async def gone() -> bool:
            return await self.answer(model, version) is None

        await until(gone)

    async def _read(self, topic: str) -> list[Any]:
        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self._kafka.bootstrap_servers,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
        )
        decoder = dead_letter_codec() if topic.endswith(".dead-letters") else codec(Topic(topic))
        found: list[Any] = []
        async with consumer:
            await until(lambda: _assigned(consumer))
            (partition,) = consumer.assignment()
            end = (await consumer.end_offsets([partition]))[partition]
            while await consumer.position(partition) < end:
                for messages in (await consumer.getmany(timeout_ms=100)).values():
                    found += [decoder.decode(message.value) for message in messages]
        return found


async def _assigned(consumer: AIOKafkaConsumer) -> bool:
    return bool(consumer.assignment())


@pytest.fixture(scope="session")
def serving_process(
    kafka: str, triton: tuple[str, Path], models: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("serving")
    environment = {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka,
        "GYRE_TRITON_URL": triton[0],
        "GYRE_TRITON_REPOSITORY": str(triton[1]),
        "GYRE_MODELS_DIR": str(models),
        "GYRE_ARTIFACTS_DIR": str(folder / "artifacts"),
        "GYRE_SERVING_RECONCILE_SECONDS": "1",
        "GYRE_SERVING_PARALLEL": "2",
        "GYRE_SERVING_CONTEXT_TOKENS": "512",
    }
    with ServiceProcess("serving", folder / "log", environment) as process:
        yield process


@pytest.fixture(scope="module")
async def loop(serving_process: ServiceProcess, kafka: str, triton: tuple[str, Path]) -> AsyncIterator[Loop]:
    """Serving, with the sample bundle in force."""
    settings = KafkaSettings(bootstrap_servers=kafka)
    bundle = load_bundle(Path("deploy/bundle"))
    published = BundlePublished(
        version=bundle.version, published_at=datetime.now(UTC), content=bundle.model_dump_json()
    )
    async with Producer(settings) as producer, TritonModels(triton[0]) as models:
        await producer.send(Topic.BUNDLES, published)
        await serving_process.serving()
        yield Loop(serving_process, settings, producer, models, serving_process.log.parent / "artifacts")


@pytest.fixture
def triton_pid(stack: Stack) -> Callable[[], int]:
    """Asks for Triton's process id, which its supervisor changes."""
    return lambda: next(part.pid for part in stack.status() if part.part.name == "triton")
