"""One training run as a process of its own: `python -m services.trainer.run [--until-stdin-closes] RUN_DIR`.

RUN_DIR holds `run.json` (`configuration.RunSpecification`). The run writes there:

    progress.jsonl   how far it is (`training.progress`)
    adapter/         the PEFT adapter, there when and only when the run has finished
    metrics.json     what it took: losses, tokens, seconds, memory
    ray-logs/        what Ray and its workers said, when the run failed
    outcome.json     {"outcome": finished | rejected | failed | cancelled, "reason": ...}

Exit status: 0 finished, 2 the input is of no use (trying again will not help), 3 the run failed (it may be tried again
and goes on from its last checkpoint), 4 another process is at work on the folder, 143 or 130 cancelled by SIGTERM or
SIGINT. A run that was cancelled or killed goes on from its last checkpoint when it is started again.

With `--until-stdin-closes`, the end of standard input is a SIGTERM too: whoever holds its other end and is killed takes
the run, and Ray, along.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn

from services.trainer.training.configuration import RunSpecification, read_specification
from services.trainer.training.progress import Progress

FINISHED, REJECTED, FAILED, BUSY = 0, 2, 3, 4


class _Cancellation:
    """Turns the first signal to stop into a KeyboardInterrupt, so that everything is undone on the way out.

    No exception of our own: a KeyboardInterrupt is the only one that Ray lets through while it waits.
    """

    def __init__(self) -> None:
        self._signal = signal.SIGINT

    def listen(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._interrupt)

    @property
    def reason(self) -> str:
        return f"cancelled by {self._signal.name}"

    @property
    def status(self) -> int:
        return 128 + self._signal

    def _interrupt(self, number: int, _: FrameType | None) -> NoReturn:
        self._signal = signal.Signals(number)
        # A second one, while what the first one began is still going on, would only leave things half undone.
        for ignored in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        raise KeyboardInterrupt


def main(arguments: list[str]) -> int:
    """Runs the folder named by the only argument; returns the exit status."""
    *options, folder = arguments or [""]
    if not folder or options not in ([], ["--until-stdin-closes"]):
        _say("usage: python -m services.trainer.run [--until-stdin-closes] RUN_DIR")
        return REJECTED
    run_dir = Path(folder).resolve()
    if not run_dir.is_dir():
        _say(f"{run_dir} is not a folder")
        return REJECTED
    with _lock(run_dir) as locked:
        if not locked:
            _say(f"another process is at work on {run_dir}")
            return BUSY
        if options:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        return _run(run_dir)


def _end_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _run(run_dir: Path) -> int:
    cancellation = _Cancellation()
    cancellation.listen()
    (run_dir / "outcome.json").unlink(missing_ok=True)
    try:
        specification = read_specification(run_dir)
        _train(specification, run_dir, cancellation)
    except ValueError as exc:
        return _end(run_dir, "rejected", str(exc), REJECTED)
    except KeyboardInterrupt:
        return _end(run_dir, "cancelled", cancellation.reason, cancellation.status)
    except Exception as exc:
        return _end(run_dir, "failed", f"{type(exc).__name__}: {exc}", FAILED)
    return _end(run_dir, "finished", "", FINISHED)


def _train(specification: RunSpecification, run_dir: Path, cancellation: _Cancellation) -> None:
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
    # A reported checkpoint waits for Ray's next look, by default every two seconds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    if specification.ray_address is None:
        # An actor of 200 MB that listens for the reclaiming of rented nodes, of which one machine has none.
        os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    # Heavy, and of use in this process alone.
    from services.trainer.training import ray_run

    with ray_run.ray_for_run(specification, run_dir):
        cancellation.listen()  # again: Ray has set a handler of its own, which would leave at once
        metrics: dict[str, Any] = ray_run.run(specification, run_dir, work_dir)
    seconds = round(time.monotonic() - started, 1)
    metrics_path.write_text(
        json.dumps({"fingerprint": specification.fingerprint, **metrics, "wall_seconds": seconds}, indent=2) + "\n"
    )
    shutil.rmtree(adapter, ignore_errors=True)
    (work_dir / "adapter").rename(adapter)
    shutil.rmtree(work_dir)
    progress.report("finished", steps=metrics["steps"], seconds=seconds)


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
