"""How fast this machine is while a benchmark runs: a fixed piece of work, done again and again beside it.

Processors that others share are not as fast one minute as the next, in processor time too. What is done here is like
what services do (JSON, dictionaries, a digest), takes some milliseconds and then sleeps, so that it is in nobody's way.
"""

import hashlib
import json
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_double
from typing import Any

_EVERY_SECONDS = 0.1
_ROUNDS = 25
_SAMPLE = {
    "messages": [
        {"role": "user", "content": f"Where is order {number}, and when does it come?"} for number in range(8)
    ],
    "stages": {f"stage-{number}": number / 7 for number in range(24)},
}


class Speed:
    """Counts rounds of that work and the processor time that they took."""

    def __init__(self, done: Any) -> None:
        self._done = done

    def now(self) -> tuple[float, float]:
        """Return rounds and processor seconds so far."""
        with self._done.get_lock():
            return self._done[0], self._done[1]

    def since(self, before: tuple[float, float]) -> float:
        """Return rounds in a processor second since then.

        Raises:
            RuntimeError: There was none; wait longer.
        """
        rounds, seconds = (now - then for now, then in zip(self.now(), before, strict=True))
        if not rounds:
            raise RuntimeError("nothing has been measured yet")
        return rounds / seconds


@contextmanager
def measured_speed() -> Iterator[Speed]:
    """Measure in a process of its own until the end of the block."""
    context = multiprocessing.get_context("spawn")
    done = context.Array(c_double, 2)
    process = context.Process(target=_work, args=(done,), daemon=True)
    process.start()
    try:
        yield Speed(done)
    finally:
        process.terminate()
        process.join()


def _work(done: Any) -> None:
    while True:
        begun = time.process_time()
        for _ in range(_ROUNDS):
            text = json.dumps(_SAMPLE)
            sorted(json.loads(text)["stages"].items(), key=lambda stage: stage[1])
            hashlib.sha256(text.encode()).hexdigest()
        with done.get_lock():
            done[0] += _ROUNDS
            done[1] += time.process_time() - begun
        time.sleep(_EVERY_SECONDS)
