"""`gyre down`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gyre.cli.stack import state_dir_option


@click.command()
@state_dir_option
def down(state_dir: Path) -> None:
    """Stop the stack: each part may finish what it is at, the last started first.

    What is stored stays in the state folder, and `gyre up` goes on with it. To begin afresh, delete the folder.
    """
    # Here, so that help is quick.
    from rich.console import Console

    from embedded.settings import Settings
    from embedded.stack import Progress, Stack

    console = Console(highlight=False, soft_wrap=True)
    stack = Stack.running(Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)}))
    pending: list[str] = []
    with console.status("Stopping the stack") as spinner:

        def report(progress: Progress) -> None:
            if progress.event == "stopping":
                pending.append(progress.part)
            else:
                pending.remove(progress.part)
                console.print(f"[green]✓[/] {progress.part:<11}[dim]stopped in {progress.seconds:.1f} s[/]")
            spinner.update(f"Waiting for {', '.join(pending)}" if pending else "Stopping the stack")

        ran = stack.stop(report)
    console.print("Gyre is down." if ran else f"Nothing runs in {stack.settings.state_dir}.")
