"""`gyre labels`: labels out into files, and in from other tools."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gyre.cli.stack import clickhouse_options, clickhouse_settings, settings_of, state_dir_option

if TYPE_CHECKING:
    from gyre.labelling.arrival import Arrival, Refused
    from gyre.labelling.form import LabelledRequest
    from gyre.labelling.record import Record
    from schemas.bundle import Bundle
    from services.runtime.settings import KafkaSettings

_KAFKA_SECONDS = 15.0
# Of what keeps all from being imported: enough to see what it is.
_SHOWN = 20

_T = TypeVar("_T")

_shape = click.option(
    "--format",
    "shape",
    type=click.Choice(["jsonl", "argilla", "label-studio"]),  # `gyre.labelling.shapes`
    default="jsonl",
    show_default=True,
    help="jsonl is Gyre's own: a request a line, with its labels. The others are lists of records, or of tasks.",
)


@click.group()
def labels() -> None:
    """Take labels out into files, and in from other tools.

    ClickHouse's password is read from GYRE_CLICKHOUSE_PASSWORD, or taken from this machine's stack.
    """


@labels.command()
@click.argument("path", type=click.Path(dir_okay=False, allow_dash=True), metavar="FILE")
@_shape
@click.option("--tenant", default="", help="Only of this tenant.")
@click.option("--task", default="", help="Only of this task.")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["provisional", "agreed", "disputed", "escalated", "adjudicated"]),
    help="Only requests whose labels come to this. May be given again.",
)
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]),
    help="Only requests of which a label was given or taken back since then; in UTC where it says no other.",
)
@clickhouse_options
@state_dir_option
def export(
    path: str,
    shape: str,
    tenant: str,
    task: str,
    states: tuple[str, ...],
    since: datetime | None,
    url: str | None,
    user: str,
    state_dir: Path,
) -> None:
    """Write labels, with the requests that they are of, to FILE (- is standard output).

    Of each request all labels that stand: not gold questions, and not what was skipped or taken back.
    """
    from gyre.labelling.form import InvalidItemError
    from gyre.labelling.record import Filters
    from gyre.labelling.shapes import SHAPES, write

    if since is not None and since.tzinfo is None:
        since = since.replace(tzinfo=UTC)
    filters = Filters(tenant, task, states, since)

    def write_file() -> tuple[int, list[str]]:
        record, left_out, written = _record(url, user, state_dir), [], 0
        with _progress("Writing requests", record.count(filters)) as advance:

            def requests() -> Iterator[LabelledRequest]:
                nonlocal written
                for request_id, item in record.requests(filters):
                    advance(1)
                    if isinstance(item, InvalidItemError):
                        left_out.append(f"request {request_id}: {item}")
                    else:
                        written += 1
                        yield item

            with click.open_file(path, "wb", atomic=path != "-") as file:
                for piece in write(SHAPES[shape], requests()):
                    file.write(piece)
        return written, left_out

    written, left_out = _explained(write_file)
    _show(left_out, len(left_out))
    left = f" {len(left_out):,} that no file can hold were left out." if left_out else ""
    click.echo(f"Wrote {written:,} requests with their labels.{left}", err=True)


@labels.command("import")
@click.argument("path", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@_shape
@click.option("--tenant", help="Of items that name none.")
@click.option("--task", help="Of items that name none.")
@click.option(
    "--sensitivity",
    type=click.Choice(["public", "internal", "confidential", "restricted"]),
    help="Of items that name none.",
)
@click.option("--skip-invalid", is_flag=True, help="Import the rest where some cannot be.")
@click.option("--dry-run", is_flag=True, help="Say what would be imported.")
@clickhouse_options
@state_dir_option
def import_(
    path: Path,
    shape: str,
    tenant: str | None,
    task: str | None,
    sensitivity: str | None,
    skip_invalid: bool,
    dry_run: bool,
    url: str | None,
    user: str,
    state_dir: Path,
) -> None:
    """Take labels in from FILE.

    All of it is checked first, and nothing is written while anything is wrong. What is on record already is left alone,
    so the same file may be imported again. Texts are taken as they are: nothing masks them. Kafka is where
    GYRE_KAFKA_BOOTSTRAP_SERVERS says.
    """
    from gyre.labelling.arrival import Customs, Refused, tell
    from gyre.labelling.shapes import SHAPES, read
    from services.runtime.clock import Clock
    from services.runtime.kafka import Producer

    defaults = {"tenant": tenant, "task": task, "sensitivity": sensitivity}
    told = {name: value for name, value in defaults.items() if value}
    bundle, record = _bundle(), _explained(lambda: _record(url, user, state_dir))
    now = Clock().now()

    def looked_at() -> Iterator[Arrival | Refused]:
        with path.open("rb") as file:
            yield from Customs(record, bundle, now).arrivals(read(SHAPES[shape], file, told))

    def check() -> tuple[_Count, list[str]]:
        count, wrong = _Count(), []
        with _progress("Checking items") as advance:
            for each in looked_at():
                advance(1)
                if isinstance(each, Refused):
                    count.refused += 1
                    wrong += [f"{path}: {each.place}: {problem}" for problem in each.problems]
                else:
                    count.add(each)
        return count, wrong

    count, wrong = _explained(check)
    _show(wrong, len(wrong) if skip_invalid else _SHOWN)
    if count.refused and not skip_invalid:
        raise click.ClickException(f"{count.refused:,} items cannot be imported, so nothing was.")
    if not dry_run and count.labels:
        # Looked at once more rather than kept: there may be many.
        arrivals = (each for each in looked_at() if not isinstance(each, Refused))

        async def write_all(kafka: KafkaSettings) -> None:
            async with Producer(kafka) as producer:
                await tell(arrivals, producer, advance)

        with _progress("Writing labels", count.labels) as advance:
            _explained(lambda: _ask_kafka(write_all))
    click.echo(count.sentence("Would import" if dry_run else "Imported"))


@dataclass
class _Count:
    """What comes of a file."""

    labels: int = 0
    requests: int = 0
    new_requests: int = 0
    known: int = 0
    settled: int = 0
    refused: int = 0

    def add(self, arrival: Arrival) -> None:
        self.labels += len(arrival.labels)
        self.requests += bool(arrival.labels)
        self.new_requests += arrival.edge_case is not None
        self.known += arrival.known
        self.settled += arrival.settled

    def sentence(self, begin: str) -> str:
        said = f"{begin} {self.labels:,} labels of {self.requests:,} requests, {self.new_requests:,} of them new here."
        if self.known:
            said += f" {self.known:,} labels are here already."
        if self.settled:
            said += f" {self.settled:,} were left out, for a lead has decided about their requests."
        if self.refused:
            said += f" {self.refused:,} items were skipped."
        return said


def _show(problems: Sequence[str], at_most: int) -> None:
    for each in problems[:at_most]:
        click.echo(each, err=True)
    if len(problems) > at_most:
        click.echo(f"... and {len(problems) - at_most:,} more", err=True)


@contextlib.contextmanager
def _progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show how far it is, on a terminal; yields what is told of each step."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda steps: bar.advance(task, steps)


def _record(url: str | None, user: str, state_dir: Path) -> Record:
    from gyre.labelling.record import Record

    return Record.at(clickhouse_settings(settings_of(state_dir), url, user))


def _bundle() -> Bundle:
    from gyre.cli.policy import in_force

    bundle = _explained(lambda: _ask_kafka(lambda _kafka: in_force()))
    if bundle is None:
        raise click.ClickException("No bundle has been published, so no task is known: gyre policy push.")
    return bundle


def _ask_kafka(work: Callable[[KafkaSettings], Awaitable[_T]]) -> _T:
    from services.runtime.kafka import ensure_topics
    from services.runtime.settings import KafkaSettings

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it would say is said better below

    async def ask() -> _T:
        kafka = KafkaSettings()
        async with asyncio.timeout(_KAFKA_SECONDS):
            await ensure_topics(kafka)
        return await work(kafka)

    return asyncio.run(ask())


def _explained(work: Callable[[], _T]) -> _T:
    """Do what asks the record or Kafka, and say in a sentence what keeps it from being done."""
    from gyre.labelling.form import InvalidItemError
    from gyre.labelling.record import RecordError
    from services.runtime.errors import Retryable
    from services.runtime.settings import KafkaSettings

    try:
        return work()
    except (RecordError, InvalidItemError) as error:
        raise click.ClickException(str(error)) from error
    except (Retryable, TimeoutError) as error:
        raise click.ClickException(
            f"Kafka at {KafkaSettings().bootstrap_servers} does not answer; start it (gyre up), or say where it is "
            "(GYRE_KAFKA_BOOTSTRAP_SERVERS), and import again: what was written is not written twice."
        ) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error
