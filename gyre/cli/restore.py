"""`gyre restore`."""

from __future__ import annotations

from pathlib import Path

import click

from gyre.cli.backup import show
from gyre.cli.stack import settings_of, state_dir_option


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@state_dir_option
def restore(folder: Path, state_dir: Path) -> None:
    """Put the backup in DIR into an empty state folder.

    Every archive is read first and held against its SHA-256; with anything amiss nothing is written. Then start the
    stack: gyre up. It goes on where it was when the backup was made: what came after that is lost.
    """
    # Here, so that help is quick.
    from rich.console import Console

    from embedded.backup import KEPT
    from embedded.backup import restore as put

    settings = settings_of(state_dir)
    console = Console(highlight=False, soft_wrap=True)
    with console.status("Reading the backup") as spinner:
        restored = put(settings, folder, lambda part: spinner.update(f"Restoring {KEPT[part][1]}"))
    show(console, restored)
    console.print(f"\nRestored into {settings.state_dir}. Start it: gyre up. Then see that it is well: gyre doctor.")
