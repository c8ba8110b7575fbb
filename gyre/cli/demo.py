"""`gyre demo`."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from gyre.cli.stack import show_addresses, state_dir_option


@click.command()
@click.option(
    "--bundle",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default="deploy/bundle",
    show_default=True,
    help="The bundle that is published first.",
)
@state_dir_option
def demo(bundle: Path, state_dir: Path) -> None:
    """Play the learning loop once round, on the stack that `gyre up` started.

    Real requests go through the router; the flagged ones are answered by a replayed expert (a stand-in that knows the
    ground truth); a specialist is trained, gated and deployed; requests that nobody labelled are played before and
    after. Takes about a quarter of an hour on two cores.
    """
    # Here, so that help is quick.
    from rich.console import Console

    from embedded.environment import replayed_expert_token, service_environment
    from embedded.settings import Settings
    from embedded.stack import Stack
    from gyre.cli.policy import publish
    from gyre.demo import report as reporting
    from gyre.demo.play import DemoError
    from gyre.demo.story import TASK, TENANT, Addresses, Story

    console = Console(highlight=False)
    stack = Stack.running(Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)}))
    settings = stack.settings
    not_ready = [each.part.name for each in stack.status() if each.state != "ready"]
    if not_ready:
        raise click.ClickException(f"These parts are not ready: {', '.join(not_ready)}; run `gyre up` first.")
    os.environ.update(service_environment(settings))
    console.print(publish(bundle))
    addresses = Addresses(
        router=f"http://{settings.address('GYRE_ROUTER_HTTP_PORT')}",
        triage=settings.address("GYRE_TRIAGE_GRPC_PORT"),
        trainer=settings.address("GYRE_TRAINER_GRPC_PORT"),
        serving=settings.address("GYRE_SERVING_GRPC_PORT"),
    )
    try:
        report = asyncio.run(Story(addresses, replayed_expert_token(settings), console).tell())
    except DemoError as error:
        raise click.ClickException(str(error)) from error
    runs = settings.artifacts_dir / TENANT / TASK / "runs"
    figures, plot = reporting.write(report, settings.state_dir / "demo")
    console.print()
    console.print(reporting.table(report))
    console.print(
        f"An expert saw {report.labelled} of {report.traffic} requests ({report.labelled / report.traffic:.0%}); the "
        f"specialist learned from {report.training_rows} of the answers.\n"
        f"The gate: {report.gate}\n"
        f"Its report: {runs / report.run_id / 'report.html'}\n"
        f"Once round in {report.minutes:.1f} minutes. Plot: {plot}   Figures: {figures}"
    )
    show_addresses(console, settings)
