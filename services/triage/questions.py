"""Questions to the record that pages are made of: as SQL that a page shows to the letter, asked once a minute at most.

Nothing that a reader sends becomes part of it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.runtime.clock import Clock
from services.triage.ports import Record

# A page that takes longer is of no use to who waits for it.
PATIENCE_SECONDS = 15.0
# So long an answer serves whoever asks the same: analysts ask as the same user, whose questions an hour are numbered.
KEPT_SECONDS = 60.0


@dataclass(frozen=True)
class Span:
    """How far back a page looks, and in which steps.

    Attributes:
        name: In addresses.
        title: For people.
        step_seconds: What one column of a chart stands for.
        steps: How many there are, the one that is not over yet included.
        form: Of a step's time, for `strftime`.
    """

    name: str
    title: str
    step_seconds: int
    steps: int
    form: str

    def beginnings(self, now: datetime) -> list[datetime]:
        """Return when each step begins, oldest first."""
        last = int(now.timestamp()) // self.step_seconds
        return [datetime.fromtimestamp((last - back) * self.step_seconds, UTC) for back in reversed(range(self.steps))]


SPANS = {
    span.name: span
    for span in (
        Span("day", "24 hours", 3600, 24, "%H:%M"),
        Span("week", "7 days", 24 * 3600, 7, "%a %d"),
        Span("month", "30 days", 24 * 3600, 30, "%d %b"),
    )
}


@dataclass(frozen=True)
class Query:
    """A question to the record.

    Attributes:
        name: In addresses.
        title: What it asks, for people.
        sql: In which `{since}` and `{until}` stand for the span's beginning and end, `{step}` for a step's seconds.
    """

    name: str
    title: str
    sql: str

    def statement(self, span: Span, now: datetime) -> str:
        """Return the SQL of a span, the same until its last step is over."""
        beginnings = span.beginnings(now)
        since, until = _time(beginnings[0]), _time(beginnings[-1] + timedelta(seconds=span.step_seconds))
        return self.sql.format(since=since, until=until, step=span.step_seconds)


def _time(at: datetime) -> str:
    return f"toDateTime('{at:%Y-%m-%d %H:%M:%S}', 'UTC')"


Row = Mapping[str, Any]


class Recent:
    """A record whose answers are kept for a minute."""

    def __init__(self, record: Record, clock: Clock) -> None:
        self._record = record
        self._clock = clock
        self._kept: dict[str, tuple[float, list[dict[str, Any]]]] = {}

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a query, as they are now or were less than a minute ago.

        Raises:
            Retryable: The record cannot be read now.
            Rejected: The query was refused.
        """
        now = self._clock.monotonic()
        self._kept = {asked: kept for asked, kept in self._kept.items() if now - kept[0] < KEPT_SECONDS}
        if statement in self._kept:
            return self._kept[statement][1]
        rows = await self._record.rows(statement)
        self._kept[statement] = now, rows
        return rows


async def answers(record: Record, queries: Mapping[str, Query], span: Span, now: datetime) -> dict[str, list[Row]]:
    """Ask several questions at once, and return the rows of each by its name.

    Raises:
        Retryable: The record cannot be read now.
        Rejected: A query was refused.
        TimeoutError: It took too long.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        found = await asyncio.gather(*(record.rows(query.statement(span, now)) for query in queries.values()))
    return {name: [*rows] for name, rows in zip(queries, found, strict=True)}


def count(value: Any) -> str:
    """Return how a count is written."""
    return f"{int(value):,}"


def amount(value: Any) -> str:
    """Return how an amount of money is written, to three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell(value: Any) -> str:
    """Return how a value of a query's answer is written."""
    match value:
        case None:
            return "null"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case datetime():
            return f"{utc(value):%Y-%m-%d %H:%M:%S}"
        case list() | tuple():
            return ", ".join(map(cell, value))
    return str(value)


def utc(value: datetime) -> datetime:
    """Return a time of the record with its zone."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
