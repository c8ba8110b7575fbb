"""One training run as a process of its own: `python -m services.trainer.run RUN_DIR`.

RUN_DIR holds `run.json` (`configuration.RunSpecification`). The run writes there:

    progress.jsonl   how far it is (`training.progress`)
    adapter/         the PEFT adapter, there when and only when the run has finished
    metrics.json     what it took: losses, tokens, seconds, memory
    outcome.json     {"outcome": finished | rejected | failed | cancelled, "reason": ...}

Exit status: 0 finished, 2 the input is of no use (trying again will not help), 3 the run failed (it may be tried again
and goes on from its last checkpoint), 4 another process is at work on the folder, 143 or 130 cancelled by SIGTERM or
SIGINT. A run that was cancelled or killed goes on from its last checkpoint when it is started again.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from services.trainer.training.configuration import RunSpecification, read_specification
from services.trainer.training.progress import Progress

FINISHED, REJECTED, FAILED, BUSY = 0, 2, 3, 4


class _Cancelled(BaseException):
    """Raised where the process stands when it is asked to stop, so that everything is undone on the way out."""

    def __init__(self, signal_number: int) -> None:
        self.signal_number = signal_number
        super().__init__(f"cancelled by {signal.Signals(signal_number).name}")


def main(arguments: list[str]) -> int:
    """Runs the folder named by the only argument; returns the exit status."""
    if len(arguments) != 1:
        _say("usage: python -m services.trainer.run RUN_DIR")
        return REJECTED
    run_dir = Path(arguments[0]).resolve()
    if not run_dir.is_dir():
        _say(f"{run_dir} is not a folder")
        return REJECTED
    with _lock(run_dir) as locked:
        if not locked:
            _say(f"another process is at work on {run_dir}")
            return BUSY
        return _run(run_dir)


def _run(run_dir: Path) -> int:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _cancel)
    (run_dir / "outcome.json").unlink(missing_ok=True)
    try:
        specification = read_specification(run_dir)
        _train(specification, run_dir)
    except ValueError as exc:
        return _end(run_dir, "rejected", str(exc), REJECTED)
    except _Cancelled as exc:
        return _end(run_dir, "cancelled", str(exc), 128 + exc.signal_number)
    except Exception as exc:
        return _end(run_dir, "failed", f"{type(exc).__name__}: {exc}", FAILED)
    return _end(run_dir, "finished", "", FINISHED)


def _train(specification: RunSpecification, run_dir: Path) -> None:
    metrics_path, adapter = run_dir / "metrics.json", run_dir / "adapter"
    if adapter.is_dir() and json.loads(metrics_path.read_text())["fingerprint"] == specification.fingerprint:
        return
    started = time.monotonic()
    progress = Progress(run_dir)
    progress.report("starting")
    work_dir = run_dir / f"work-{specification.fingerprint}"
    work_dir.mkdir(exist_ok=True)
    # Before ray is imported: it reads these once.
    os.environ.update(RAY_TRAIN_V2_ENABLED="1", RAY_USAGE_STATS_ENABLED="0", HF_HUB_OFFLINE="1")
    # Heavy, and of use in this process alone.
    from services.trainer.training import ray_run

    with ray_run.ray_for_run(specification, run_dir):
        for number in (signal.SIGTERM, signal.SIGINT):  # Ray sets its own, which would leave at once
            signal.signal(number, _cancel)
        metrics: dict[str, Any] = ray_run.run(specification, run_dir, work_dir)
    seconds = round(time.monotonic() - started, 1)
    metrics_path.write_text(
        json.dumps({"fingerprint": specification.fingerprint, **metrics, "wall_seconds": seconds}, indent=2) + "\n"
    )
    shutil.rmtree(adapter, ignore_errors=True)
    (work_dir / "adapter").rename(adapter)
    shutil.rmtree(work_dir)
    progress.report("finished", steps=metrics["steps"], seconds=seconds)


def _cancel(signal_number: int, _: FrameType | None) -> NoReturn:
    # A second one, while what the first one began is still going on, would only leave things half undone.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    raise _Cancelled(signal_number)


@contextmanager
def _lock(run_dir: Path) -> Iterator[bool]:
    with (run_dir / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _end(
    run_dir: Path, outcome: Literal["finished", "rejected", "failed", "cancelled"], reason: str, status: int
) -> int:
    (run_dir / "outcome.json").write_text(json.dumps({"outcome": outcome, "reason": reason}) + "\n")
    if reason:
        _say(reason)
    return status


def _say(text: str) -> None:
    sys.stderr.write(f"services.trainer.run: {text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
