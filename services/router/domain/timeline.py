"""Where the time of one request went."""

from schemas.events import Stage

ROUTING = "routing"
GOVERNANCE = "governance"
CONTEXT_STITCHING = "context-stitching"
MONITORING = "monitoring"
POLICY = "policy"
DATA_PREP = "data-prep"
AUDIT = "audit"
INFERENCE = "inference"


def microseconds(seconds: float) -> int:
    """Return seconds as whole microseconds, never negative."""
    return max(0, round(seconds * 1e6))


class Timeline:
    """Stages of one request, relative to its arrival. Times are of the monotonic clock, in seconds."""

    def __init__(self, arrived: float) -> None:
        self._arrived = arrived
        self._stages: list[Stage] = []
        self._repeated: dict[str, int] = {}

    def since_arrival_us(self, now: float) -> int:
        """Return the microseconds between the arrival and now."""
        return microseconds(now - self._arrived)

    def add(self, name: str, started: float, ended: float) -> None:
        """Add time spent in a function of the pipeline."""
        self.add_us(name, self.since_arrival_us(started), microseconds(ended - started))

    def add_us(self, name: str, start_us: int, duration_us: int) -> None:
        """Add time spent in a function of the pipeline."""
        self._stages.append(Stage(name=name, start_us=start_us, duration_us=duration_us))

    def add_repeated(self, name: str, started: float, ended: float) -> None:
        """Add to the one stage that stands for all turns of a loop: its start is the first's, its duration the sum."""
        if name not in self._repeated:
            self._repeated[name] = len(self._stages)
            self.add(name, started, ended)
            return
        before = self._stages[self._repeated[name]]
        self._stages[self._repeated[name]] = Stage(
            name=name, start_us=before.start_us, duration_us=before.duration_us + microseconds(ended - started)
        )

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages in the order of their start."""
        return tuple(sorted(self._stages, key=lambda stage: stage.start_us))
