"""The flywheel at a glance: what is asked of the record for it, and what a page shows of the answers.

The SQL that a page shows is the SQL that was run, to the letter: nothing that a reader sends becomes part of it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from services.runtime.clock import Clock
from services.triage.charts import Chart, Series, columns
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


QUERIES = {
    query.name: query
    for query in (
        Query(
            "totals",
            "The numbers of the overview",
            """SELECT
    sum(minutes.requests) AS requests,
    sumIf(minutes.requests, tier = 'specialist') AS by_specialists,
    sum(minutes.refused) AS refused,
    sum(minutes.failed) AS failed,
    sum(minutes.cost) AS cost,
    sumIf(generic_price - expected_price, tier = 'specialist') AS saved,
    (SELECT uniqExact(request_id) FROM gyre.edge_cases
        WHERE NOT imported AND flagged_at >= {since} AND flagged_at < {until}) AS edge_cases,
    (SELECT uniqExact(request_id) FROM gyre.judgements
        WHERE labelled_at >= {since} AND labelled_at < {until}) AS labels,
    (SELECT count() FROM gyre.gates WHERE live_at >= {since} AND live_at < {until}) AS gone_live,
    (SELECT count() FROM gyre.incidents WHERE kind = 'drift' AND at >= {since} AND at < {until}) AS drift,
    (SELECT count() FROM gyre.incidents WHERE kind != 'drift' AND at >= {since} AND at < {until}) AS incidents
FROM gyre.minutes AS minutes
WHERE minute >= {since} AND minute < {until}""",
        ),
        Query(
            "traffic",
            "Requests, and who answered them",
            """SELECT
    toDateTime(intDiv(toUnixTimestamp(minute), {step}) * {step}, 'UTC') AS at,
    sumIf(minutes.requests, tier = 'specialist') AS specialists,
    sumIf(minutes.requests, tier NOT IN ('specialist', '')) AS generic_models,
    sumIf(minutes.requests, tier = '') AS unanswered
FROM gyre.minutes AS minutes
WHERE minute >= {since} AND minute < {until}
GROUP BY at
ORDER BY at""",
        ),
        Query(
            "edge-cases",
            "Edge cases found, by when they were flagged",
            """SELECT
    toDateTime(intDiv(toUnixTimestamp(flagged_at), {step}) * {step}, 'UTC') AS at,
    uniqExact(request_id) AS edge_cases
FROM gyre.edge_cases
WHERE NOT imported AND flagged_at >= {since} AND flagged_at < {until}
GROUP BY at
ORDER BY at""",
        ),
        Query(
            "labels",
            "Requests labelled by experts, by when they were",
            """SELECT
    toDateTime(intDiv(toUnixTimestamp(labelled_at), {step}) * {step}, 'UTC') AS at,
    uniqExact(request_id) AS labels
FROM gyre.judgements
WHERE labelled_at >= {since} AND labelled_at < {until}
GROUP BY at
ORDER BY at""",
        ),
        Query(
            "cost",
            "What answers cost, and what the cheapest generic model would have cost more where specialists answered",
            """SELECT
    toDateTime(intDiv(toUnixTimestamp(minute), {step}) * {step}, 'UTC') AS at,
    sum(minutes.cost) AS cost,
    sumIf(generic_price - expected_price, tier = 'specialist') AS saved
FROM gyre.minutes AS minutes
WHERE minute >= {since} AND minute < {until}
GROUP BY at
ORDER BY at""",
        ),
        Query(
            "specialists",
            "Candidates that the gate decided on, and specialists that are live",
            """WITH live AS (
    SELECT argMax(candidate_id, offset) AS candidate_id
    FROM gyre.deployments
    GROUP BY task_key
    HAVING argMax(state, offset) = 'live'
)
SELECT
    tenant, task, candidate_id, candidate_id IN (SELECT candidate_id FROM live) AS is_live, decided_at, verdict,
    live_at, items, incumbent, incumbent_accuracy, candidate_accuracy, gain, gain_low, gain_high
FROM gyre.gates
WHERE decided_at >= {since} AND decided_at < {until} OR is_live
ORDER BY is_live DESC, decided_at DESC
LIMIT 50""",
        ),
        Query(
            "drift",
            "Drift that was detected",
            """SELECT at, tenant, task, subject AS model, summary
FROM gyre.incidents
WHERE kind = 'drift' AND at >= {since} AND at < {until}
ORDER BY at DESC
LIMIT 50""",
        ),
        Query(
            "incidents",
            "What else went wrong and may want a person: missed objectives, rollbacks, failures and the like",
            """SELECT at, kind, tenant, task, subject, summary
FROM gyre.incidents
WHERE kind != 'drift' AND at >= {since} AND at < {until}
ORDER BY at DESC
LIMIT 50""",
        ),
    )
}

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


@dataclass(frozen=True)
class Tile:
    """One number: what it is, how it is written, and what else there is to say of it."""

    title: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Overview:
    """What the page shows.

    Attributes:
        tiles: The numbers.
        charts: By the name of what they show.
        specialists: Rows of the query of that name; so are the others.
    """

    tiles: tuple[Tile, ...]
    charts: Mapping[str, Chart]
    specialists: Sequence[Row]
    drift: Sequence[Row]
    incidents: Sequence[Row]


async def overview(record: Record, span: Span, now: datetime) -> Overview:
    """Ask all that the page shows, at once.

    Raises:
        Retryable: The record cannot be read now.
        Rejected: A query was refused.
        TimeoutError: It took too long.
    """
    async with asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(*(record.rows(query.statement(span, now)) for query in QUERIES.values()))
    found: dict[str, list[dict[str, Any]]] = dict(zip(QUERIES, answers, strict=True))
    beginnings = span.beginnings(now)
    steps = [beginning.strftime(span.form) for beginning in beginnings]

    def series(query: str, column: str, title: str) -> Series:
        values = {_utc(row["at"]): float(row[column]) for row in found[query]}
        return Series(title, tuple(values.get(beginning, 0.0) for beginning in beginnings))

    return Overview(
        tiles=_tiles(found["totals"][0]),
        charts={
            "traffic": columns(
                steps,
                (
                    series("traffic", "specialists", "by specialists"),
                    series("traffic", "generic_models", "by generic models"),
                    series("traffic", "unanswered", "unanswered"),
                ),
                stacked=True,
            ),
            "learning": columns(
                steps, (series("edge-cases", "edge_cases", "edge cases"), series("labels", "labels", "labels"))
            ),
            "cost": columns(steps, (series("cost", "saved", "saved by specialists"), series("cost", "cost", "cost"))),
        },
        specialists=found["specialists"],
        drift=found["drift"],
        incidents=found["incidents"],
    )


def _tiles(totals: Row) -> tuple[Tile, ...]:
    requests = int(totals["requests"])

    def share(of: str) -> str:
        return f"{totals[of] / requests:.1%} of requests" if requests else ""

    return (
        Tile("requests", count(requests), f"{count(totals['refused'])} refused, {count(totals['failed'])} failed"),
        Tile("answered by specialists", count(totals["by_specialists"]), share("by_specialists")),
        Tile("edge cases", count(totals["edge_cases"]), share("edge_cases")),
        Tile("labels", count(totals["labels"])),
        Tile("specialists gone live", count(totals["gone_live"])),
        Tile("saved by specialists", amount(totals["saved"]), f"beside a cost of {amount(totals['cost'])} in all"),
        Tile("drift found", count(totals["drift"])),
        Tile("incidents", count(totals["incidents"])),
    )


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
            return f"{_utc(value):%Y-%m-%d %H:%M:%S}"
        case list() | tuple():
            return ", ".join(map(cell, value))
    return str(value)


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
