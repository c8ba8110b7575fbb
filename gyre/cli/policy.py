"""`gyre policy`."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gyre.cli.who import operator

if TYPE_CHECKING:
    from schemas.bundle import Bundle

KAFKA_SECONDS = 15.0

_folder = click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR")


@click.group()
def policy() -> None:
    """Check and publish what an operator decides: the bundle.

    A bundle is a folder with tenants.yaml, applications.yaml, models.yaml, tasks.yaml, guardrails.yaml,
    policies/*.cedar and, where there are such, upstreams.yaml and gate.yaml. It is published whole; the services take a
    new one up while they run.
    """


@policy.command()
@_folder
def check(folder: Path) -> None:
    """Say whether the bundle in DIR could be published."""
    bundle = _validated(folder)
    click.echo(f"Bundle {bundle.version} can be published.")


@policy.command()
@_folder
@click.option(
    "--cases",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    help="YAML file of cases; DIR/cases.yaml if not told.",
)
def test(folder: Path, path: Path | None) -> None:
    """Hold the bundle in DIR to your own cases.

    A case says what an application asks, or what a model answers, and what is to be decided about it:

    \b
      cards go to no model of the cloud:
        application: till
        request: Charge 4111 1111 1111 1111
        expect: {verdict: mask, found: [card], cleared: [specialist]}

    It may also name a task, and as knowledge the sensitivity of what context would add. What may be expected: verdict,
    found, text, sensitivity, cleared, policies. With any case decided otherwise, the exit code is 1.
    """  # noqa: D301 - the backspace itself is what tells click to keep the lines
    from schemas.bundle import InvalidBundleError
    from services.governance.cases import differences, load_cases
    from services.governance.handlers import Rules
    from services.governance.settings import Settings
    from services.runtime.embeddings import space_of
    from services.runtime.errors import Fatal

    bundle = _validated(folder)
    try:
        cases = load_cases(path or folder / "cases.yaml")
        rules = Rules(bundle.version, bundle, space_of(Settings().models_dir))
    except (InvalidBundleError, Fatal) as error:
        raise click.ClickException(f"The cases cannot be tried: {error}") from error
    failed = 0
    for name, case in cases.items():
        found = differences(rules, case)
        failed += bool(found)
        click.echo(f"{click.style('✗', fg='red') if found else click.style('✓', fg='green')} {name}")
        for difference in found:
            click.echo(f"    {difference}")
    click.echo(f"{len(cases) - failed} of {len(cases)} cases are decided as expected.")
    if failed:
        raise SystemExit(1)


@policy.command()
@_folder
def push(folder: Path) -> None:
    """Publish the bundle in DIR to Kafka (GYRE_KAFKA_BOOTSTRAP_SERVERS), if it is valid."""
    click.echo(publish(folder))


def publish(folder: Path) -> str:
    """Publish the bundle in a folder, and return in a sentence what it changes.

    Raises:
        click.ClickException: It is not valid, or Kafka does not answer.
    """
    bundle = _validated(folder)
    before = asyncio.run(_publish(bundle, operator()))
    return f"Published bundle {bundle.version}: {_news(before, bundle)}."


@policy.command("hash-key")
def hash_key() -> None:
    """Print the digest of an application's key, for `key_sha256` in applications.yaml.

    The key is asked for, or read from standard input when that is not a terminal; it is never shown or kept.
    """
    key = click.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.read()
    key = key.rstrip("\r\n")
    if not key or key != key.strip():
        raise click.ClickException("The key is empty, or begins or ends with white space; give the key alone.")
    click.echo(hashlib.sha256(key.encode()).hexdigest())


def _validated(folder: Path) -> Bundle:
    # Here, so that help is quick.
    from schemas.bundle import InvalidBundleError, load_bundle
    from services.governance.handlers import Rules

    try:
        bundle = load_bundle(folder)
        Rules(bundle.version, bundle, space=None)  # what governance will make of it
    except InvalidBundleError as error:
        raise click.ClickException(f"This bundle cannot be published: {error}") from error
    return bundle


async def _publish(bundle: Bundle, published_by: str) -> Bundle | None:
    """Publish a bundle and return the one that was in force, if there was one that can still be read."""
    import logging

    from schemas.events import BundlePublished
    from schemas.topics import Topic
    from services.runtime.clock import Clock
    from services.runtime.errors import Retryable
    from services.runtime.kafka import Producer, ensure_topics
    from services.runtime.settings import KafkaSettings

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is said better below
    settings = KafkaSettings()
    try:
        async with asyncio.timeout(KAFKA_SECONDS):
            await ensure_topics(settings)
            before = await in_force()
            async with Producer(settings) as producer:
                event = BundlePublished(
                    version=bundle.version,
                    published_at=Clock().now(),
                    content=bundle.model_dump_json(),
                    published_by=published_by,
                )
                await producer.send(Topic.BUNDLES, event)
    except (Retryable, TimeoutError) as error:
        raise click.ClickException(
            f"Kafka at {settings.bootstrap_servers} does not answer, so nothing is known to be published; start it "
            "(gyre up), or say where it is (GYRE_KAFKA_BOOTSTRAP_SERVERS), and push again."
        ) from error
    return before


async def in_force() -> Bundle | None:
    """Return the bundle that was published last; None where there is none, or none that can still be read."""
    from pydantic import ValidationError

    from schemas.bundle import Bundle
    from schemas.events import BundlePublished
    from schemas.topics import Topic
    from services.runtime.kafka import Follower
    from services.runtime.settings import KafkaSettings

    published: list[BundlePublished] = []
    follower = Follower(KafkaSettings(), {Topic.BUNDLES: published.append}, name="gyre-policy")
    reading = asyncio.create_task(follower.run())
    try:
        await follower.caught_up()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    try:
        return Bundle.model_validate_json(published[-1].content) if published else None
    except ValidationError:  # of an older Gyre
        return None


def _news(before: Bundle | None, after: Bundle) -> str:
    """Return in a few words what a bundle changes."""
    if before is None:
        return "the first one"
    if before == after:
        return "the same as before"
    news = []
    for part in ("tenants", "applications", "models", "tasks", "policies"):
        old, new = getattr(before, part), getattr(after, part)
        for verb, names in (
            ("new", new.keys() - old.keys()),
            ("gone", old.keys() - new.keys()),
            ("changed", {name for name in old.keys() & new.keys() if old[name] != new[name]}),
        ):
            if names:
                news.append(f"{verb} in {part}: {', '.join(sorted(names))}")
    if before.guardrails != after.guardrails:
        news.append("other guardrails")
    return "; ".join(news)
