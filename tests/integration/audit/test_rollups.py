"""Rollups hold what the rows do, whatever befell the inserts."""

import os
import time
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.codecs import codec
from schemas.events import Interaction
from schemas.topics import Topic
from services.audit.adapters import ClickHouseLedger
from services.audit.domain import Row, chained, runs
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.kafka import Record
from tests.integration.audit.record import miscounted
from tests.integration.audit.story import interaction


@pytest.fixture
async def ledger(audit_process: Any, database: ClickHouse) -> ClickHouseLedger:
    await audit_process.serving()
    return ClickHouseLedger(database, Clock())


async def rows_of(ledger: ClickHouseLedger, partition: int, events: Sequence[Interaction]) -> list[Row]:
    """Rows that follow what is stored of a partition that no consumer reads."""
    head = await ledger.head(Topic.INTERACTIONS, partition)
    encode, now = codec(Topic.INTERACTIONS).encode, time.time_ns() // 10**6
    records = [
        Record(Topic.INTERACTIONS, partition, head.offset + 1 + number, now, b"k", encode(event))
        for number, event in enumerate(events)
    ]
    (run,) = runs(records)
    return chained(head, run, os.urandom)


async def test_a_stream_and_its_end_are_one_request_and_a_repeated_insert_counts_once(
    ledger: ClickHouseLedger, database: ClickHouse
) -> None:
    stream = replace(interaction(str(uuid.uuid4())), streamed=True)
    refused = replace(interaction(str(uuid.uuid4())), finish_reason="refused", candidates=(), estimates=(), stages=())
    uneven = replace(interaction(str(uuid.uuid4())), estimates=interaction("").estimates[:1])
    rows = await rows_of(ledger, 900, [interaction(stream.request_id, phase="opened"), stream, refused, uneven])
    for _ in range(3):
        await ledger.append(rows)

    (minute,) = await database.rows(
        "SELECT sum(records) AS records, sum(opened) AS opened, sum(requests) AS requests, sum(refused) AS refused, "
        "sum(expected_price) AS expected, sum(generic_price) AS generic FROM gyre.rollup_minutes WHERE partition = 900"
    )
    assert minute == {
        "records": 4,
        "opened": 1,
        "requests": 3,
        "refused": 1,
        "expected": pytest.approx(0.2),
        "generic": pytest.approx(0.2),
    }
    assert await miscounted(database) == []


async def test_what_was_left_out_or_counted_twice_is_counted_anew(
    ledger: ClickHouseLedger, database: ClickHouse
) -> None:
    await ledger.append(await rows_of(ledger, 901, [interaction(str(uuid.uuid4()), minutes=m) for m in range(5)]))
    for rollup in ("rollup_minutes", "rollup_stages"):
        # Twice the same: what is counted anew a second time is no repeated insert.
        for harm in (
            f"DELETE FROM gyre.{rollup} WHERE partition = 901",
            f"DELETE FROM gyre.{rollup} WHERE partition = 901",
            f"INSERT INTO gyre.{rollup} SELECT * FROM gyre.{rollup} WHERE partition = 901",
        ):
            await database.command(harm)
            assert await miscounted(database) == [rollup]
            await ledger.recount(Topic.INTERACTIONS, 901)
            assert await miscounted(database) == []


async def test_a_rollup_that_cannot_count_is_no_reason_to_refuse_a_record(
    ledger: ClickHouseLedger, database: ClickHouse
) -> None:
    await database.command(
        "CREATE MATERIALIZED VIEW gyre.broken_feed TO gyre.rollup_minutes AS "
        "SELECT toString(throwIf(_partition = 902)) AS tenant FROM gyre.router_interactions_v1"
    )
    try:
        rows = await rows_of(ledger, 902, [interaction(str(uuid.uuid4()))])
        await ledger.append(rows)
        assert await ledger.head(Topic.INTERACTIONS, 902) == rows[-1].head
    finally:
        await database.command("DROP TABLE gyre.broken_feed")
    await ledger.recount(Topic.INTERACTIONS, 902)
    assert await miscounted(database) == []
