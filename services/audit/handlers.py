import os
from collections.abc import Sequence

from schemas.topics import Topic
from services.audit.domain import EMPTY, Head, Row, Run, Step, Verdict, chained, follows, runs
from services.audit.ports import DeadLetters, Ledger
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import NotFound, Rejected, Retryable
from services.runtime.kafka import Record


async def keep(ledger: Ledger, dead_letters: DeadLetters, clock: Clock, head: Head, records: Sequence[Record]) -> Head:
    """Add records to the chain of their partition and return its new head.

    A record that cannot be decoded goes to the dead letters and is kept all the same, undecoded, so that the chain has
    no hole. After an error the head is whatever the ledger says it is.

    Args:
        ledger: Where rows are stored.
        dead_letters: Where records go that cannot be decoded.
        clock: Dates the dead letters.
        head: Where the chain ends now.
        records: Consecutive records of one partition, beyond the head.

    Raises:
        Retryable: The ledger or Kafka is away, or another process has extended this chain.
    """
    for run in runs(records):
        head = await _extend(ledger, dead_letters, clock, head, run)
    return head


async def _extend(ledger: Ledger, dead_letters: DeadLetters, clock: Clock, head: Head, run: Run) -> Head:
    if run.error:
        for record in run.records:
            await _bury(dead_letters, clock, record, run.error)
    try:
        return await _store(ledger, head, chained(head, run, os.urandom))
    except Rejected as error:
        if run.error:
            # What was refused is an envelope that we wrote ourselves: no fault of the record's.
            raise Retryable(f"a row is refused whatever it holds: {error}") from error
        if len(run.records) == 1:
            return await _extend(ledger, dead_letters, clock, head, Run(0, str(error), run.records))
    # One record that cannot be decoded fails all of them: halve until it is alone.
    middle = len(run.records) // 2
    for half in (run.records[:middle], run.records[middle:]):
        head = await _extend(ledger, dead_letters, clock, head, Run(run.schema_id, "", half))
    return head


async def _store(ledger: Ledger, head: Head, rows: list[Row]) -> Head:
    first, last = rows[0].record, rows[-1]
    await ledger.append(rows)
    # Not only an acknowledgement: the chain ends with these rows, and nobody else has extended it meanwhile.
    stored = await ledger.head(first.topic, first.partition)
    if stored == last.head:
        return stored
    if stored == head:
        raise Rejected(f"rows {first.offset} to {last.record.offset} were acknowledged and not stored")
    raise Retryable(f"another process has extended the chain of {first.topic}/{first.partition} to {stored.offset}")


async def _bury(dead_letters: DeadLetters, clock: Clock, record: Record, reason: str) -> None:
    telemetry.RECORDS.labels(record.topic, "dead-lettered").inc()
    telemetry.log().error(
        "dead letter", topic=str(record.topic), partition=record.partition, offset=record.offset, reason=reason
    )
    await dead_letters.send_dead_letter(record.topic, record.dead("audit", reason, clock))


async def verify(ledger: Ledger, topic: str, partition: int) -> Verdict:
    """Recompute the chain of a partition from what is stored, up to the first row that is not what was stored.

    Raises:
        NotFound: There is no such topic.
        Retryable: The ledger is away.
    """
    if topic not in list(Topic):
        raise NotFound(f"topic: {topic} is none of {', '.join(Topic)}")
    known, head, rows = Topic(topic), EMPTY, 0
    async for link in ledger.links(known, partition):
        if not follows(known, partition, head, link):
            return Verdict(rows=rows, first_bad_offset=link.offset, head_hash=head.hash)
        head, rows = Head(link.offset, link.hash), rows + 1
    return Verdict(rows=rows, first_bad_offset=None, head_hash=head.hash)


async def trace(ledger: Ledger, request_id: str) -> list[Step]:
    """Return what a request led to and where its answer came from, oldest first.

    Raises:
        NotFound: Nothing of it is on record.
        Retryable: The ledger is away.
    """
    steps = await ledger.lineage(request_id)
    if not steps:
        raise NotFound(f"request_id: nothing is on record of {request_id}")
    return steps
