"""What the commands about the stack have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


def state_dir_option(command: _Command) -> _Command:
    """Give a command `--state-dir`, which goes before GYRE_STATE_DIR."""
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="GYRE_STATE_DIR",
        default=".state",
        show_default=True,
        show_envvar=True,
        help="The folder with everything that the stack stores.",
    )(command)
