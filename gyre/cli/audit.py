"""`gyre audit`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gyre.cli.stack import call_service, clickhouse_options, clickhouse_settings, settings_of, state_dir_option
from gyre.cli.who import account

if TYPE_CHECKING:
    from gyre.auditor.verify import Finding
    from schemas.ledger.notes import VerifyingKey

_T = TypeVar("_T")
_RPC_SECONDS = 30.0
_ERASE_SECONDS = 300.0

_keys = click.option(
    "--key",
    "keys",
    multiple=True,
    required=True,
    metavar="KEY",
    help="A public key that signatures are believed of, or a file with one in each line. May be given again.",
)
_target = click.option(
    "--target",
    envvar="GYRE_AUDIT_TARGET",
    show_envvar=True,
    help="host:port of audit; this machine's stack if not told.",
)


@click.group()
def audit() -> None:
    """Prove, verify and erase what is on record.

    \b
    An auditor, anywhere, with an export and the public key:
      gyre audit verify DIR --key KEY
    An operator, where the stack runs:
      gyre audit key                  the public key to give away
      gyre audit export DIR           the record, in files
      gyre audit prove ID             that one request is on record, or one candidate
    """  # noqa: D301 - the backspace itself is what tells click to keep the lines


@audit.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@_keys
@click.option(
    "--checkpoints",
    "kept",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Checkpoints that were kept elsewhere (GYRE_AUDIT_CHECKPOINTS_FILE): what was cut off after one shows.",
)
def verify(path: Path, keys: Sequence[str], kept: Sequence[Path]) -> None:
    """Check an export, or a proof, with public keys alone.

    PATH is a folder that `gyre audit export` wrote, or a file that `gyre audit prove` did. Nothing is asked of any
    server. With anything that is not as it was recorded and signed, the exit code is 1, and the first bad place of each
    chain is named.
    """
    believed = verifying_keys(keys)
    if path.is_dir():
        _verify_export(path, believed, kept)
    else:
        _verify_proof(path, believed)


@audit.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR")
@clickhouse_options
@state_dir_option
def export(folder: Path, url: str | None, user: str, state_dir: Path) -> None:
    """Write the record into DIR, as far as it is signed.

    ClickHouse's password is read from GYRE_CLICKHOUSE_PASSWORD, or taken from this machine's stack.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from gyre.auditor.export import ExportError
    from gyre.auditor.export import export as write

    clickhouse = clickhouse_settings(settings_of(state_dir), url, user)
    console = Console(highlight=False)
    rows = unsigned = 0
    try:
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True) as bar:
            task = bar.add_task("Asking ClickHouse")
            for each in write(
                folder,
                clickhouse.url,
                clickhouse.user,
                clickhouse.password.get_secret_value(),
                lambda chain, count: bar.update(task, description=f"{chain}: {count:,} rows"),
                clickhouse.ca,
            ):
                rows, unsigned = rows + each.rows, unsigned + each.unsigned
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    left = f" {unsigned:,} rows are not signed yet and were left out." if unsigned else ""
    console.print(f"Wrote {rows:,} rows to {folder}.{left}", soft_wrap=True)


@audit.command()
@click.argument("proven_id", metavar="ID")
@_target
@state_dir_option
def prove(proven_id: str, target: str | None, state_dir: Path) -> None:
    """Print the proof that a request is on record, or a candidate with its deployments, as JSON.

    It holds their records, their places in the tree, and signed checkpoints: `gyre audit verify` checks it.
    """
    click.echo(proof_of(proven_id, target, state_dir))


@audit.command()
@click.argument("traced_id", metavar="ID")
@_target
@state_dir_option
def trace(traced_id: str, target: str | None, state_dir: Path) -> None:
    """Show what a request led to, and where its answer came from.

    ID may also be a label's: then the newest answers are shown by specialists that learned from it.
    """
    from rich.console import Console
    from rich.table import Table

    from gyre.api.audit.v1 import audit_pb2

    response = _ask(
        target, state_dir, lambda stub: stub.Trace(audit_pb2.TraceRequest(id=traced_id), timeout=_RPC_SECONDS)
    )
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("At (UTC)", "Direction", "Kind", "Id", "What"):
        table.add_column(column, overflow="fold")
    for step in response.steps:
        at = f"{step.at.ToDatetime():%Y-%m-%d %H:%M:%S}"
        table.add_row(at, step.direction, step.kind, step.id, step.summary)
    Console(highlight=False, markup=False).print(table)


@audit.command()
@click.argument("tenant")
@click.argument("subject")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_target
@state_dir_option
def erase(tenant: str, subject: str, yes: bool, target: str | None, state_dir: Path) -> None:
    """Take what is on record of a person out of every store.

    SUBJECT is what TENANT's applications say in `user`. The record stays verifiable, and says that something was
    erased, but not what. Kafka's topics hold it until their retention is over (docs/record.md).
    """
    from gyre.api.audit.v1 import audit_pb2

    if not yes:
        click.confirm(f"Erase everything on record of {subject} of {tenant}? It cannot be undone.", abort=True)
    request = audit_pb2.EraseRequest(tenant=tenant, subject=subject, asked_by=account())
    response = _ask(target, state_dir, lambda stub: stub.Erase(request, timeout=_ERASE_SECONDS))
    click.echo(f"Erased {response.rows:,} rows of {response.requests:,} requests (erasure {response.erasure_id}).")
    if response.candidate_ids:
        click.echo("These specialists learned from them, or were measured by them, and want to be made anew:")
        for candidate_id in response.candidate_ids:
            click.echo(f"  {candidate_id}")


@audit.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--name", default="gyre-audit", show_default=True, help="What signatures are known by.")
def keygen(path: Path, name: str) -> None:
    """Make a key to sign checkpoints with.

    The private key is written to FILE, readable for you alone; give it to audit in GYRE_AUDIT_SIGNING_KEYS. The public
    one, which auditors need, is printed.
    """
    from schemas.ledger.notes import InvalidKeyError, SigningKey

    try:
        key = SigningKey.generate(name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except InvalidKeyError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error
    except OSError as error:
        raise click.ClickException(f"{path} cannot be made: {error.strerror}") from error
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{key.secret()}\n")
    click.echo(str(key.verifying))


@audit.command("key")
@state_dir_option
def show_key(state_dir: Path) -> None:
    """Print the public keys that audit signs with: this machine's, or those of GYRE_AUDIT_SIGNING_KEYS."""
    from embedded.environment import audit_signing_keys
    from schemas.ledger.notes import InvalidKeyError, SigningKey

    try:
        for text in (os.environ.get("GYRE_AUDIT_SIGNING_KEYS") or audit_signing_keys(settings_of(state_dir))).split():
            click.echo(str(SigningKey.parse(text).verifying))
    except InvalidKeyError as error:
        raise click.ClickException(f"GYRE_AUDIT_SIGNING_KEYS: {error}") from error


def proof_of(proven_id: str, target: str | None, state_dir: Path) -> str:
    """Return the proof that a request or candidate is on record, as JSON.

    Raises:
        click.ClickException: It is not, or not signed yet, or audit does not answer.
    """
    from gyre.api.audit.v1 import audit_pb2

    request = audit_pb2.ProveRequest(request_id=proven_id)
    return str(_ask(target, state_dir, lambda stub: stub.Prove(request, timeout=_RPC_SECONDS)).proof_json)


def _ask(target: str | None, state_dir: Path, call: Callable[[Any], Awaitable[_T]]) -> _T:
    from gyre.api.audit.v1 import audit_pb2_grpc

    here = settings_of(state_dir).address("GYRE_AUDIT_GRPC_PORT")
    return call_service("Audit", target, here, lambda to: call(audit_pb2_grpc.AuditStub(to)))


def verifying_keys(given: Sequence[str]) -> list[VerifyingKey]:
    """Return the public keys that an option gives, or files that it names.

    Raises:
        click.BadParameter: One is none.
    """
    from schemas.ledger.notes import InvalidKeyError, VerifyingKey

    try:
        texts = [
            line for each in given for line in (Path(each).read_text().split() if Path(each).is_file() else [each])
        ]
        return [VerifyingKey.parse(text) for text in texts]
    except (InvalidKeyError, OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), param_hint="--key") from error


def _verify_export(folder: Path, keys: Sequence[VerifyingKey], kept: Sequence[Path]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from gyre.auditor.verify import bytes_of
    from gyre.auditor.verify import verify as check

    console = Console(highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Verifying", total=bytes_of(folder))
        findings = list(check(folder, keys, kept, lambda count: bar.advance(task, count)))
    if not findings:
        raise click.ClickException(
            f"{folder} holds no export: wanted <topic>/<partition>.arrows and .checkpoints in it."
        )
    console.print(_table(findings))
    bad = [each for each in findings if each.bad]
    for each in bad:
        where = "" if each.bad is None or each.bad.offset is None else f" at offset {each.bad.offset}"
        console.print(f"\n[red]{each.chain}[/]{where}: {each.bad and each.bad.reason}", soft_wrap=True)
    if bad:
        raise SystemExit(1)
    console.print(f"\nAll {sum(each.rows for each in findings):,} rows are as they were recorded and signed.")
    if not kept:
        console.print("Rows cut off together with their checkpoints would not show: give --checkpoints that were kept.")


def _table(findings: Sequence[Finding]) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in ("Chain", "Rows", "Erased", "Signed until (UTC)", ""):
        table.add_column(column, justify="right" if column in ("Rows", "Erased") else "left", no_wrap=True)
    for each in findings:
        signed = f"{each.signed.signed_at:%Y-%m-%d %H:%M:%S}" if each.signed else ""
        said = "[red]bad[/]" if each.bad else "[green]whole[/]"
        table.add_row(each.chain, f"{each.rows:,}", f"{each.erased:,}" if each.erased else "", signed, said)
    return table


def _verify_proof(path: Path, keys: Sequence[VerifyingKey]) -> None:
    from gyre.auditor.proof import check
    from schemas.ledger.merkle import InvalidProofError
    from schemas.ledger.notes import InvalidNoteError
    from schemas.ledger.proofs import Proof

    try:
        proof = Proof.parse(path.read_bytes())
        click.echo(f"Of {proof.request_id}:")
        for row, signed_at in check(proof, keys):
            content = "its content was erased" if row.is_erased else "with this content"
            at = f"first signed {signed_at:%Y-%m-%d %H:%M:%S} UTC"
            click.echo(f"  {row.topic}/{row.partition} at offset {row.offset}: on record, {content}, {at}")
    except (InvalidProofError, InvalidNoteError, OSError) as error:
        raise click.ClickException(str(error)) from error
    for place in proof.unsigned:
        click.echo(f"  {place}: on record, and not signed yet, so not proven")
    if not proof.rows:
        raise SystemExit(1)
