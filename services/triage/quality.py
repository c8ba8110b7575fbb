"""How well experts judge: what is asked of the record for it, and what a page shows of the answers.

Whether experts judge worse than before is told by gold alone: what is settled otherwise, they have settled in part.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.runtime.shares import Share, chance_of_fall
from services.triage.domain.access import Person
from services.triage.domain.agreement import Agreement, Ratings, agreement
from services.triage.domain.queue import QueueName
from services.triage.ports import Record
from services.triage.questions import Query, Row, Span, answers

# A fall that chance brings less often than that is pointed out.
RARE = 0.01

QUERIES = {
    query.name: query
    for query in (
        Query(
            "experts",
            "Judgements of each expert, and the seconds that they took; latest: of the latest 50",
            """SELECT
    tenant, task, expert, count() AS labels, quantileExact(0.5)(seconds_spent) AS median_seconds,
    quantileExactIf(0.5)(seconds_spent, place <= 50) AS latest_seconds,
    if(labels > 50, quantileExactIf(0.5)(seconds_spent, place > 50), NULL) AS before_seconds
FROM (
    SELECT *, row_number() OVER (PARTITION BY tenant, task, expert ORDER BY labelled_at DESC, label_id) AS place
    FROM gyre.judgements
    WHERE kind != 'imported' AND labelled_at >= {since} AND labelled_at < {until}
)
GROUP BY tenant, task, expert
ORDER BY tenant, task, expert""",
        ),
        Query(
            "checks",
            "Judgements held to what their request comes to, where that is settled; latest: the latest 30 of gold",
            """SELECT
    tenant, task, expert,
    countIf(is_gold) AS gold, countIf(is_gold AND is_right) AS gold_right,
    countIf(NOT is_gold) AS settled, countIf(NOT is_gold AND is_right) AS settled_right,
    countIf(is_gold AND place <= 30) AS latest, countIf(is_gold AND place <= 30 AND is_right) AS latest_right,
    countIf(is_gold AND place > 30) AS before, countIf(is_gold AND place > 30 AND is_right) AS before_right
FROM (
    SELECT *,
        row_number() OVER (PARTITION BY tenant, task, expert, is_gold ORDER BY labelled_at DESC, request_id) AS place
    FROM gyre.checks
    WHERE labelled_at >= {since} AND labelled_at < {until}
)
GROUP BY tenant, task, expert
ORDER BY tenant, task, expert""",
        ),
        Query(
            "judged-by-several",
            "What each found of the requests that several experts judged by themselves",
            """SELECT tenant, task, request_id, groupArray(expert) AS experts, groupArray(outcome) AS outcomes
FROM (
    SELECT tenant, task, request_id, expert, argMax(each.outcome, (labelled_at, label_id)) AS outcome
    FROM gyre.judgements AS each
    WHERE kind != 'adjudication' AND labelled_at >= {since} AND labelled_at < {until}
    GROUP BY tenant, task, request_id, expert
)
GROUP BY tenant, task, request_id
HAVING length(experts) > 1
ORDER BY request_id""",
        ),
        Query(
            "guidelines",
            "Which version of a task's guideline experts had before them",
            """SELECT
    judged.tenant AS tenant, judged.task AS task, judged.guideline_version AS version,
    min(judged.labelled_at) AS first_at, max(judged.labelled_at) AS last_at, count() AS labels,
    uniqExact(judged.expert) AS experts, countIf(judged.outcome = 'confirmed') AS confirmed, any(known.text) AS text
FROM gyre.judgements AS judged
LEFT JOIN gyre.guidelines AS known
    ON known.tenant = judged.tenant AND known.task = judged.task AND known.version = judged.guideline_version
WHERE judged.kind != 'imported' AND judged.labelled_at >= {since} AND judged.labelled_at < {until}
GROUP BY tenant, task, version
ORDER BY tenant, task, last_at DESC""",
        ),
    )
}


@dataclass(frozen=True)
class Checked:
    """An expert's judgements, held to what their requests come to.

    Attributes:
        gold: Right ones of what was known when they were asked.
        settled: Right ones of what another expert agreed with, or a lead decided.
        before: Right ones of gold, but for the latest.
        latest: Right ones of the latest of gold.
    """

    gold: Share
    settled: Share
    before: Share
    latest: Share

    @property
    def chance(self) -> float | None:
        """How often chance alone would bring the latest as low; None of too few to say."""
        return chance_of_fall(self.before, self.latest)

    @property
    def has_fallen(self) -> bool:
        """Whether the latest are right less often than those before, more than chance has it."""
        return self.chance is not None and self.chance < RARE


NOTHING = Checked(*4 * (Share(0, 0),))


@dataclass(frozen=True)
class ExpertQuality:
    """How well one expert judges the requests of a task.

    Attributes:
        expert: Who.
        labels: Their judgements.
        seconds: Median time for one; of the latest, and of those before, where there are more.
        latest_seconds: See above.
        before_seconds: See above.
        checked: How many were right, where that is known.
        agreement: With whoever judged the same.
    """

    expert: str
    labels: int
    seconds: float
    latest_seconds: float
    before_seconds: float | None
    checked: Checked
    agreement: Agreement


@dataclass(frozen=True)
class TaskQuality:
    """How well the experts of a task judge.

    Attributes:
        tenant: Business unit.
        task: What the requests are for.
        agreement: Of all.
        experts: By name.
        pairs: Of those who have judged enough of the same, who agree least first.
        guidelines: Rows of the query of that name, newest first.
    """

    tenant: str
    task: str
    agreement: Agreement
    experts: tuple[ExpertQuality, ...]
    pairs: tuple[tuple[str, str, Agreement], ...]
    guidelines: Sequence[Row]


async def quality(record: Record, person: Person, span: Span, now: datetime) -> list[TaskQuality]:
    """Ask all that the page shows, of the tenants that are somebody's to see. Raises as `answers` does."""
    found = await answers(record, QUERIES, span, now)
    return await asyncio.to_thread(_tasks, {name: _seen(rows, person) for name, rows in found.items()})


def checked(row: Row) -> Checked:
    """Return what a row of the query of that name says."""
    return Checked(
        *(Share(int(row[f"{name}_right"]), int(row[name])) for name in ("gold", "settled", "before", "latest"))
    )


def _seen(rows: Iterable[Row], person: Person) -> list[Row]:
    return [row for row in rows if person.may_see_tenant(row["tenant"])]


def _tasks(found: dict[str, list[Row]]) -> list[TaskQuality]:
    ratings: defaultdict[QueueName, dict[str, dict[str, str]]] = defaultdict(dict)
    for row in found["judged-by-several"]:
        said = dict(zip(row["experts"], row["outcomes"], strict=True))
        ratings[row["tenant"], row["task"]][row["request_id"]] = said
    names = sorted({(row["tenant"], row["task"]) for name in ("experts", "checks") for row in found[name]})
    return [
        _task(
            name, {query: [row for row in rows if _name(row) == name] for query, rows in found.items()}, ratings[name]
        )
        for name in names
    ]


def _task(name: QueueName, found: dict[str, list[Row]], ratings: Ratings) -> TaskQuality:
    agreed = agreement(ratings)
    held = {row["expert"]: checked(row) for row in found["checks"]}
    timed = {row["expert"]: row for row in found["experts"]}
    pairs = [(*pair, each) for pair, each in agreed.pairs.items() if each.value is not None]
    return TaskQuality(
        *name,
        agreed.all_experts,
        tuple(
            _expert(expert, timed.get(expert), held.get(expert, NOTHING), agreed.experts.get(expert, Agreement(0)))
            for expert in sorted({*timed, *held})
        ),
        tuple(sorted(pairs, key=lambda each: (each[2].value, each))),
        found["guidelines"],
    )


def _expert(expert: str, timed: Row | None, held: Checked, agreed: Agreement) -> ExpertQuality:
    if timed is None:  # who answered gold alone, or elsewhere
        return ExpertQuality(expert, 0, 0.0, 0.0, None, held, agreed)
    return ExpertQuality(
        expert,
        int(timed["labels"]),
        float(timed["median_seconds"]),
        float(timed["latest_seconds"]),
        None if timed["before_seconds"] is None else float(timed["before_seconds"]),
        held,
        agreed,
    )


def _name(row: Row) -> QueueName:
    return row["tenant"], row["task"]
