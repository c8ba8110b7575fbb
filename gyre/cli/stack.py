"""What the commands about the stack have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import Console

    from embedded.settings import Settings
    from services.runtime.settings import ClickHouseSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])
_T = TypeVar("_T")


def state_dir_option(command: _Command) -> _Command:
    """Give a command `--state-dir`, which goes before GYRE_STATE_DIR."""
    return click.option(
        "--state-dir",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="GYRE_STATE_DIR",
        default=".state",
        show_default=True,
        show_envvar=True,
        help="The folder with everything that the stack stores.",
    )(command)


def clickhouse_options(command: _Command) -> _Command:
    """Give a command `--url` and `--user`, of ClickHouse."""
    url = click.option(
        "--url", envvar="GYRE_CLICKHOUSE_URL", show_envvar=True, help="Of ClickHouse; this machine's if not told."
    )
    user = click.option("--user", envvar="GYRE_CLICKHOUSE_USER", default="audit", show_default=True, show_envvar=True)
    return url(user(command))


def clickhouse_settings(settings: Settings, url: str | None, user: str) -> ClickHouseSettings:
    """Return where ClickHouse is and who asks it; with GYRE_CLICKHOUSE_PASSWORD, or as in this machine's stack."""
    from pydantic import SecretStr

    from embedded.environment import clickhouse_password
    from services.runtime.settings import ClickHouseSettings

    told = ClickHouseSettings(url=url or f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}", user=user)
    if url or told.password.get_secret_value():
        return told
    return told.model_copy(update={"password": SecretStr(clickhouse_password(settings, user))})


def settings_of(state_dir: Path) -> Settings:
    """Return the settings of the stack whose state is in a folder."""
    from embedded.settings import Settings

    return Settings.from_environment({**os.environ, "GYRE_STATE_DIR": str(state_dir)})


def call_service(name: str, target: str | None, here: str, call: Callable[[Any], Awaitable[_T]]) -> _T:
    """Call a service over a channel to its address, and return what it answers.

    Args:
        name: Of the service, for messages.
        target: Where it was said to be, which is asked by TLS if GYRE_TLS_DIR says so.
        here: Where it is on this machine, which is asked if nothing was said.
        call: Asks over the channel.

    Raises:
        click.ClickException: It does not answer, or refuses.
    """
    from grpc import StatusCode
    from grpc.aio import AioRpcError

    from services.runtime.errors import Fatal
    from services.runtime.rpc import channel
    from services.runtime.settings import TlsSettings
    from services.runtime.tls import tls_of

    at = target or here
    try:
        tls = tls_of(TlsSettings()) if target else None
    except Fatal as error:
        raise click.ClickException(f"{error}.") from error

    async def ask() -> _T:
        async with channel(at, tls) as to:
            return await call(to)

    try:
        return asyncio.run(ask())
    except AioRpcError as error:
        if error.code() is StatusCode.UNAVAILABLE:
            how = "by TLS" if tls else "in the clear"
            raise click.ClickException(
                f"{name} at {at} does not answer {how}; start it (gyre up), or say where it is "
                f"(GYRE_{name.upper()}_TARGET) and who asks (GYRE_TLS_DIR)."
            ) from error
        raise click.ClickException(error.details() or error.code().name) from error


def show_addresses(console: Console, settings: Settings) -> None:
    """Print where a person goes from here, to be pasted."""
    from embedded.environment import console_password_file, person

    router = settings.address("GYRE_ROUTER_HTTP_PORT")
    clickhouse = settings.address("GYRE_EMBEDDED_CLICKHOUSE_PORT")
    password_file = settings.run_dir / "secrets" / "clickhouse-analyst"
    console.print(
        f"""
[bold]Decide who may ask what[/] (once, and whenever you change it)
  gyre policy push deploy/bundle

[bold]Ask[/] (KEY is an application's in that bundle)
  curl http://{router}/v1/models -H "Authorization: Bearer $KEY"

[bold]See what experts are asked[/], as {person()}; others are let in by gyre experts add
  http://{settings.address("GYRE_TRIAGE_CONSOLE_PORT")}
  cat '{console_password_file(settings)}'

[bold]Query the record[/], as a user who may only read
  curl "http://{clickhouse}/?query=SHOW+TABLES+FROM+gyre" --user "analyst:$(cat '{password_file}')"

[dim]How it is: gyre status     What it logs: gyre logs     Stop it: gyre down[/]"""
    )
