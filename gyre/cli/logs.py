"""`gyre logs`."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gyre.cli.stack import state_dir_option

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = ("cyan", "magenta", "yellow", "green", "blue")
_POLL_SECONDS = 0.3


@click.command()
@click.argument("parts", nargs=-1, metavar="[PART]...")
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines, until interrupted.")
@click.option(
    "-n", "--lines", default=20, show_default=True, type=click.IntRange(min=0), help="Of each part, from its end."
)
@state_dir_option
def logs(parts: tuple[str, ...], follow: bool, lines: int, state_dir: Path) -> None:
    """Show what the parts of the stack have logged; without PART, all of them."""
    # Here, so that help is quick.
    from rich.console import Console

    from embedded.parts import PARTS, chosen
    from embedded.settings import Settings
    from embedded.stack import Stack, log_tail

    stack = Stack(Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)}))
    names = chosen(parts or PARTS)
    files = {name: stack.log_file(name) for name in names}
    if not any(file.exists() for file in files.values()):
        raise click.ClickException(
            f"{', '.join(names)}: nothing is logged in {stack.settings.logs_dir} yet; start the stack with: gyre up"
        )
    console = Console(highlight=False, soft_wrap=True)
    tails = {name: _Tail(file) for name, file in files.items()}
    for name, file in files.items():
        _show(console, name, log_tail(file, lines) if lines else [])
    while follow:
        new = {name: tail.new_lines() for name, tail in tails.items()}
        for name, found in new.items():
            _show(console, name, found)
        if not any(new.values()):
            time.sleep(_POLL_SECONDS)


def _show(console: Console, name: str, lines: list[str]) -> None:
    from rich.text import Text

    from embedded.parts import PARTS

    label = Text(f"{name:<11}", style=_COLOURS[PARTS.index(name) % len(_COLOURS)])
    for line in lines:
        for each in readable(line):
            console.print(label, Text(each), sep="")


def readable(line: str) -> list[str]:
    """Return a logged line as a person would want it: JSON records are spelled out, anything else is left as it is."""
    try:
        record = json.loads(line)
        time_of_day = record.pop("timestamp")[11:19]
        level, event = record.pop("level"), record.pop("event")
    except (ValueError, LookupError, TypeError, AttributeError):
        return [line]
    record.pop("service", None)
    exception = str(record.pop("exception", ""))
    values = "".join(f"  {name}={value}" for name, value in record.items())
    return [f"{time_of_day} {level.upper():<7} {event}{values}", *(f"  {each}" for each in exception.splitlines())]


class _Tail:
    """The lines that a log gains, across its rotation."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._inode, self._read = self._now()
        self._rest = b""

    def _now(self) -> tuple[int, int]:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return 0, 0
        return stat.st_ino, stat.st_size

    def new_lines(self) -> list[str]:
        inode, size = self._now()
        if inode != self._inode or size < self._read:
            self._inode, self._read = inode, 0
        if size == self._read:
            return []
        with self._path.open("rb") as file:
            file.seek(self._read)
            found = file.read()
        self._read += len(found)
        *complete, self._rest = (self._rest + found).split(b"\n")
        return [line.decode(errors="replace") for line in complete]
