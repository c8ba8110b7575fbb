"""The embedded stack as a whole: start it, see how it is, stop it.

>>> stack = Stack(Settings(state_dir=folder, ports={"GYRE_EMBEDDED_KAFKA_PORT": 29092}))
>>> stack.start(("kafka", "triton"))
>>> stack.stop()
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from embedded import kafka, triton
from embedded.environment import write_clickhouse_users
from embedded.errors import PartFailed, PortTaken, SettingsError, StackConflict
from embedded.parts import PARTS, Part, all_parts, chosen, ports_of
from embedded.ports import taken_by
from embedded.settings import PORTS, SERVICES, Settings
from embedded.supervision import (
    RUNNING_STATES,
    Process,
    Supervisor,
    configuration,
    end_leftovers,
    leftovers,
    listens,
    memory_bytes,
    uptime_seconds,
)

_POLL_SECONDS = 0.2
_STARTS_BEFORE_GIVING_UP = 3
_LOG_TAIL_LINES = 25  # more than a start that fails writes: the last one may have only begun
_LOG_TAIL_BYTES = 64 * 1024
# A part that has run for this long and still does not answer is no longer starting.
_STARTING_SECONDS = 60


@dataclass(frozen=True)
class Progress:
    """One step of starting or stopping.

    Attributes:
        part: The part that it is about, or what is prepared.
        event: `starting`, `ready`, `stopping`, `stopped`, or what is going on.
        seconds: How long it took to be ready or stopped.
    """

    part: str
    event: str
    seconds: float = 0.0


Report = Callable[[Progress], None]


@dataclass(frozen=True)
class PartStatus:
    """How a part is.

    Attributes:
        part: Which.
        state: `ready`, `starting`, `restarting`, `not answering`, `stopping`, `failed` or `stopped`.
        pid: 0 where it does not run.
        uptime_seconds: Since its last start; 0 where it does not run.
        memory_bytes: Resident memory, with its children's.
    """

    part: Part
    state: str
    pid: int = 0
    uptime_seconds: float = 0.0
    memory_bytes: int = 0


class Stack:
    """The stack of one state folder."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.parts = all_parts(settings)
        self._supervisor = Supervisor(settings)

    @classmethod
    def running(cls, settings: Settings) -> Self:
        """Return the stack in the state folder of `settings` as it was started, whatever ports are asked for now."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            if Supervisor(settings).running():
                return cls(Settings.from_environment(json.loads(_started_with(settings).read_text())))
        return cls(settings)

    def start(
        self, parts: Collection[str] = PARTS, report: Report = lambda _progress: None, timeout_seconds: float = 300.0
    ) -> None:
        """Start parts in order, and return when all are ready. Those that run already are left alone.

        Args:
            parts: Names; what they would wait for and is not among them is expected elsewhere.
            report: Called with each step.
            timeout_seconds: For all of them together, what is downloaded or made for the first start left aside.

        Raises:
            SettingsError: A name or a setting is not what was wanted.
            PortTaken: A port is in use.
            PartFailed: A part does not become ready. The others are left as they are.
            StackConflict: The stack runs with other settings, or is being changed by another command.
            EmbeddedError: Something needed could not be downloaded or started.
        """
        names = chosen(parts)
        with self._lock():
            if self._supervisor.running():
                self._check_same_settings()
            elif count := end_leftovers(self.settings):
                report(Progress("leftovers", f"ended {count} processes that a killed stack had left"))
            processes = self._supervisor.processes()
            down = [name for name in names if name not in processes or processes[name].state not in RUNNING_STATES]
            self._check_ports(down)
            self._prepare(down, report)
            self._check_ports(down)  # again: the first time, what is prepared takes minutes
            if not processes:
                self._launch()
            self._start_all(names, report, time.monotonic() + timeout_seconds)

    def stop(self, report: Report = lambda _progress: None) -> bool:
        """Stop every part, the last started first, and the supervisor; return whether anything ran.

        No process and no shared memory segment of the stack is left.

        Raises:
            StackConflict: The stack is being changed by another command.
        """
        if not self.settings.run_dir.exists():
            return False
        with self._lock():
            ran = self._supervisor.running()
            if ran:
                self._stop_all(report)
                self._supervisor.shutdown()
            left = end_leftovers(self.settings)
            triton.remove_shared_memory(self.settings)
            return ran or left > 0

    def status(self) -> list[PartStatus]:
        """Return how each part is, in starting order."""
        processes = self._supervisor.processes()
        return [self._status(part, processes.get(part.name)) for part in self.parts.values()]

    @contextlib.contextmanager
    def held_down(self) -> Iterator[None]:
        """Keep the stack from being started.

        Raises:
            StackConflict: It runs, or is being changed by another command.
        """
        if not self.settings.run_dir.exists():  # it was never started
            yield
            return
        with self._lock():
            if self._supervisor.running() or leftovers(self.settings):
                raise StackConflict(f"The stack in {self.settings.state_dir} runs; stop it first: gyre down.")
            yield

    def log_file(self, name: str) -> Path:
        """Return where a part's output is kept; older output lies beside it with a number behind its name."""
        return self.settings.logs_dir / f"{name}.log"

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.settings.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SettingsError(
                f"GYRE_STATE_DIR is {self.settings.state_dir}, where nothing can be written ({error.strerror})."
            ) from error
        with (self.settings.run_dir / "lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackConflict(
                    f"Another command is starting or stopping the stack in {self.settings.state_dir}; "
                    "try again when it is done."
                ) from None
            yield

    def _check_same_settings(self) -> None:
        asked = self.settings.to_environment()
        with contextlib.suppress(FileNotFoundError, ValueError):
            started = json.loads(_started_with(self.settings).read_text())
            other = [variable for variable, value in asked.items() if started.get(variable) != value]
            if other:
                raise StackConflict(
                    f"The stack runs with {other[0]}={started.get(other[0])}, and {asked[other[0]]} is asked for; "
                    "run `gyre down` first."
                )

    def _check_ports(self, names: Collection[str]) -> None:
        for variable in (variable for name in names for variable in ports_of(name)):
            number, port = self.settings.port(variable), PORTS[variable]
            if taken := taken_by(number):
                raise PortTaken(
                    f"Port {number} is taken{taken}, and {port.part} wants it for {port.use}; free it, or choose "
                    f"another with {variable}."
                )

    def _prepare(self, names: Collection[str], report: Report) -> None:
        """Have what the parts need before their first start, so that a person sees it happen."""
        if "kafka" in names:
            if not kafka.is_downloaded(self.settings.cache_dir):
                report(Progress("kafka", f"downloading about 45 MB, once, into {self.settings.cache_dir}"))
            kafka.class_path(self.settings.cache_dir)
        if "triton" in names:
            triton.installation(self.settings.triton_python)
        if set(names) & set(SERVICES):
            self._make_models(report)

    def _make_models(self, report: Report) -> None:
        # In a process of its own: it needs a gigabyte for a moment.
        self.settings.logs_dir.mkdir(parents=True, exist_ok=True)
        with self.log_file("models").open("w") as errors:
            making = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "embedded.models", str(self.settings.models_dir)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            assert making.stdout is not None
            with making:
                for line in making.stdout:
                    if not line.endswith(": ready\n"):  # made long ago
                        report(Progress("models", line.strip()))
        if making.returncode != 0:
            message = "The models could not be made from their packages; run `make setup` and try again."
            raise PartFailed("models", message, log_tail(self.log_file("models")))

    def _launch(self) -> None:
        settings = self.settings
        for folder in (settings.logs_dir, settings.artifacts_dir, settings.triage_dir, settings.triton_repository):
            folder.mkdir(parents=True, exist_ok=True)
        write_clickhouse_users(settings)
        _started_with(settings).write_text(json.dumps(settings.to_environment(), indent=2) + "\n")
        self._supervisor.launch(configuration(settings, self.parts.values()))

    def _start_all(self, names: Collection[str], report: Report, deadline: float) -> None:
        waiting = list(names)
        begun: dict[str, float] = {}
        starts: dict[str, set[float]] = {}
        logged = {name: _size(self.log_file(name)) for name in names}  # what is there already is about other runs
        while waiting:
            processes = self._supervisor.processes()
            for part in [self.parts[name] for name in waiting]:
                process = processes.get(part.name)
                if process is None:
                    message = "The supervisor is gone; run `gyre up` again."
                    raise PartFailed(part.name, message, log_tail(self.log_file("supervisor")))
                if part.name not in begun:
                    if not set(part.after) & set(waiting):
                        begun[part.name] = time.monotonic()
                        if process.state not in RUNNING_STATES:
                            report(Progress(part.name, "starting"))
                            self._supervisor.start(part.name)
                    continue
                if _is_ready(part, process):
                    report(Progress(part.name, "ready", time.monotonic() - begun[part.name]))
                    waiting.remove(part.name)
                    continue
                starts.setdefault(part.name, set()).add(process.started)
                if process.state == "FATAL" or len(starts[part.name]) > _STARTS_BEFORE_GIVING_UP:
                    raise self._failed(part.name, "ends as soon as it is started", logged[part.name])
                if time.monotonic() > deadline:
                    raise self._failed(part.name, "is not ready in time", logged[part.name])
            time.sleep(_POLL_SECONDS)

    def _failed(self, name: str, how: str, logged_before: int) -> PartFailed:
        return PartFailed(
            name,
            f"{name} {how}; mend what its log complains of ({self.log_file(name)}), then run `gyre up` again.",
            log_tail(self.log_file(name), after_bytes=logged_before),
        )

    def _stop_all(self, report: Report) -> None:
        begun: dict[str, float] = {}
        while True:
            processes = self._supervisor.processes()
            live = [name for name, process in processes.items() if process.state in RUNNING_STATES]
            for name in [name for name in begun if name not in live]:
                report(Progress(name, "stopped", time.monotonic() - begun.pop(name)))
            if not live:
                return
            for name in live:
                if name not in begun and not any(name in self.parts[other].after for other in live):
                    begun[name] = time.monotonic()
                    report(Progress(name, "stopping"))
                    self._supervisor.stop(name)
            time.sleep(_POLL_SECONDS)

    def _status(self, part: Part, process: Process | None) -> PartStatus:
        if process is None or process.state in ("STOPPED", "EXITED"):
            return PartStatus(part, "stopped")
        if process.state == "FATAL":
            return PartStatus(part, "failed")
        if process.state == "BACKOFF":
            return PartStatus(part, "restarting")
        uptime = uptime_seconds(process)
        if process.state == "STOPPING":
            state = "stopping"
        elif _is_ready(part, process):
            state = "ready"
        else:
            state = "starting" if uptime < _STARTING_SECONDS else "not answering"
        return PartStatus(part, state, process.pid, uptime, memory_bytes(process.pid))


def _is_ready(part: Part, process: Process) -> bool:
    # Whatever took the port of a part that keeps crashing would answer in its place.
    return process.pid != 0 and part.ready() and listens(process.pid, part.port)


def log_tail(path: Path, lines: int = _LOG_TAIL_LINES, after_bytes: int = 0) -> list[str]:
    """Return the last lines of a log, oldest first; none where there is no log.

    Args:
        path: The log.
        lines: How many at most.
        after_bytes: Of what the log has held since it was this long.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            # Shorter than it was, it has been rotated, and all of it is new.
            file.seek(max(after_bytes if after_bytes <= size else 0, size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()[-lines:]
    except FileNotFoundError:
        return []


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _started_with(settings: Settings) -> Path:
    return settings.run_dir / "settings.json"
