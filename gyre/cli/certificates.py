"""`gyre certificates`."""

from __future__ import annotations

from pathlib import Path

import click


def _named(_ctx: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, list[str]]:
    from gyre.certificates import IDENTITIES

    found: dict[str, list[str]] = {}
    for each in given:
        identity, _, name = each.partition("=")
        if identity not in IDENTITIES or not name:
            raise click.BadParameter(f"{each!r}: wanted IDENTITY=NAME, of {', '.join(IDENTITIES)}")
        found.setdefault(identity, []).append(name)
    return found


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--days", type=click.IntRange(1, 825), default=90, show_default=True, help="How long each is good for.")
@click.option(
    "--domain",
    "domains",
    multiple=True,
    help="A domain in which they are hosts: gyre.svc makes the router router.gyre.svc too. May be given again.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    callback=_named,
    metavar="IDENTITY=NAME",
    help="A further name or address, such as router=gyre.example.org. May be given again.",
)
def certificates(folder: Path, days: int, domains: tuple[str, ...], names: dict[str, list[str]]) -> None:
    """Make a CA for development in DIR, and a certificate for everyone who asks or is asked.

    Each has a folder below DIR with tls.crt, tls.key and ca.crt, which GYRE_TLS_DIR names. Run again, it keeps the CA,
    adds names, and renews what has less than a third of its time left; services take up what is new by themselves.

    In production let a CA of your own issue them, such as cert-manager: the same files, the same names.
    """
    from rich.console import Console
    from rich.table import Table

    from gyre.certificates import CA_CERTIFICATE, CA_KEY, IDENTITIES, THIS_MACHINE, authority, issue, names_of, utc_now

    now = utc_now()
    try:
        wanted = {identity: names_of(identity, domains, names) for identity in IDENTITIES}
        ca = authority(folder, now)
        issued = [issue(folder, ca, identity, wanted[identity], days, now) for identity in IDENTITIES]
    except ValueError as error:
        raise click.ClickException(f"{error}.") from error
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be used: {error.strerror}.") from error
    table = Table(box=None, pad_edge=False)
    for column in ("whose", "", "ends", "names, beside those of this machine"):
        table.add_column(column, overflow="fold")
    for each in issued:
        shown = ", ".join(name for name in each.names if name not in THIS_MACHINE)
        table.add_row(each.identity, each.what, f"{each.expires:%Y-%m-%d}", shown)
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    first = min(each.expires - (each.expires - now) / 3 for each in issued)
    console.print(
        f"""
The CA ({"made" if ca.is_new else "kept"}) is good until {ca.certificate.not_valid_after_utc:%Y-%m-%d}. Whoever has \
{folder / CA_KEY} can be anybody: keep it apart from the rest.

Services     each is started with its own folder: GYRE_TLS_DIR={folder / "router"} for the router, and so on
Applications believe {folder / CA_CERTIFICATE}
This command asks services as operator with: export GYRE_TLS_DIR={folder / "operator"}
Run it again by {first:%Y-%m-%d}, and then as often.""",
        markup=False,
    )
