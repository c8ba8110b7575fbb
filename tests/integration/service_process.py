"""A service of Gyre as a process of its own, on a free port."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from embedded.ports import free_ports
from embedded.settings import HOST
from services.runtime.rpc import wait_serving


class ServiceProcess:
    """`python -m services.<name>`, ended when the block ends."""

    def __init__(self, name: str, log: Path, environment: Mapping[str, str], host: str = HOST) -> None:
        """Choose its ports, unless the environment says them.

        Args:
            name: Of the service.
            log: File that its output goes to.
            environment: Added to this process's.
            host: Where it is reached.
        """
        variables = [f"GYRE_{name.upper()}_{use}_PORT" for use in ("GRPC", "EXCHANGE")]
        ports = dict(zip(variables, map(str, free_ports(2)), strict=True)) | environment
        self.target, self.exchange_target = (f"{host}:{ports[variable]}" for variable in variables)
        self._name = name
        self.log = log
        self._environment = {**os.environ, **ports}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Start it, for the first time or again."""
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self._name}"], env=self._environment, stdout=out, stderr=out
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def serving(self, seconds: float = 60) -> None:
        """Wait until its health says so."""
        await wait_serving(self.target, seconds)

    def wait(self) -> int:
        """Wait until it ends by itself and return its exit code."""
        assert self._process is not None
        return self._process.wait(60)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def peak_memory_bytes(self) -> int:
        """Return the most memory that it has had resident since it was started."""
        assert self._process is not None
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (peak_kib,) = (line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak_kib) * 1024

    def kill(self) -> None:
        """End it without warning."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> int:
        """End it as a supervisor would and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
