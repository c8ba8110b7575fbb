"""Triage as a process of its own on a real broker, with topics that only these tests use."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import grpc.aio
import pytest

from embedded.ports import free_ports
from gyre.api.triage.v1.review_pb2_grpc import ReviewStub
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.rpc import channel, wait_serving
from services.runtime.settings import KafkaSettings
from tests.conftest import broker
from tests.unit.triage.builders import NOW, bundle

SHARE = 0.5


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of these tests' own: triage would have to read whatever other tests have sent, at every start."""
    with broker(tmp_path_factory.mktemp("triage-state")) as address:
        yield address


class Process:
    """`python -m services.triage`, which can be killed and started again where it stopped."""

    def __init__(self, kafka: str, models: Path, folder: Path) -> None:
        grpc_port, self.console_port = free_ports(2)
        self.target = f"127.0.0.1:{grpc_port}"
        self.log = folder / "log"
        self._environment = {
            **os.environ,
            "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka,
            "GYRE_MODELS_DIR": str(models),
            "GYRE_TRIAGE_GRPC_PORT": str(grpc_port),
            "GYRE_TRIAGE_CONSOLE_PORT": str(self.console_port),
            "GYRE_TRIAGE_CONSOLE_TOKEN": "a-token",
            "GYRE_TRIAGE_DATA_DIR": str(folder / "data"),
            "GYRE_TRIAGE_LEASE_SECRET": "the same after a restart",
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._spawn()
        await wait_serving(self.target, seconds=120)

    def _spawn(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.triage"], env=self._environment, stdout=out, stderr=out
            )

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)


@pytest.fixture(scope="module")
async def producer(kafka: str) -> AsyncIterator[Producer]:
    async with Producer(KafkaSettings(bootstrap_servers=kafka)) as producer:
        yield producer


@pytest.fixture(scope="module")
def _process(kafka: str, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    process = Process(kafka, models, tmp_path_factory.mktemp("triage"))
    yield process
    process.stop()


@pytest.fixture(scope="module")
async def triage(_process: Process, producer: Producer) -> Process:
    published = bundle(share=SHARE, exploration=0.1)
    event = BundlePublished(version=published.version, published_at=NOW, content=published.model_dump_json())
    await producer.send(Topic.BUNDLES, event)
    await _process.start()
    return _process


@pytest.fixture(scope="module")
async def review(triage: Process) -> AsyncIterator[ReviewStub]:
    to: grpc.aio.Channel
    async with channel(triage.target) as to:
        yield ReviewStub(to)
