"""Whether Kafka and the record are of one time: a topic that was lost gives its offsets to other records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gyre.doctor.checks import Check, Finding, error
from gyre.doctor.clients import consumer_of, partitions_of
from gyre.doctor.installation import Installation
from gyre.doctor.record import clickhouse_of
from schemas import clickhouse as ddl
from schemas.topics import Topic


@dataclass(frozen=True)
class Older:
    """A partition of which the record holds more than Kafka: where Kafka ends, and the last row."""

    place: str
    end: int
    row: int


async def _probe(at: Installation) -> list[Older]:
    async with consumer_of(at.kafka) as consumer:
        async with clickhouse_of(at) as client:
            rows = {
                (topic, row["partition"]): row["last"]
                for topic in Topic
                for row in await client.rows(
                    "SELECT _partition AS partition, max(_offset) AS last FROM gyre.{table:Identifier} "
                    "GROUP BY _partition",
                    {"table": ddl.table(topic)},
                )
            }
        # Behind the rows, for what comes meanwhile is in Kafka first.
        ends = await consumer.end_offsets(await partitions_of(consumer, list(Topic)))
    return [
        Older(f"{place.topic}/{place.partition}", end, row)
        for place, end in ends.items()
        if (row := rows.get((Topic(place.topic), place.partition), -1)) >= end
    ]


def judge(_at: Installation, found: Sequence[Older]) -> Iterator[Finding]:
    """Say which topics are older than the record of them."""
    if not found:
        return
    first = found[0]
    more = f", and so do {len(found) - 1} more" if len(found) > 1 else ""
    yield error(
        f"Kafka is older than the record: {first.place} ends at offset {first.end}, and row {first.row} is stored"
        f"{more}.",
        "A topic was made anew, or Kafka restored without its record: restore both from one backup (docs/backup.md), "
        "or export the old record (gyre audit export DIR) and begin a new one.",
    )


CHECKS = [
    Check("agreement", "Kafka holds all that the record was made of", _probe, judge, after=("topics", "tables")),
]
