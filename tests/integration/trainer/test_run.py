"""The training process with Ray: killed, cancelled, finished, refused."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from safetensors.torch import load_file

from services.trainer.training.configuration import RunSpecification, TrainingConfiguration, write_specification

# Starting Ray takes a quarter of a minute on a machine at rest and minutes on a busy one.
pytestmark = pytest.mark.timeout(600)


@contextlib.contextmanager
def _running(run_dir: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the process; whatever happens, nothing of it is left behind."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services.trainer.run", str(run_dir)], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _run(run_dir: Path) -> tuple[int, str]:
    with _running(run_dir) as process:
        _, errors = process.communicate(timeout=500)
        return process.returncode, errors.decode()


def _progress(run_dir: Path, phase: str) -> list[dict[str, Any]]:
    path = run_dir / "progress.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    records = [json.loads(line) for line in lines if line.endswith("\n")]
    return [record for record in records if record["phase"] == phase]


def _until(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None, seconds: float = 400) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        assert process is None or process.poll() is None, "the run ended before it came about"
        time.sleep(0.05)


def _has_checkpoint(run_dir: Path) -> bool:
    """Whether Ray knows of one, which is a little after it has been written."""
    snapshots = list(run_dir.glob("work-*/checkpoints/checkpoint_manager_snapshot.json"))
    return any('"checkpoint_dir_name"' in snapshot.read_text() for snapshot in snapshots)


def _descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    descendants = psutil.Process(process.pid).children(recursive=True)
    assert descendants, "Ray is not below the run"
    return descendants


def _names(process: subprocess.Popen[bytes]) -> set[str]:
    names = set()
    for descendant in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            names.add(descendant.name())
    return names


def _alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; an ended one that nobody has reaped does not."""
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


@pytest.fixture
def specification(base: Path, dataset: Path, configuration: TrainingConfiguration) -> RunSpecification:
    # Long enough to be killed in the middle.
    longer = msgspec.structs.replace(configuration, epochs=100, checkpoint_every_epochs=5)
    return RunSpecification(dataset=str(dataset), base=str(base), configuration=longer, seed=1)


def test_a_run_survives_what_is_done_to_it_and_leaves_an_adapter_and_no_ray(
    specification: RunSpecification, tmp_path: Path
) -> None:
    """One run, since starting Ray takes the time: its driver is killed, then a worker; it is cancelled; it finishes."""
    write_specification(tmp_path, specification)
    with _running(tmp_path) as process:
        _until(lambda: "raylet" in _names(process), process)
        ray_processes = _descendants(process)
        process.kill()
    # Killed while Ray was still starting; that all of it was gone has been seen to take more than a minute.
    _until(lambda: not _alive(ray_processes), seconds=150)

    with _running(tmp_path) as process:
        _until(lambda: _has_checkpoint(tmp_path), process)
        os.kill(_progress(tmp_path, "worker")[0]["pid"], signal.SIGKILL)
        assert _run(tmp_path)[0] == 4, "two processes must not work on one run"
        _until(lambda: len(_progress(tmp_path, "worker")) == 2, process)
        assert _progress(tmp_path, "worker")[1]["resumed_at_step"] > 0
        ray_processes = _descendants(process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    _until(lambda: not _alive(ray_processes), seconds=60)
    assert json.loads((tmp_path / "outcome.json").read_text())["outcome"] == "cancelled"
    assert not (tmp_path / "adapter").exists()

    with _running(tmp_path) as process:
        _until(lambda: "raylet" in _names(process), process)
        ray_processes = _descendants(process)
        assert process.wait(240) == 0
    _until(lambda: not _alive(ray_processes), seconds=60)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    starts = _progress(tmp_path, "worker")
    assert starts[2]["resumed_at_step"] >= starts[1]["resumed_at_step"]
    assert metrics["resumed"] in (1, 2), "as the checkpoint has it; there may have been none after the first resumption"
    assert len(metrics["loss_per_step"]) == metrics["steps"] == starts[0]["steps"]
    assert metrics["loss_per_epoch"][-1] < 0.5 * metrics["loss_per_epoch"][0]
    assert load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert json.loads((tmp_path / "outcome.json").read_text())["outcome"] == "finished"
    assert _progress(tmp_path, "training")[-1]["seconds_left"] == 0
    assert not list(tmp_path.glob("work-*"))

    modified = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns
    assert _run(tmp_path) == (0, ""), "a finished run is finished"
    assert (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_mtime_ns == modified


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "one"}, r"Expected `int`, got `str` - at `$.seed`"),
        ({"extra": 1}, "unknown field `extra`"),
        ({"dataset": "nowhere"}, "dataset must be a folder with a manifest.json in it"),
        ({"base": "nowhere"}, "base must be a folder with a config.json in it"),
    ],
)
def test_a_bad_specification_is_refused_by_its_field(
    specification: RunSpecification, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    raw = {**json.loads(msgspec.json.encode(specification)), **change}
    (tmp_path / "run.json").write_text(json.dumps(raw))
    status, errors = _run(tmp_path)
    assert status == 2
    assert message in errors
    assert message in json.loads((tmp_path / "outcome.json").read_text())["reason"]


def test_a_folder_without_a_specification_is_refused(tmp_path: Path) -> None:
    status, errors = _run(tmp_path)
    assert status == 2
    assert "run.json does not exist" in errors
    assert _run(tmp_path / "nowhere")[0] == 2
