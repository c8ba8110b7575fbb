"""What the commands about the stack have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from embedded.settings import Settings

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


def show_addresses(console: Console, settings: Settings) -> None:
    """Print where a person goes from here, to be pasted."""
    from embedded.environment import console_password_file, person

    router = settings.address("GYRE_ROUTER_HTTP_PORT")
    clickhouse = settings.address("GYRE_EMBEDDED_CLICKHOUSE_PORT")
    password_file = settings.run_dir / "secrets" / "clickhouse-analyst"
    console.print(
        f"""
[bold]Decide who may ask what[/] (once, and whenever you change it)
  gyre policy push deploy/bundle

[bold]Ask[/] (KEY is an application's in that bundle)
  curl http://{router}/v1/models -H "Authorization: Bearer $KEY"

[bold]See what experts are asked[/], as {person()}; others are let in by gyre experts add
  http://{settings.address("GYRE_TRIAGE_CONSOLE_PORT")}
  cat '{console_password_file(settings)}'

[bold]Query the record[/], as a user who may only read
  curl "http://{clickhouse}/?query=SHOW+TABLES+FROM+gyre" --user "analyst:$(cat '{password_file}')"

[dim]How it is: gyre status     What it logs: gyre logs     Stop it: gyre down[/]"""
    )
