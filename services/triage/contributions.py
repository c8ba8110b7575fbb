"""What came of an expert's own judgements: what is asked of the record for it, and what a page shows of the answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.runtime.shares import Share
from services.triage import quality
from services.triage.domain.access import Person
from services.triage.ports import Record
from services.triage.questions import Query, Row, Span, answers

QUERIES = {
    query.name: query
    for query in (
        quality.QUERIES["experts"],
        quality.QUERIES["checks"],
        Query(
            "contributions",
            "Specialists that learned from what each expert judged, and how many requests they have answered",
            """SELECT
    expert, tenant, task, candidate_id, labels, learned_from, decided_at, verdict, live_at,
    candidate_id IN (
        SELECT argMax(candidate_id, offset)
        FROM gyre.deployments
        GROUP BY task_key
        HAVING argMax(state, offset) = 'live'
    ) AS is_live,
    incumbent_accuracy, candidate_accuracy, gain, gain_low, gain_high, answered.answers AS answers
FROM gyre.contributions AS contributions
LEFT JOIN (
    SELECT candidate_id, count() AS answers FROM gyre.interactions WHERE candidate_id != '' GROUP BY candidate_id
) AS answered USING (candidate_id)
WHERE decided_at >= {since} AND decided_at < {until} OR is_live
ORDER BY is_live DESC, decided_at DESC
LIMIT 100 BY expert""",
        ),
    )
}


@dataclass(frozen=True)
class Contributions:
    """What an expert did, and what came of it.

    Attributes:
        labels: Their judgements.
        right: Right ones, where it is known what is right.
        seconds: Median time for one, by task; none where they judged nothing.
        specialists: Rows of the query `contributions`: those that learned from them.
    """

    labels: int
    right: Share
    seconds: Sequence[tuple[str, float]]
    specialists: Sequence[Row]


async def contributions(record: Record, person: Person, span: Span, now: datetime) -> Contributions:
    """Ask all that the page shows of one expert. Raises as `answers` does."""
    found = await answers(record, QUERIES, span, now)
    own = {
        name: [row for row in rows if row["expert"] == person.name and person.may_see_tenant(row["tenant"])]
        for name, rows in found.items()
    }
    held = [quality.checked(row) for row in own["checks"]]
    return Contributions(
        sum(int(row["labels"]) for row in own["experts"]),
        Share(
            sum(each.gold.right + each.settled.right for each in held),
            sum(each.gold.of + each.settled.of for each in held),
        ),
        [(row["task"], float(row["median_seconds"])) for row in own["experts"]],
        own["contributions"],
    )
