"""The stack's supervisor: its configuration, how it is started and asked, and what a killed one leaves behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport

from embedded.environment import part_environment
from embedded.errors import EmbeddedError
from embedded.parts import Part, command
from embedded.settings import Settings

# Every process of a stack carries this variable with its state folder, and hands it to its children: by it they are
# found when nothing else leads to them any more.
MARK = "GYRE_EMBEDDED_STACK"
RUNNING_STATES = ("STARTING", "RUNNING", "BACKOFF", "STOPPING")

_LOG_BYTES = 10 * 1024 * 1024
_TERM_SECONDS = 10


@dataclass(frozen=True)
class Process:
    """What supervision knows about a part.

    Attributes:
        state: STOPPED, STARTING, RUNNING, BACKOFF (it ended early and is tried again), STOPPING, EXITED or FATAL.
        pid: 0 where none runs.
        started: Unix time of its last start.
    """

    state: str
    pid: int
    started: float


def configuration(settings: Settings, parts: Iterable[Part]) -> str:
    """Return supervisor's configuration. It holds secrets: whoever writes it keeps it from other accounts."""
    sections = [
        f"""\
[supervisord]
identifier=gyre
directory={settings.state_dir}
logfile={settings.logs_dir}/supervisor.log
logfile_maxbytes={_LOG_BYTES}
logfile_backups=1
pidfile={settings.run_dir}/supervisor.pid
childlogdir={settings.logs_dir}
nocleanup=true

[unix_http_server]
file={settings.run_dir}/supervisor.sock
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
""",
        *(_program(settings, part) for part in parts),
    ]
    return "\n".join(sections)


def _program(settings: Settings, part: Part) -> str:
    # A part that needs another which is away crashes and is started anew, a second later each time: with this many
    # tries it is there again when the other is, hours later.
    return f"""\
[program:{part.name}]
command={shlex.join(command(part))}
environment={_environment(part_environment(settings, part.name))}
directory={settings.state_dir}
autostart=false
autorestart=true
startsecs=2
startretries=100
stopsignal=TERM
stopwaitsecs={part.stop_seconds}
killasgroup=true
redirect_stderr=true
stdout_logfile={settings.logs_dir}/{part.name}.log
stdout_logfile_maxbytes={_LOG_BYTES}
stdout_logfile_backups=2
"""


def _environment(variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        if any(character in value for character in '"%\n'):
            raise EmbeddedError(f"{name} must hold no quotes, % or line breaks.")
    return ",".join(f'{name}="{value}"' for name, value in variables.items())


class Supervisor:
    """The supervisor of one state folder, asked through its own socket."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._socket = settings.run_dir / "supervisor.sock"

    @property
    def configuration_file(self) -> Path:
        """Where the configuration of the one that runs lies."""
        return self._settings.run_dir / "supervisor.conf"

    def running(self) -> bool:
        """Return whether there is one."""
        return self._ask("getPID") is not None

    def launch(self, configuration: str) -> None:
        """Start the supervisor, and none of its parts.

        Raises:
            EmbeddedError: It does not start.
        """
        self.configuration_file.unlink(missing_ok=True)
        descriptor = os.open(self.configuration_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(configuration)
        # It returns when it has opened its socket and gone into the background.
        started = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "supervisor.supervisord", "-c", self.configuration_file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, MARK: str(self._settings.state_dir), "PYTHONUNBUFFERED": "1"},
        )
        if started.returncode != 0:
            why = " ".join(started.stdout.split()) or f"it ended with {started.returncode}"
            raise EmbeddedError(
                f"The supervisor does not start ({why}); {self._settings.logs_dir / 'supervisor.log'} may say more."
            )

    def processes(self) -> dict[str, Process]:
        """Return what is known about each part; nothing where no supervisor runs."""
        infos = self._ask("getAllProcessInfo") or []
        return {info["name"]: Process(info["statename"], info["pid"], info["start"]) for info in infos}

    def start(self, name: str) -> None:
        """Have a part started; `processes` tells what came of it."""
        self._ask("startProcess", name, False)

    def stop(self, name: str) -> None:
        """Have a part stopped; `processes` tells when it is."""
        self._ask("stopProcess", name, False)

    def shutdown(self) -> None:
        """End the supervisor and what it still runs, and wait until it is gone."""
        pid = self._ask("getPID")
        if pid is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            self._ask("shutdown")
            psutil.wait_procs([process], timeout=60)

    def _ask(self, method: str, *arguments: Any) -> Any:
        if not self._socket.exists():
            return None
        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                return getattr(server.supervisor, method)(*arguments)
        except (OSError, http.client.HTTPException):
            return None  # nobody listens there, or it is just going
        except xmlrpc.client.Fault as fault:
            # Started, stopped or ended meanwhile: the state that is read next tells.
            if any(name in fault.faultString for name in ("ALREADY_STARTED", "NOT_RUNNING", "SHUTDOWN_STATE")):
                return None
            raise EmbeddedError(f"The supervisor refuses {method} {' '.join(map(str, arguments))}: {fault}.") from fault


def leftovers(settings: Settings) -> list[psutil.Process]:
    """Return every process that carries the mark of this stack."""
    return [process for process in psutil.process_iter() if _is_marked(process, str(settings.state_dir))]


def end_leftovers(settings: Settings) -> int:
    """End every process that carries the mark of this stack, and return how many there were.

    What a killed supervisor or a killed part leaves behind has no other way to be found.
    """
    found = leftovers(settings)
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _gone, alive = psutil.wait_procs(found, timeout=_TERM_SECONDS)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=_TERM_SECONDS)
    return len(found)


def _is_marked(process: psutil.Process, state_dir: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == state_dir
    except (psutil.Error, OSError):
        return False  # gone meanwhile, or somebody else's


def memory_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
    return total


def listens(pid: int, port: int) -> bool:
    """Return whether a process or one of its descendants listens on a port."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                for connection in each.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,):
                        return True
    return False


def uptime_seconds(process: Process) -> float:
    """Return for how long a running process has been up."""
    return max(0.0, time.time() - process.started)
