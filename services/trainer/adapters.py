"""The trainer's ports made real: training as a process of its own, serving by gRPC, candidates by Kafka."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from schemas.events import Candidate
from schemas.topics import Topic
from services.runtime import rpc, telemetry
from services.runtime.errors import Rejected
from services.runtime.kafka import Producer
from services.trainer.ports import Progress

DEPLOY_SECONDS = 120.0
# What a cancelled run may take to take Ray along.
CANCEL_SECONDS = 60.0
# Exit statuses of `services.trainer.run`.
BUSY = 4
INTERRUPTED = (128 + signal.SIGINT, 128 + signal.SIGTERM)
# A process that somebody killed is started anew this often, and goes on from its last checkpoint.
RESTARTS = 2


class ProcessLearner:
    """Runs `services.trainer.run`: torch and Ray take a gigabyte, and give it back when that process ends."""

    def __init__(self, look_seconds: float) -> None:
        self._look_seconds = look_seconds

    async def learn(self, run_dir: Path) -> AsyncGenerator[Progress, None]:
        """Train, and yield how far it is; closing the generator cancels the training."""
        killed = 0
        while True:
            process = await _start(run_dir)
            ended = asyncio.create_task(process.wait())
            try:
                while not ended.done():
                    yield _progress(run_dir)
                    await asyncio.wait([ended], timeout=self._look_seconds)
            finally:
                if not ended.done():
                    process.terminate()
                    await asyncio.wait([ended], timeout=CANCEL_SECONDS)
                if not ended.done():
                    process.kill()
                    await ended
            status = ended.result()
            if status == 0:
                break
            if status == BUSY:  # the process of a trainer that was killed is still ending
                await asyncio.sleep(self._look_seconds)
            elif (status < 0 or status in INTERRUPTED) and killed < RESTARTS:
                killed += 1
                telemetry.log().warning("training killed and started anew", run=run_dir.name, status=status)
            else:
                raise Rejected(f"training ended without an adapter: {_reason(run_dir, status)}")
        yield _progress(run_dir)


async def _start(run_dir: Path) -> asyncio.subprocess.Process:
    with (run_dir / "run.log").open("a") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.trainer.run", "--until-stdin-closes", str(run_dir)),
            stdin=asyncio.subprocess.PIPE,  # closes when this process ends, however it does
            stdout=log,
            stderr=log,
        )


def _progress(run_dir: Path) -> Progress:
    try:
        lines = (run_dir / "progress.jsonl").read_text().split("\n")[:-1]  # the last may not be whole yet
    except FileNotFoundError:
        return Progress()
    for line in reversed(lines):
        said: dict[str, Any] = json.loads(line)
        if said["phase"] == "training":
            return Progress(
                step=said["step"],
                steps=said["steps"],
                loss=said["loss"],
                tokens_per_second=said["tokens_per_second"],
                seconds_left=said["seconds_left"],
            )
        if said["phase"] == "worker":
            return Progress(step=said["resumed_at_step"], steps=said["steps"])
    return Progress()


def _reason(run_dir: Path, status: int) -> str:
    try:
        reason = str(json.loads((run_dir / "outcome.json").read_text())["reason"])
    except FileNotFoundError:
        return f"its process ended with status {status}; see {run_dir / 'run.log'}"
    return reason


class GrpcTrial:
    """Serving, asked to load a candidate."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = serving_pb2_grpc.ServingStub(channel)  # the same stub serves both kinds of channel

    async def deploy(self, tenant: str, task: str, candidate_id: str, adapter_path: str) -> tuple[str, str]:
        """Load a candidate for trial; return its model and version in Triton."""
        request = serving_pb2.DeployRequest(
            tenant=tenant, task=task, candidate_id=candidate_id, adapter_path=adapter_path
        )
        try:
            response = await self._stub.Deploy(request, timeout=DEPLOY_SECONDS)
        except grpc.aio.AioRpcError as error:
            raise rpc.error_from(error, "serving") from error
        return response.model, response.model_version


class KafkaAnnouncer:
    """Candidates on their topic."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def candidate(self, candidate: Candidate) -> None:
        """Tell a candidate; on return it is acknowledged."""
        await self._producer.send(Topic.CANDIDATES, candidate)
