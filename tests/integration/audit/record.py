"""What tests ask of audit."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from gyre.api.audit.v1 import audit_pb2
from schemas import clickhouse as ddl
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse

if TYPE_CHECKING:  # exists for type checkers alone
    from gyre.api.audit.v1.audit_pb2_grpc import AuditAsyncStub


async def eventually(check: Callable[[], Coroutine[Any, Any, bool]], seconds: float = 45) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        await asyncio.sleep(0.1)


async def assert_every_chain_is_intact(audit: AuditAsyncStub, database: ClickHouse) -> None:
    """Verifies every partition of every topic that has rows, and that no offset is there twice."""
    for topic in Topic:
        rows = await database.rows(
            "SELECT _partition, count() AS stored, uniqExact(_offset) AS offsets "
            "FROM gyre.{table:Identifier} GROUP BY _partition",
            {"table": ddl.table(topic)},
        )
        for row in rows:
            assert row["stored"] == row["offsets"], topic
            verdict = await audit.Verify(audit_pb2.VerifyRequest(topic=topic, partition=row["_partition"]), timeout=60)
            assert verdict.intact, (topic, row, verdict)
            assert verdict.rows >= row["stored"], (topic, row, verdict)  # checkpoints go on


async def miscounted(database: ClickHouse) -> list[str]:
    """Returns the rollups that do not count every row once, or do not hold what rows that nobody erases add up to."""
    found = []
    for rollup in ddl.rollups():
        counts = "SELECT partition, month, sum(records) FROM {} AS counted GROUP BY partition, month"
        columns = await database.rows(
            "SELECT name, type FROM system.columns WHERE database = 'gyre' AND table = {name:String} ORDER BY position",
            {"name": rollup.name},
        )
        keys = ", ".join(column["name"] for column in columns if "AggregateFunction" not in column["type"])
        # Sums of fractions depend on their order in the last digits.
        sums = ", ".join(
            f"round(sum(counted.{column['name']}), 9)"
            for column in columns
            if column["type"].startswith("SimpleAggregateFunction(sum")
        )
        # Only tests that write past Kafka use partitions from 900.
        whole = f"SELECT {keys}, {sums} FROM {{}} AS counted WHERE partition >= 900 GROUP BY {keys}"
        for what in (counts, whole):
            stored, recomputed = what.format(f"gyre.{rollup.name}"), what.format(f"({rollup.query})")
            if await database.rows(f"({stored} EXCEPT {recomputed}) UNION ALL ({recomputed} EXCEPT {stored})"):
                found.append(rollup.name)
                break
    return found
