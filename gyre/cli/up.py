"""`gyre up`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from gyre.cli.logs import readable
from gyre.cli.stack import show_addresses, state_dir_option


@click.command()
@click.option(
    "--only",
    metavar="PART,...",
    help="Start these parts alone, such as kafka,clickhouse,triton for tests. By default all are started.",
)
@click.option("--timeout", "timeout_seconds", default=300.0, show_default=True, help="Seconds until all must be ready.")
@state_dir_option
def up(only: str | None, timeout_seconds: float, state_dir: Path) -> None:
    """Start the stack on this machine, and wait until every part is ready.

    Parts that run already are left alone, so it does no harm to run this twice. They go on running when this command
    has ended, and are started anew when they crash, until `gyre down`.

    Settings are environment variables, read when the stack starts: GYRE_STATE_DIR, and one for each port
    (GYRE_ROUTER_HTTP_PORT, GYRE_EMBEDDED_KAFKA_PORT and so on; `gyre status` shows which are in use).
    """
    # Here, so that help is quick.
    from rich.console import Console

    from embedded.errors import PartFailed
    from embedded.parts import PARTS
    from embedded.settings import Settings
    from embedded.stack import Progress, Stack

    console = Console(highlight=False, soft_wrap=True)
    settings = Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)})
    names = [name.strip() for name in only.split(",") if name.strip()] if only else list(PARTS)
    stack = Stack(settings)
    pending: list[str] = []
    with console.status("Starting the stack") as spinner:

        def report(progress: Progress) -> None:
            if progress.event == "starting":
                pending.append(progress.part)
            elif progress.event == "ready":
                took = "up already"
                if progress.part in pending:
                    pending.remove(progress.part)
                    took = f"{progress.seconds:.1f} s"
                part = stack.parts[progress.part]
                console.print(f"[green]✓[/] {part.name:<11}{part.address:<24}[dim]{took:>10}   {part.what}[/]")
            else:
                console.print(f"[dim]· {progress.part}: {progress.event}[/]")
            spinner.update(f"Waiting for {', '.join(pending)}" if pending else "Starting the stack")

        try:
            stack.start(names, report, timeout_seconds)
        except PartFailed as error:
            if error.log_tail:
                console.print(f"\n[bold]The last lines of {error.part}'s log:[/]")
                for line in error.log_tail:
                    console.print(f"  {readable(line)[0]}", markup=False)  # tracebacks are for `gyre logs`
                console.print()
            raise
    if set(names) >= {"router", "triage", "clickhouse"}:
        show_addresses(console, settings)
