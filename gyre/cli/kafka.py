"""`gyre kafka`: the topics, and who may do what with them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

import click

from schemas.access import ACCESS, rules

KAFKA_SECONDS = 15.0

_T = TypeVar("_T")


@click.group()
def kafka() -> None:
    """Make the topics, and say who may do what with them.

    Kafka is where GYRE_KAFKA_BOOTSTRAP_SERVERS says; how it is asked, and as whom, GYRE_KAFKA_SECURITY_PROTOCOL,
    GYRE_KAFKA_USER, GYRE_KAFKA_PASSWORD and GYRE_KAFKA_CA_FILE.
    """


@kafka.command()
def topics() -> None:
    """Make the topics that are missing.

    Audit does so as well, when it starts; this is for who wants them before.
    """
    from services.runtime.kafka import ensure_topics
    from services.runtime.settings import KafkaSettings

    _ask(ensure_topics(KafkaSettings()))
    click.echo("Every topic is there.")


@kafka.command()
@click.option("--identity", type=click.Choice(list(ACCESS)), help="Of this one alone; of all if not told.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["commands", "strimzi"]),
    default="commands",
    show_default=True,
    help="Lines of a shell for kafka-acls.sh, or KafkaUsers for Strimzi.",
)
@click.option("--cluster", default="gyre", show_default=True, help="Kafka's name in Strimzi.")
@click.option("--apply", "is_applied", is_flag=True, help="Tell Kafka, instead of printing anything for others.")
def acls(identity: str | None, form: str, cluster: str, is_applied: bool) -> None:
    """Print what each service may do at Kafka, or let Kafka allow just that.

    The lines for kafka-acls.sh want Kafka's address in KAFKA and a file with how to sign in as an administrator in
    KAFKA_ADMIN. With --apply it is this command that signs in so, and what the identities may do beside is taken from
    them. Kafka must have an authorizer. Users and their passwords are made with kafka-configs.sh, or by Strimzi.
    """
    # Here, so that help is quick.
    from gyre.cli import acls
    from services.runtime.settings import KafkaSettings

    identities = [identity] if identity else list(ACCESS)
    if is_applied:
        changes = _ask(acls.apply(KafkaSettings(), [rule for each in identities for rule in rules(each)]))
        for word, changed in (("now may", changes.added), ("may no more", changes.removed)):
            for acl in changed:
                click.echo(f"{word}: {acls.readable(acl)}")
        if not changes.added and not changes.removed:
            click.echo("Kafka allows just that already.")
    elif form == "strimzi":
        click.echo("---\n".join(acls.strimzi_user(each, rules(each), cluster) for each in identities), nl=False)
    else:
        for each in identities:
            for line in acls.commands(rules(each)):
                click.echo(line)


def _ask(work: Coroutine[Any, Any, _T]) -> _T:
    from aiokafka.errors import KafkaError

    from gyre.cli.acls import AclsError
    from services.runtime.errors import Retryable
    from services.runtime.settings import KafkaSettings

    async def in_time() -> _T:
        async with asyncio.timeout(KAFKA_SECONDS):
            return await work

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is said better below
    try:
        return asyncio.run(in_time())
    except AclsError as error:
        raise click.ClickException(f"Kafka refuses: {error}") from error
    except Retryable as error:
        raise click.ClickException(str(error)) from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise click.ClickException(
            f"Kafka at {KafkaSettings().bootstrap_servers} does not answer ({error!r}); say where it is and who asks "
            "(GYRE_KAFKA_BOOTSTRAP_SERVERS, GYRE_KAFKA_SECURITY_PROTOCOL, GYRE_KAFKA_USER, GYRE_KAFKA_PASSWORD)."
        ) from error
