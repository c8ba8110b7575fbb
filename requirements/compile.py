"""Pins every extra of pyproject.toml, with hashes and without any registry's address.

`dev.txt` is solved first and holds everything; each service's file is a part of that same solution, so an image and the
development environment never differ in a version.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SERVICES = ["router", "governance", "context", "audit", "triage", "trainer", "serving"]
FLAGS = ["--universal", "--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--quiet"]
PYTHON = ["--python-version", "3.11"]


def compile_pins(source: str, target: str, *flags: str) -> None:
    """Pin what a source asks for into a file of this folder."""
    command = [str(Path(sys.executable).parent / "uv"), "pip", "compile", source, *FLAGS, *PYTHON, *flags]
    subprocess.run([*command, "--output-file", str(HERE / target)], check=True, cwd=HERE.parent)  # noqa: S603 - our own


compile_pins("pyproject.toml", "dev.txt", "--extra", "dev")
for service in SERVICES:
    compile_pins("pyproject.toml", f"{service}.txt", "--extra", service, "--constraint", str(HERE / "dev.txt"))
# Peers and tools of benchmarks, each in an environment of its own.
for beside in ("presidio", "litellm", "profiler", "trl"):
    compile_pins(str(HERE / f"{beside}.in"), f"{beside}.txt")
# Packages whose declared dependencies are not wanted: models, data, texts, and Triton with numpy 1 (see the Makefile).
for name in ("uv", "data", "triton", "corpora"):
    compile_pins(str(HERE / f"{name}.in"), f"{name}.txt", "--no-deps")
