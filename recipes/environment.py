"""Environments beside Gyre's own, for corpora and peers that its services have no use for."""

import subprocess
import sys
from pathlib import Path

PLACE = Path(__file__).parents[1]


def install(name: str) -> Path:
    """Install what `requirements/<name>.txt` pins into `.venv-<name>`, and return that environment's Python."""
    environment = PLACE / f".venv-{name}"
    uv, python = str(Path(sys.executable).parent / "uv"), environment / "bin" / "python"
    pins = str(PLACE / "requirements" / f"{name}.txt")
    print(f"Installing {environment.name}", file=sys.stderr)
    for command in (
        ["venv", "--quiet", "--allow-existing", "--python", sys.executable, str(environment)],
        ["pip", "install", "--quiet", "--python", str(python), "--require-hashes", "--no-deps", "-r", pins],
    ):
        subprocess.run([uv, *command], check=True)  # noqa: S603 - our own
    return python


def packages(name: str) -> Path:
    """Install what `requirements/<name>.txt` pins, and return the folder that it lies in."""
    (folder,) = install(name).parents[1].glob("lib/python*/site-packages")
    return folder
