"""The trainer's side of the training process: followed, waited for, started anew, ended. Ray is never reached."""

import asyncio
import fcntl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest

from services.runtime.errors import Rejected
from services.trainer.adapters import ProcessLearner
from services.trainer.ports import Progress
from services.trainer.training.configuration import RunSpecification, TrainingConfiguration, write_specification


@pytest.fixture
def learner() -> ProcessLearner:
    return ProcessLearner(look_seconds=0.05)


@pytest.fixture
def run_dir(base: Path, dataset: Path, configuration: TrainingConfiguration, tmp_path: Path) -> Path:
    write_specification(
        tmp_path, RunSpecification(dataset=str(dataset), base=str(base), configuration=configuration, seed=1)
    )
    return tmp_path


def _process(run_dir: Path) -> psutil.Process | None:
    for child in psutil.Process().children():
        if str(run_dir) in child.cmdline():
            return child
    return None


def _begun(run_dir: Path, times: int = 1) -> bool:
    path = run_dir / "progress.jsonl"
    return path.exists() and path.read_text().count('"starting"') == times


async def _until_begun(progress: AsyncGenerator[Progress, None], run_dir: Path, times: int = 1) -> None:
    async with asyncio.timeout(60):
        async for _ in progress:
            if _begun(run_dir, times):
                return


async def test_why_training_ended_is_told(learner: ProcessLearner, run_dir: Path) -> None:
    (run_dir / "run.json").write_text("{}")
    with pytest.raises(Rejected, match=r"ended without an adapter: .*run\.json: Object missing required field"):
        async with aclosing(learner.learn(run_dir)) as progress:
            async for _ in progress:
                pass


async def test_closing_it_ends_the_process(learner: ProcessLearner, run_dir: Path) -> None:
    async with aclosing(learner.learn(run_dir)) as progress:
        await _until_begun(progress, run_dir)
        process = _process(run_dir)
        assert process is not None
    assert not process.is_running()
    assert not (run_dir / "adapter").exists()


async def test_a_process_that_somebody_killed_is_started_anew_and_not_for_ever(
    learner: ProcessLearner, run_dir: Path
) -> None:
    with pytest.raises(Rejected, match="its process ended with status -9"):
        async with aclosing(learner.learn(run_dir)) as progress:
            for times in (1, 2, 3):
                await _until_begun(progress, run_dir, times)
                process = _process(run_dir)
                assert process is not None
                process.kill()
            async for _ in progress:
                pass
    assert _begun(run_dir, 3)


async def test_it_waits_for_the_process_of_a_trainer_before_it(learner: ProcessLearner, run_dir: Path) -> None:
    with (run_dir / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        async with aclosing(learner.learn(run_dir)) as progress:
            async with asyncio.timeout(60):
                async for _ in progress:
                    if "another process is at work" in (run_dir / "run.log").read_text():
                        break
            assert not _begun(run_dir)
            fcntl.flock(lock, fcntl.LOCK_UN)
            await _until_begun(progress, run_dir)


def test_a_run_ends_with_the_one_who_holds_its_standard_input(run_dir: Path) -> None:
    command = [sys.executable, "-m", "services.trainer.run", "--until-stdin-closes", str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        _, errors = process.communicate(timeout=60)  # closes it
    assert process.returncode in (143, -15), errors
