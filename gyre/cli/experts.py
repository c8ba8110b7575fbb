"""`gyre experts`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from services.triage.accounts import Accounts

FEWEST_CHARACTERS, MOST_CHARACTERS = 12, 1024
_Command = TypeVar("_Command", bound=Callable[..., Any])

_name = click.argument("name")
_role = click.option("--role", type=click.Choice(["expert", "lead", "admin"]), help="What they are there for.")
_clearance = click.option(
    "--clearance",
    type=click.Choice(["public", "internal", "confidential", "restricted"]),
    help="The highest sensitivity that they may see.",
)
_tenants = click.option(
    "--tenant", "tenants", multiple=True, metavar="NAME|all", help="Whose items they may see; may be given again."
)
_oidc = click.option("--oidc", metavar="ID", help="They sign in as this subject, or e-mail, of the identity provider.")


def _accounts_option(command: _Command) -> _Command:
    return click.option(
        "--accounts",
        "path",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="GYRE_TRIAGE_ACCOUNTS",
        default=_of_the_stack,
        show_envvar=True,
        help="The file. By default the one that `gyre up` made in its state folder.",
    )(command)


def _of_the_stack() -> Path:
    from embedded.settings import Settings

    return Settings.from_environment(os.environ).accounts_file


@click.group()
def experts() -> None:
    """Say who may judge answers, at the console and over gRPC.

    Accounts are kept in one file, which triage reads again when it changes (GYRE_TRIAGE_ACCOUNTS). It holds digests of
    passwords and tokens, and who is cleared for what: keep it like a secret.
    """


@experts.command()
@_name
@_role
@_clearance
@_tenants
@_oidc
@click.option("--token", "wants_token", is_flag=True, help="Give them a token for gRPC, and no password.")
@_accounts_option
def add(
    name: str,
    role: str | None,
    clearance: str | None,
    tenants: tuple[str, ...],
    oidc: str | None,
    wants_token: bool,
    path: Path,
) -> None:
    """Add the account NAME: by default an expert, cleared for internal.

    The password is asked for, or read from standard input when that is not a terminal.
    """
    from services.triage.accounts import hash_password, new_token

    account: dict[str, Any] = {"role": role or "expert", "clearance": clearance or "internal", **_given(tenants)}
    token = ""
    if oidc:
        account["oidc"] = oidc
    if wants_token:
        token, account["token_sha256"] = new_token()
    if not (oidc or wants_token):
        account["password"] = hash_password(_asked_password())
    with _changed(path) as content:
        if name in content:
            raise click.ClickException(
                f"There is an account {name} already; change it with: gyre experts change {name}"
            )
        content[name] = account
    _say(f"Added {name} to {path}.")
    if token:
        click.echo(token)


@experts.command()
@_name
@_role
@_clearance
@_tenants
@_oidc
@click.option("--password", "wants_password", is_flag=True, help="Give them another password; it is asked for.")
@click.option("--token", "wants_token", is_flag=True, help="Give them another token for gRPC, and print it.")
@click.option("--no-token", is_flag=True, help="Take their token for gRPC away.")
@_accounts_option
def change(
    name: str,
    role: str | None,
    clearance: str | None,
    tenants: tuple[str, ...],
    oidc: str | None,
    wants_password: bool,
    wants_token: bool,
    no_token: bool,
    path: Path,
) -> None:
    """Change the account NAME, as far as options say.

    Another role, password or identity ends its sessions; everything else holds at once.
    """
    from services.triage.accounts import hash_password, new_token

    told: dict[str, Any] = {"role": role, "clearance": clearance, "oidc": oidc, **(_given(tenants) if tenants else {})}
    token = ""
    if wants_token:
        token, told["token_sha256"] = new_token()
    if wants_password:
        told["password"] = hash_password(_asked_password())
    told = {field: value for field, value in told.items() if value is not None}
    if not told and not no_token:
        raise click.ClickException("Nothing is to be changed: say what; see gyre experts change --help")
    with _changed(path) as content:
        account = _existing(content, name, path)
        if oidc:
            account.pop("password", None)
        if wants_password and not oidc:
            account.pop("oidc", None)
        if no_token:
            account.pop("token_sha256", None)
        account.update(told)
    _say(f"Changed {name} in {path}.")
    if token:
        click.echo(token)


@experts.command()
@_name
@_accounts_option
def remove(name: str, path: Path) -> None:
    """Remove the account NAME: its sessions end, its token opens nothing. What it did stays on record."""
    with _changed(path) as content:
        _existing(content, name, path)
        del content[name]
    _say(f"Removed {name} from {path}.")


@experts.command("list")
@_accounts_option
def list_(path: Path) -> None:
    """Show the accounts, without any secret."""
    from services.triage.accounts import InvalidAccountsError, load_accounts

    try:
        accounts: Accounts = load_accounts(path)
    except InvalidAccountsError as error:
        raise click.ClickException(str(error)) from error
    for name, account in sorted(accounts.root.items()):
        tenants = "all tenants" if account.tenants is None else ", ".join(sorted(account.tenants))
        ways = [f"oidc {account.oidc}"] if account.oidc else ["password"] if account.password else []
        ways += ["token"] if account.token_sha256 else []
        click.echo(f"{name:<24}{account.role:<8}{account.clearance:<14}{tenants}   ({', '.join(ways)})")


def _given(tenants: tuple[str, ...]) -> dict[str, Any]:
    if not tenants:
        raise click.ClickException("Say whose items they may see: --tenant NAME, or --tenant all.")
    if "all" in tenants and len(tenants) > 1:
        raise click.ClickException("--tenant all stands alone.")
    return {"tenants": "all" if tenants == ("all",) else list(tenants)}


def _asked_password() -> str:
    if sys.stdin.isatty():
        password = str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))
    else:
        password = sys.stdin.read().rstrip("\r\n")
    if not FEWEST_CHARACTERS <= len(password) <= MOST_CHARACTERS:
        raise click.ClickException(
            f"The password has {len(password)} characters; wanted {FEWEST_CHARACTERS} to {MOST_CHARACTERS}."
        )
    return password


@contextmanager
def _changed(path: Path) -> Iterator[dict[str, Any]]:
    from services.triage.accounts import InvalidAccountsError, changed

    try:
        with changed(path) as content:
            yield content
    except InvalidAccountsError as error:
        raise click.ClickException(str(error)) from error


def _existing(content: dict[str, Any], name: str, path: Path) -> dict[str, Any]:
    if name not in content:
        raise click.ClickException(f"There is no account {name} in {path}; there are {', '.join(content) or 'none'}.")
    account: dict[str, Any] = content[name]
    return account


def _say(text: str) -> None:
    click.echo(text, err=True)  # standard output is for the token
