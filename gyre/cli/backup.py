"""`gyre backup`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gyre.cli.stack import settings_of, state_dir_option

if TYPE_CHECKING:
    from embedded.backup import Backup


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@state_dir_option
def backup(folder: Path, state_dir: Path) -> None:
    """Write what of this machine's stack cannot be made again into DIR, a new folder.

    The stack must be down. Topics, the record, datasets and adapters, checkpoints, accounts and secrets are written,
    each as one archive with its SHA-256 in DIR/manifest.json, readable for you alone. The secrets are in the clear:
    keep DIR as you keep those.
    """
    # Here, so that help is quick.
    from rich.console import Console

    from embedded.backup import KEPT, back_up

    console = Console(highlight=False, soft_wrap=True)
    with console.status("Backing up") as spinner:
        made = back_up(settings_of(state_dir), folder, lambda part: spinner.update(f"Backing up {KEPT[part][1]}"))
    show(console, made)
    console.print(f"\n[dim]Left out: {', '.join(made.left_out)}: made again from the above, or not the stack's.[/]")
    console.print(f"{folder} is whole. It holds secrets in the clear (secrets.tar): keep it like these.")


def show(console: object, made: Backup) -> None:
    """Print what each archive holds."""
    from rich.console import Console

    from embedded.backup import KEPT

    assert isinstance(console, Console)
    for each in made.archives:
        size = f"{each.bytes / 1e6:,.1f} MB"
        console.print(f"[green]✓[/] {each.part:<12}{size:>12} {each.files:>8,} files   [dim]{KEPT[each.part][1]}[/]")
