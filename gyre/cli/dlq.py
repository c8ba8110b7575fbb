"""`gyre dlq`: the records that a service gave up on."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from schemas.topics import SPECS, Topic

if TYPE_CHECKING:
    from rich.table import Table

    from gyre.cli.dead_letters import Summary

_WIDE_COLUMNS = 240
_HEX_BYTES = 1024


def _topic(_context: click.Context, _parameter: click.Parameter, value: str | None) -> Topic | None:
    if value is None:
        return None
    try:
        return Topic(value.removesuffix(".dead-letters"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is none of {', '.join(Topic)}") from None


@click.group()
def dlq() -> None:
    """Look at the records that a service gave up on, and send them back.

    Each topic has a dead-letter topic beside it. A letter holds the record as it was, who gave up on it, and why. Name
    either topic; OFFSET is the letter's own, as `gyre dlq list --topic` shows it. Kafka is where
    GYRE_KAFKA_BOOTSTRAP_SERVERS says.
    """


@dlq.command("list")
@click.option("--topic", callback=_topic, metavar="TOPIC", help="Show the letters of one topic, one by one.")
def list_(topic: Topic | None) -> None:
    """Show how many letters there are, of whom, and why the latest came."""
    # Here, so that help is quick.
    from rich.console import Console

    from gyre.cli.dead_letters import ask_kafka, summaries

    found = ask_kafka(summaries([topic] if topic else list(Topic)))
    # Piped, there is no width to keep to.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE_COLUMNS)
    if not any(found.values()):
        console.print(f"There are no dead letters{f' of {topic}' if topic else ''}.")
    else:
        console.print(_letters_table(found[topic]) if topic else _topics_table(found))


@dlq.command()
@click.argument("topic", callback=_topic)
@click.argument("offset", type=click.IntRange(min=0))
def show(topic: Topic, offset: int) -> None:
    """Show one letter whole: where its record was, who gave up on it and why, and what it holds.

    An event is shown as JSON, other bytes as text or in hexadecimal. What people wrote is part of it.
    """
    from gyre.cli.dead_letters import ask_kafka, summaries, value

    found = _letter(topic, ask_kafka(summaries([topic]))[topic], offset)
    content, letter = ask_kafka(value(topic, offset)), found.letter
    for name, text in (
        ("letter", f"{topic.dead_letters}, offset {offset}, {_state(found)}"),
        ("record", f"{letter.topic}, partition {letter.partition}, offset {letter.offset}"),
        ("given up by", f"{letter.hop}, at {_time(letter.failed_at)}"),
        ("reason", letter.reason),
        ("key", readable(letter.key)),
        ("value", f"{len(content)} bytes"),
        *([("replay", found.replay)] if found.replay else []),
    ):
        click.echo(f"{name:<13}{text}")
    click.echo(payload(topic, content))


@dlq.command()
@click.argument("topic", callback=_topic)
@click.argument("offsets", nargs=-1, type=click.IntRange(min=0), metavar="[OFFSET]...")
@click.option("--all", "everything", is_flag=True, help="All that wait and can be decoded.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def replay(topic: Topic, offsets: tuple[int, ...], everything: bool, yes: bool) -> None:
    """Send records back to their topic, with the key and the bytes that they had.

    Every service that reads the topic reads them, not only the one that gave up: first mend what made it give up. A
    letter is replayed once; a record that fails again makes a new letter.
    """
    from gyre.cli import dead_letters

    if everything == bool(offsets):
        raise click.UsageError("Name the offsets of letters, or --all.")
    found = dead_letters.ask_kafka(dead_letters.summaries([topic]))[topic]
    if everything:
        waiting = [each for each in found if each.replayed_at is None]
        chosen = {each.offset for each in waiting if not each.undecodable}
        if left := [each for each in waiting if each.undecodable]:
            click.echo(f"Staying: {_count(left)} of records that no service could read ({left[0].undecodable}).")
    else:
        chosen = {_replayable(_letter(topic, found, offset)).offset for offset in offsets}
    if not chosen:
        click.echo("There is nothing to replay.")
        return
    if not yes:
        if SPECS[topic].compacted:
            click.echo(f"{topic} holds state: what is replayed takes the place of what has come since, key by key.")
        click.confirm(f"Send the records of {_count(chosen)} back to {topic}, for all who read it?", abort=True)
    sent = dead_letters.ask_kafka(dead_letters.replay(topic, chosen))
    click.echo(f"Sent {sent} of {len(chosen)} back to {topic}.")


def _letter(topic: Topic, found: Iterable[Summary], offset: int) -> Summary:
    for each in found:
        if each.offset == offset:
            return each
    raise click.ClickException(
        f"{topic.dead_letters} has no letter at offset {offset}; see which it has: gyre dlq list --topic {topic}"
    )


def _replayable(found: Summary) -> Summary:
    if found.replayed_at is not None:
        raise click.ClickException(
            f"The letter at offset {found.offset} was replayed at {_time(found.replayed_at)} and is not sent twice; if "
            "its record failed again, there is a new letter."
        )
    if found.undecodable:
        raise click.ClickException(
            f"The record of the letter at offset {found.offset} is none that a service could read, and would only come "
            f"back: {found.undecodable}"
        )
    return found


def _letters_table(found: Iterable[Summary]) -> Table:
    table = _table("Offset", "State", "Given up at", "By", "Partition", "Record", "Key", "Reason")
    for each in found:
        letter = each.letter
        where = (letter.partition, letter.offset, readable(letter.key))
        _add(table, each.offset, _state(each), _time(letter.failed_at), letter.hop, *where, letter.reason)
    return table


def _topics_table(by_topic: Mapping[Topic, list[Summary]]) -> Table:
    table = _table("Topic", "Waiting", "Replayed", "Given up by", "Latest", "Its reason")
    for topic, found in by_topic.items():
        if found:
            waiting = sum(each.replayed_at is None for each in found)
            hops = ", ".join(sorted({each.letter.hop for each in found}))
            latest = found[-1].letter
            _add(table, topic, waiting, len(found) - waiting, hops, _time(latest.failed_at), latest.reason)
    return table


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column != columns[-1])
    return table


def _add(table: Table, *cells: object) -> None:
    from rich.text import Text

    # What comes from a record is no markup, and no more than a line.
    table.add_row(*(Text(" ".join(str(cell).split())) for cell in cells))


def _state(found: Summary) -> str:
    if found.replayed_at is not None:
        return f"replayed {_time(found.replayed_at)}"
    return "unreadable" if found.undecodable else "waiting"


def _count(letters: Iterable[object]) -> str:
    number = len(list(letters))
    return "1 letter" if number == 1 else f"{number} letters"


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def readable(data: bytes) -> str:
    """Return bytes as text if they are nothing else, or the first of them in hexadecimal."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = "\0"
    if all(each.isprintable() or each in "\n\t" for each in text):
        return text
    more = len(data) - _HEX_BYTES
    return data[:_HEX_BYTES].hex(" ") + (f" and {more} bytes more" if more > 0 else "")


def payload(topic: Topic, value: bytes) -> str:
    """Return an event as JSON, and other bytes as `readable` has them."""
    import msgspec

    from schemas.codecs import UndecodableError, codec

    try:
        event = codec(topic).decode(value)
    except UndecodableError:
        return readable(value)
    return msgspec.json.format(msgspec.json.encode(event), indent=2).decode()
