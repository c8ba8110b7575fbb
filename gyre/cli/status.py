"""`gyre status`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from gyre.cli.stack import state_dir_option

_WIDE_COLUMNS = 120
_COLOURS = {"ready": "green", "stopped": "dim", "failed": "red", "not answering": "red"}


@click.command()
@state_dir_option
def status(state_dir: Path) -> None:
    """Show how each part of the stack is, and where.

    Ends with 0 if every part is ready, and with 1 if not.
    """
    # Here, so that help is quick.
    from rich.console import Console
    from rich.table import Table

    from embedded.settings import Settings
    from embedded.stack import Stack

    stack = Stack.running(Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)}))
    parts = stack.status()
    # Piped, there is no width to keep to.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE_COLUMNS)
    if all(each.state == "stopped" for each in parts):
        console.print(f"Nothing runs in {stack.settings.state_dir}. Start it with: gyre up")
        sys.exit(1)
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    columns = ["Part", "State", "Address", "Up for", "Memory", "What it is"]
    if console.width < _WIDE_COLUMNS - 20:
        columns.remove("What it is")
    for column in columns:
        table.add_column(column, justify="right" if column in ("Up for", "Memory") else "left", no_wrap=True)
    for each in parts:
        colour = _COLOURS.get(each.state, "yellow")
        runs = each.pid != 0
        cells = (
            each.part.name,
            f"[{colour}]{each.state}[/]",
            each.part.address,
            _duration(each.uptime_seconds) if runs else "",
            f"{each.memory_bytes / 1e6:,.0f} MB" if runs else "",
            f"[dim]{each.part.what}[/]",
        )
        table.add_row(*cells[: len(columns)])
    console.print(table)
    total = sum(each.memory_bytes for each in parts)
    console.print(f"\nState: {stack.settings.state_dir}   Memory: {total / 1e9:.1f} GB", soft_wrap=True)
    if wrong := [each.part.name for each in parts if each.state in ("failed", "not answering", "restarting")]:
        console.print(f"To see what is wrong: gyre logs {' '.join(wrong)}")
    if any(each.state != "ready" for each in parts):
        sys.exit(1)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
    return f"{seconds // 86400:.0f} days"
