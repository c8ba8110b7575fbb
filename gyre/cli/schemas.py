"""`gyre schemas`: check, mint and push the schemas of messages and tables."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

import click

from schemas import avro, clickhouse
from schemas.topics import Topic

_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_TIMEOUT_SECONDS = 10
# What a registry answers that does not know a subject, or a version of one.
_UNKNOWN = {40401, 40402, 40403}


@click.group()
def schemas() -> None:
    """Check the schemas of messages and tables."""


@schemas.command()
def check() -> None:
    """Check the Avro schemas and the ClickHouse statements.

    Each problem is a sentence; with any, the exit code is 1.
    """
    found = [*avro.problems(), *clickhouse.problems()]
    for problem in found:
        click.echo(problem, err=True)
    if found:
        raise SystemExit(1)
    ids = sum(map(len, avro.published_ids().values()))
    click.echo(f"{ids} Avro schemas and {len(clickhouse.migrations())} files of ClickHouse statements are in order.")


@schemas.command()
def mint() -> None:
    """Give an id to every schema that has changed.

    The schema is written to schemas/avro; what is published under an id never changes again.
    """
    try:
        new = avro.mint()
    except avro.IncompatibleSchemaError as error:
        raise click.ClickException(
            f"{error}; add fields with defaults, and never rename, remove or retype one"
        ) from error
    for subject, schema_id in new:
        click.echo(f"{subject} is now id {schema_id}; commit schemas/avro/{subject}/{schema_id}.avsc and ids.json")
    if not new:
        click.echo("No event has changed.")


@schemas.command()
@click.option(
    "--url", required=True, envvar="GYRE_SCHEMA_REGISTRY_URL", help="Of the registry, e.g. http://127.0.0.1:8081."
)
def push(url: str) -> None:
    """Register the schemas in a schema registry.

    They keep their ids. Any registry that speaks Confluent's protocol will do.
    """
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter(f"{url!r} is no http:// or https:// address", param_hint="--url")
    registry = _Registry(url.rstrip("/"))
    ids = avro.published_ids()
    for topic in Topic:
        _push(registry, f"{topic}-value", topic, ids[topic])
        _push(registry, f"{topic.dead_letters}-value", avro.DEAD_LETTERS, ids[avro.DEAD_LETTERS])


def _push(registry: _Registry, subject: str, published_as: str, ids: list[int]) -> None:
    known = registry.ids(subject)
    if known != ids[: len(known)]:
        raise click.ClickException(
            f"{subject} has the ids {known} in the registry, wanted {ids}: it holds schemas of another origin. "
            "Push to a registry, or a context of one, of Gyre's own."
        )
    missing = ids[len(known) :]
    if missing:
        # Only in this mode does a registry take ids instead of giving them.
        registry.ask("PUT", f"/mode/{quote(subject, safe='')}?force=true", {"mode": "IMPORT"})
        try:
            for version, schema_id in enumerate(missing, len(known) + 1):
                schema = json.dumps(avro.published(published_as, schema_id))
                registry.ask(
                    "POST",
                    f"/subjects/{quote(subject, safe='')}/versions",
                    {"schema": schema, "id": schema_id, "version": version},
                )
        finally:
            registry.ask("PUT", f"/mode/{quote(subject, safe='')}", {"mode": "READWRITE"})
    click.echo(f"{subject}: {'registered ' + ', '.join(map(str, missing)) if missing else 'is there already'}")


class _Registry:
    def __init__(self, url: str) -> None:
        self._url = url

    def ids(self, subject: str) -> list[int]:
        """Return the ids of a subject's versions, oldest first; nothing when it is not known."""
        path = f"/subjects/{quote(subject, safe='')}/versions"
        versions = self.ask("GET", path)
        return [self.ask("GET", f"{path}/{version}")["id"] for version in versions or []]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return what the registry answers; None where it does not know what was asked for."""
        request = Request(  # noqa: S310 - http and https alone get here
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": _MEDIA_TYPE, "Accept": _MEDIA_TYPE},
        )
        try:
            with urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - as above
                return json.load(response)
        except HTTPError as error:
            said = _complaint(error)
            if method == "GET" and said.get("error_code") in _UNKNOWN:
                return None
            raise click.ClickException(
                f"The registry refused {method} {path} with {error.code}: {said.get('message', 'no reason given')}"
            ) from error
        except (URLError, TimeoutError, ValueError) as error:
            raise click.ClickException(
                f"No schema registry answers at {self._url} ({getattr(error, 'reason', error)}); is --url right?"
            ) from error


def _complaint(error: HTTPError) -> dict[str, Any]:
    try:
        said = json.load(error)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
