"""A clock that can be set, for all processes that are started with one environment."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


class Clock:
    """How far the clock of some processes is off, in whole seconds."""

    def __init__(self, folder: Path) -> None:
        """Compile what is preloaded into them; without a compiler it stands where it is."""
        self._file, library = folder / "offset", folder / "clock.so"
        self._set(0)
        self.environment: Mapping[str, str] = {}
        self.is_movable = shutil.which("cc") is not None
        if not self.is_movable:
            return
        source = Path(__file__).with_name("clock.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, source, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "GYRE_TEST_CLOCK": str(self._file)}

    @contextmanager
    def jumped(self, seconds: int) -> Iterator[None]:
        """Have it jump, and jump back in the end."""
        self._set(seconds)
        try:
            yield
        finally:
            self._set(0)

    def _set(self, seconds: int) -> None:
        # In its place: processes have mapped it.
        with self._file.open("r+b" if self._file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))
