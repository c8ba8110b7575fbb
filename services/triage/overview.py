"""The flywheel at a glance: what is asked of the record for it, and what a page shows of the answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.triage.charts import Chart, Series, columns
from services.triage.ports import Record
from services.triage.questions import Query, Row, Span, amount, answers, count, utc

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
    found = await answers(record, QUERIES, span, now)
    beginnings = span.beginnings(now)
    steps = [beginning.strftime(span.form) for beginning in beginnings]

    def series(query: str, column: str, title: str) -> Series:
        values = {utc(row["at"]): float(row[column]) for row in found[query]}
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
