"""Triton on one machine: the server and Python backend that nvidia-pytriton ships, in an environment of their own.

`python -m embedded.triton` clears away what a killed predecessor left, assembles the backend folder and becomes the
server. Settings: those of `embedded.settings`, in the environment.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from embedded.errors import EmbeddedError, SettingsError
from embedded.settings import HOST, Settings

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory segments
_STUB = "triton_python_backend_stub"
_ASK_PYTHON = """
import json, sys, sysconfig
print(json.dumps([sysconfig.get_path("purelib"), sysconfig.get_config_var("LIBDIR"), "%d.%d" % sys.version_info[:2]]))
"""


@dataclass(frozen=True)
class Installation:
    """Where Triton's parts are installed.

    Attributes:
        server: The executable.
        backend: Files of the Python backend.
        stub: What the backend starts for each model; it is built for one version of Python.
        libraries: Folders that the server and the stub load libraries from.
        binaries: Folder with the interpreter that models run on.
    """

    server: Path
    backend: Path
    stub: Path
    libraries: tuple[Path, ...]
    binaries: Path


_SYSTEM_LIBRARIES = (Path("/usr/lib/x86_64-linux-gnu"), Path("/usr/lib64"), Path("/usr/lib"))


def installation(python: Path) -> Installation:
    """Return what is installed beside an interpreter.

    Raises:
        SettingsError: It is not there, or nvidia-pytriton is not.
    """
    remedy = "run `make setup`, or set GYRE_EMBEDDED_TRITON_PYTHON to a Python that has nvidia-pytriton."
    try:
        answer = subprocess.run(  # noqa: S603 - the operator's own setting
            [python, "-c", _ASK_PYTHON], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SettingsError(f"{python} cannot be run ({error}); {remedy}") from error
    packages, libraries, version = json.loads(answer.stdout)
    triton = Path(packages) / "pytriton" / "tritonserver"
    found = Installation(
        server=triton / "bin" / "tritonserver",
        backend=triton / "backends" / "python",
        stub=triton / "python_backend_stubs" / version / _STUB,
        libraries=(Path(packages) / "nvidia_pytriton.libs", Path(libraries)),
        binaries=python.parent,
    )
    for needed in (found.server, found.backend, found.stub):
        if not needed.exists():
            raise SettingsError(f"{python} has no {needed.name} for Python {version}; {remedy}")
    library = f"libpython{version}.so.1.0"
    if not any((folder / library).exists() for folder in (Path(libraries), *_SYSTEM_LIBRARIES)):
        raise SettingsError(
            f"Triton's Python backend needs {library}, which is not beside {python}; install it "
            f"(Debian and Ubuntu: apt install libpython{version}) and run this again."
        )
    return found


def shared_memory_prefix(settings: Settings) -> str:
    """Return what the names of this stack's shared memory segments begin with, so that no other's are touched."""
    stack = hashlib.sha256(os.fsencode(settings.state_dir)).hexdigest()[:8]
    return f"triton_python_backend_shm_region_{stack}_"


def remove_shared_memory(settings: Settings) -> None:
    """Remove the segments that a killed server left. Call it only when none is running."""
    for segment in _SHARED_MEMORY.glob(f"{shared_memory_prefix(settings)}*"):
        segment.unlink(missing_ok=True)


def command(settings: Settings, installed: Installation) -> list[str]:
    """Return the server's command line."""
    return [
        str(installed.server),
        f"--model-repository={settings.triton_repository}",
        f"--backend-directory={_backends_dir(settings)}",
        f"--backend-config=python,shm-region-prefix-name={shared_memory_prefix(settings)}",
        "--model-control-mode=explicit",
        "--disable-auto-complete-config",
        "--exit-timeout-secs=10",
        *(f"--{protocol}-address={HOST}" for protocol in ("http", "grpc", "metrics")),
        *(
            f"--{protocol}-port={settings.port(f'GYRE_EMBEDDED_TRITON_{protocol.upper()}_PORT')}"
            for protocol in ("http", "grpc", "metrics")
        ),
    ]


def _backends_dir(settings: Settings) -> Path:
    return settings.state_dir / "triton" / "backends"


def _assemble_backend(settings: Settings, installed: Installation) -> None:
    # The backend looks for its stub beside itself, and the package ships one stub per version of Python elsewhere.
    target = _backends_dir(settings) / "python"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(installed.backend, target)
    shutil.copyfile(installed.stub, target / _STUB)
    (target / _STUB).chmod(0o755)


def _end_stubs(settings: Settings) -> None:
    """End the stubs of a killed server, which would go on holding memory and models."""
    ours = str(_backends_dir(settings) / "python" / _STUB)
    stubs = [process for process in psutil.process_iter(["cmdline"]) if ours in (process.info["cmdline"] or [])]
    for stub in stubs:
        stub.kill()
    psutil.wait_procs(stubs, timeout=5)


def main() -> None:
    """Become the server."""
    settings = Settings.from_environment()
    installed = installation(settings.triton_python)
    _end_stubs(settings)
    remove_shared_memory(settings)
    _assemble_backend(settings, installed)
    settings.triton_repository.mkdir(parents=True, exist_ok=True)
    environment = {
        **os.environ,
        "PATH": f"{installed.binaries}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(str(folder) for folder in installed.libraries),
        "PYTHONUNBUFFERED": "1",
    }
    argv = command(settings, installed)
    os.execve(argv[0], argv, environment)  # noqa: S606 - becomes Triton, so that signals reach it


if __name__ == "__main__":
    try:
        main()
    except EmbeddedError as failure:
        sys.exit(str(failure))
