"""`gyre doctor`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gyre.cli.stack import state_dir_option

if TYPE_CHECKING:
    from gyre.doctor.checks import Check, Result

_WIDE_COLUMNS = 120


@click.command()
@click.option(
    "--bundle",
    "bundle_dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Your bundle, to be compared with the published one.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--all", "show_all", is_flag=True, help="Show what is well, too.")
@state_dir_option
def doctor(bundle_dir: Path | None, form: str, show_all: bool, state_dir: Path) -> None:
    """Find what is wrong with an installation, and say what to do.

    It looks at this machine's stack, or, where GYRE_KAFKA_BOOTSTRAP_SERVERS or GYRE_CLICKHOUSE_URL is set, at what the
    environment variables name, by the names that services have them. What is not named is not looked at. Nothing is
    changed. The cause is told, and what only follows from it is not looked at until the cause is mended: run it again
    then.

    Ends with 1 if there is an error; warnings alone leave 0.
    """
    # Here, so that help is quick.
    from rich.console import Console

    from gyre.doctor.checks import Severity, diagnose
    from gyre.doctor.everything import CHECKS
    from gyre.doctor.installation import installation_of

    installation = installation_of(state_dir, bundle_dir)
    # Piped, there is no width to keep to.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE_COLUMNS)
    with Console(stderr=True).status("Looking") as spinner:

        def begun(check: Check) -> None:
            spinner.update(f"Looking whether {check.question}")

        results = asyncio.run(diagnose(installation, CHECKS, begun))
    if form == "json":
        click.echo(json.dumps([_as_json(each) for each in results], indent=2))
    else:
        _show(console, results, show_all)
    if any(found.severity is Severity.ERROR for each in results for found in each.findings):
        sys.exit(1)


def _as_json(result: Result) -> dict[str, object]:
    state = (
        "skipped" if result.skipped else max((str(each.severity) for each in result.findings), default="ok", key=_bad)
    )
    return {
        "check": result.check.name,
        "question": result.check.question,
        "state": state,
        **({"skipped": result.skipped} if result.skipped else {}),
        "findings": [
            {"severity": str(each.severity), "cause": each.cause, "remedy": each.remedy} for each in result.findings
        ],
    }


def _bad(severity: str) -> int:
    return ["ok", "warning", "error"].index(severity)


def _show(console: object, results: Sequence[Result], show_all: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gyre.doctor.checks import NOTHING_THERE, Severity

    assert isinstance(console, Console)
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    found = skipped = 0
    looked = sum(not result.skipped for result in results)
    for result in results:
        name = result.check.name
        for each in result.findings:
            found += 1
            sign = Text("✗", "red") if each.severity is Severity.ERROR else Text("!", "yellow")
            # As text: what others said may hold brackets.
            table.add_row(sign, Text(name), Text(each.cause))
            table.add_row("", "", Text(f"→ {each.remedy}", "cyan"))
        skipped += bool(result.skipped) and result.skipped != NOTHING_THERE
        if show_all and result.skipped:
            table.add_row(Text("·", "dim"), Text(name, "dim"), Text(f"not looked at: {result.skipped}", "dim"))
        elif show_all and not result.findings:
            table.add_row(Text("✓", "green"), Text(name), Text(result.check.question, "dim"))
    if table.row_count:
        console.print(table)
        console.print()
    said = f"{looked} checks, {found or 'nothing'} found."
    if skipped:
        said += f" {skipped} more have to wait until that is mended."
    console.print(said)
