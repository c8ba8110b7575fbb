"""`gyre export`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from gyre.cli.audit import proof_of, verifying_keys
from gyre.cli.stack import call_service, settings_of, state_dir_option

_RPC_SECONDS = 1800.0  # for writing gigabytes


class _OrWrite(click.Group):
    """Takes arguments that name no command of the group for those of `_write`, whose options its help shows too."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args) if args[0] in self.commands else ("", _write, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "TENANT TASK [FOLDER] [OPTIONS]")
        formatter.write_usage(ctx.command_path, "verify FOLDER [OPTIONS]")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write.format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=_OrWrite, context_settings={"ignore_unknown_options": True})
def export() -> None:
    """Take what is live for TENANT's TASK out, as one folder that needs no Gyre.

    It holds the weights four ways (for peft, for transformers, for llama.cpp, for Triton), the records of how they came
    about with the proof that they are on record, a model card and checksums. FOLDER is new; ./TENANT-TASK if not told.
    """


@click.command()
@click.argument("tenant")
@click.argument("task")
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target",
    envvar="GYRE_SERVING_TARGET",
    show_envvar=True,
    help="host:port of serving; this machine's stack if not told.",
)
@click.option(
    "--audit-target",
    envvar="GYRE_AUDIT_TARGET",
    show_envvar=True,
    help="host:port of audit; this machine's stack if not told.",
)
@click.option(
    "--artifacts-dir",
    type=click.Path(path_type=Path),
    envvar="GYRE_ARTIFACTS_DIR",
    show_envvar=True,
    help="Where serving writes; this machine's if not told.",
)
@state_dir_option
def _write(
    tenant: str,
    task: str,
    folder: Path | None,
    target: str | None,
    audit_target: str | None,
    artifacts_dir: Path | None,
    state_dir: Path,
) -> None:
    """Have serving write the export, copy it, and put the proof in."""
    from rich.console import Console

    from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
    from schemas import exports
    from schemas.ledger.proofs import Proof

    folder = folder or Path(f"{tenant}-{task}")
    if folder.exists():
        raise click.ClickException(f"{folder} is there already; name a new folder.")
    console, settings = Console(highlight=False, stderr=True), settings_of(state_dir)
    request = serving_pb2.ExportRequest(tenant=tenant, task=task)
    with console.status("Serving writes the export"):
        response = call_service(
            "Serving",
            target,
            settings.address("GYRE_SERVING_GRPC_PORT"),
            lambda to: serving_pb2_grpc.ServingStub(to).Export(request, timeout=_RPC_SECONDS),
        )
    source = (artifacts_dir or settings.artifacts_dir) / response.directory
    candidate_id = source.name
    try:
        proof = proof_of(candidate_id, audit_target, state_dir)
        unproven = ", ".join(f"{place} is not signed yet" for place in Proof.parse(proof.encode()).unsigned)
    except click.ClickException as error:
        proof, unproven = "", error.message
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (
            console.status(f"Copying to {folder}"),
            tempfile.TemporaryDirectory(prefix=".export-", dir=folder.parent) as scratch,
        ):
            made = shutil.copytree(source, Path(scratch) / "made")
            if proof:
                (made / exports.PROOF).write_text(f"{proof}\n")
                exports.write_checksums(made, exports.PROOF)
            made.rename(folder)
    except OSError as error:
        raise click.ClickException(f"The export in {source} cannot be copied: {error}") from error
    size = sum((folder / name).stat().st_size for name in exports.files_of(folder))
    click.echo(f"Wrote candidate {candidate_id} to {folder}, {size / 1e9:.2f} GB.")
    if unproven:
        click.echo(f"Not all of it is proven to be on record: {unproven}", err=True)
    click.echo(f"Begin with {folder / exports.CARD}; check it with: gyre export verify {folder}")


@export.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A public key that signatures are believed of, or a file with one in each line. May be given again.",
)
def verify(folder: Path, keys: Sequence[str]) -> None:
    """Check an export, without asking any server.

    Every file is there and as it was exported, the records agree with one another and with the model card, the merged
    weights are what base and adapter add up to. With --key also: the records are in the record that was signed with it.
    Everything that is wrong is named, and the exit code is then 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from gyre.exports import bytes_of
    from gyre.exports import verify as check

    believed = verifying_keys(keys)
    console = Console(highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("Verifying", total=bytes_of(folder))
            findings = check(folder, believed, lambda count: bar.advance(task, count))
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be read: {error.strerror}") from error
    for each in findings:
        console.print(f"[red]{each.name}[/]: {each.problem}", soft_wrap=True)
    if findings:
        raise SystemExit(1)
    click.echo(f"{folder} is whole, as it was exported, and its parts agree.")
    if believed:
        click.echo("What the gate found and what went live are on record, as signed.")
    else:
        click.echo("Whether its records are on record was not looked at: give --key.")
