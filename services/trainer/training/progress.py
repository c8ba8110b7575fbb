"""Where a run says how far it is: `progress.jsonl` in the run folder, one JSON object a line, appended.

A line always holds `time` (ISO 8601, UTC) and `phase`:

    starting   Ray is being started
    worker     a worker began or began again: `pid`, `steps`, `resumed_at_step`
    caching    `rows_done`, `rows`
    comparing  `rows_done`, `rows`: how likely the base finds corrections and what they corrected
    training   `step`, `steps`, `epoch`, `loss`, `tokens_per_second`, `seconds_left`
    validating `epoch`, `loss`: of the rows that nothing is learned from
    finished   `steps`, `seconds`

The last line may be cut short while it is being written; a reader waits for its line end.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

Phase = Literal["starting", "worker", "caching", "comparing", "training", "validating", "finished"]


class Progress:
    """Appends to a run's progress file."""

    def __init__(self, run_dir: Path) -> None:
        """Writes to `progress.jsonl` in `run_dir`."""
        self._path = run_dir / "progress.jsonl"

    def report(self, phase: Phase, **values: float | int | str) -> None:
        """Adds one line; floats are rounded to four places."""
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "phase": phase}
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({**line, **rounded}) + "\n")
