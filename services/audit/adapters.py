"""The ledger in ClickHouse."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, takewhile
from typing import Any

from schemas import clickhouse
from schemas.events import Place
from schemas.topics import Topic
from services.audit.blocks import container
from services.audit.domain import EMPTY, ERASED, OF_REQUESTS, PROVEN_BY, Head, Link, Row, Step, StoredRow
from services.audit.ports import Personal, StoredCheckpoint
from services.runtime import telemetry
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, Rejected, Retryable

_PAGE_ROWS = 10_000
_LATER_ANSWERS = 100
# What is left in a row whose content is gone.
_KEPT = {*clickhouse.ENVELOPE, "request_id"} - {"_key", "_salt", "_payload"}
_ERASED_ROWS = 1000
# A person's feedback, and requests: also those that were erased before, of which more may have come in since.
_SAID_BY = "user = {subject:String}"
_ASKED_BY = (
    f"SELECT request_id FROM gyre.router_interactions_v1 WHERE tenant = {{tenant:String}} AND {_SAID_BY} "  # noqa: S608 - constants
    "UNION ALL SELECT request_id FROM gyre.audit_erasures_v1 WHERE tenant = {tenant:String} AND is_whole"
)


def _quoted(text: str) -> str:
    """Return a text as a string literal of ClickHouse."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


@contextmanager
def _no_fault_of_the_rows() -> Iterator[None]:
    """Let what ClickHouse refuses for any other reason than the rows be waited for: it is never a record's fault."""
    try:
        yield
    except InvalidArgument:
        raise
    except Rejected as error:
        raise Retryable(str(error)) from error


class ClickHouseLedger:
    """The port `Ledger` over the tables of `schemas.clickhouse`."""

    def __init__(self, client: ClickHouse, clock: Clock, lease_seconds: int = 10) -> None:
        """Say where the tables are.

        Args:
            client: Of their server.
            clock: Tells how long a partition has been left alone, and names this process.
            lease_seconds: How long after its last word on a partition this process may append to it. Within that time
                there must be fewer inserts into a table than it keeps tokens (`non_replicated_deduplication_window`).
        """
        self._client = client
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._name = f"gyre-audit:{clock.new_id()}"
        self._prolonged: dict[tuple[Topic, int], float] = {}

    async def prepare(self) -> None:
        """Apply the numbered statements that are new or have changed."""
        files = clickhouse.migrations()
        rows = await self._client.rows("SELECT 1 FROM system.databases WHERE name = 'gyre' AND engine = 'Replicated'")
        fitted = clickhouse.replicated if rows else str
        for statement in files[0].statements:  # makes the table that says what is applied
            await self._client.command(fitted(statement))
        rows = await self._client.rows("SELECT number, digest FROM gyre.schema_versions FINAL")
        applied = {row["number"]: row["digest"] for row in rows}
        for file in files:
            if applied.get(file.number) == file.digest:
                continue
            for statement in file.statements:
                await self._client.command(fitted(statement))
            await self._client.command(
                "INSERT INTO gyre.schema_versions (number, name, digest) "
                "SELECT {number:UInt32}, {name:String}, {digest:String}",
                {"number": file.number, "name": file.name, "digest": file.digest},
            )

    async def head(self, topic: Topic, partition: int) -> Head:
        """Return the last row stored of a partition, and begin or prolong the lease on appending to it."""
        with _no_fault_of_the_rows():
            rows = await self._client.rows(
                "SELECT _offset, lower(hex(_hash)) AS hash FROM gyre.{table:Identifier} "
                "WHERE _partition = {partition:UInt32} ORDER BY _offset DESC LIMIT 1",
                {"table": clickhouse.table(topic), "partition": partition},
                self._lease(topic, partition),
            )
        return Head(rows[0]["_offset"], bytes.fromhex(rows[0]["hash"])) if rows else EMPTY

    async def append(self, rows: Sequence[Row], attempt: int = 0) -> None:
        """Store rows of one run, all or none; passed over when other rows already follow the row they follow."""
        first = rows[0]
        topic, partition = first.record.topic, first.record.partition
        block, columns = await asyncio.to_thread(container, rows)
        idle_seconds = self._clock.monotonic() - self._prolonged.get((topic, partition), -math.inf)
        if idle_seconds > self._lease_seconds / 2 and (await self.head(topic, partition)).hash != first.prev_hash:
            return
        with _no_fault_of_the_rows():
            await self._client.insert(
                f"gyre.{clickhouse.table(topic)}",
                columns,
                block,
                "Avro",
                {
                    "async_insert": 0,
                    "input_format_avro_allow_missing_fields": 1,
                    # The row that these follow: ClickHouse stores only one block for each token, so an insert that is
                    # repeated, or comes from a process that has just been replaced, cannot fork the chain. A server
                    # that is killed between noting a token and storing its block has used it up: hence the attempt.
                    "insert_deduplicate": 1,
                    "insert_deduplication_token": f"{partition}:{first.prev_hash.hex()}:{attempt}",
                    # So that rollups count it once too; what they cannot count is no reason to refuse a record.
                    "deduplicate_blocks_in_dependent_materialized_views": 1,
                    "materialized_views_ignore_errors": 1,
                    "parallel_view_processing": 1,
                    # ClickHouse forgets old tokens. By then the lease is over, by its own clock.
                    "session_check": 1,
                    **self._lease(topic, partition),
                },
            )

    def _lease(self, topic: Topic, partition: int) -> dict[str, Any]:
        """Return what makes a statement one of the partition's session, which ends when it is left alone."""
        self._prolonged[topic, partition] = self._clock.monotonic()
        return {"session_id": f"{self._name}:{topic}:{partition}", "session_timeout": self._lease_seconds}

    async def recount(self, topic: Topic, partition: int) -> None:
        """Count anew each month of a partition that a rollup has not counted once.

        A materialized view is told of an insert once it is stored, so a server that is killed in between leaves it out.
        Counts of rows tell that; nothing may be appended to the partition meanwhile.
        """
        source = clickhouse.table(topic)
        for rollup in clickhouse.rollups():
            if rollup.source != source:
                continue
            names = {"rollup": rollup.name, "source": source, "partition": partition}
            months = await self._client.rows(
                "SELECT month, sum(stored) AS in_all, sum(counted) AS in_rollup FROM ("
                "SELECT toStartOfMonth(_timestamp) AS month, count() AS stored, 0 AS counted "
                "FROM gyre.{source:Identifier} WHERE _partition = {partition:UInt32} GROUP BY month UNION ALL "
                "SELECT month, 0, sum(records) "
                "FROM gyre.{rollup:Identifier} WHERE partition = {partition:UInt32} GROUP BY month) "
                "WHERE month >= toStartOfMonth(now('UTC')) - INTERVAL {months:UInt32} MONTH "
                "GROUP BY month HAVING in_all != in_rollup ORDER BY month",
                {**names, "months": clickhouse.ROLLUP_MONTHS},
            )
            for row in months:
                month = str(row["month"])
                telemetry.log().warning("recounting", rollup=rollup.name, partition=partition, month=month)
                these = {**names, "month": month}
                await self._client.command(
                    "DELETE FROM gyre.{rollup:Identifier} "
                    "WHERE partition = {partition:UInt32} AND month = {month:Date}",
                    these,
                )
                # Should the same rows have been counted anew before, they are wanted again.
                query = f"SELECT * FROM ({rollup.query}) "  # noqa: S608 - our own statement
                await self._client.command(
                    "INSERT INTO gyre.{rollup:Identifier} SETTINGS insert_deduplicate = 0 "
                    + query
                    + "WHERE partition = {partition:UInt32} AND month = {month:Date}",
                    these,
                )

    async def links(self, topic: Topic, partition: int, start: int = 0) -> AsyncIterator[Link]:
        """Yield the rows of a partition in the order of their offsets, page by page."""
        following = await self._offset(topic, partition, start) if start else 0
        while True:
            # The payload's digest is computed there, so that a page has a size.
            page = await self._client.rows(
                "SELECT _offset, toUnixTimestamp64Milli(_timestamp) AS timestamp_ms, lower(hex(_digest)) AS digest, "
                "lower(hex(_prev_hash)) AS prev_hash, lower(hex(_hash)) AS hash, "
                "if(_salt = toFixedString('', 16) AND _key = '' AND _payload = '', NULL, "
                "lower(hex(SHA256(concat(_salt, toString(length(_key)), ':', _key, _payload))))) AS payload_digest "
                "FROM gyre.{table:Identifier} WHERE _partition = {partition:UInt32} AND _offset >= {following:UInt64} "
                "ORDER BY _offset LIMIT {rows:UInt32} WITH TIES",
                {
                    "table": clickhouse.table(topic),
                    "partition": partition,
                    "following": following,
                    "rows": _PAGE_ROWS,
                },
            )
            for row in page:
                yield Link(
                    offset=row["_offset"],
                    timestamp_ms=row["timestamp_ms"],
                    digest=bytes.fromhex(row["digest"]),
                    prev_hash=bytes.fromhex(row["prev_hash"]),
                    hash=bytes.fromhex(row["hash"]),
                    payload_digest=row["payload_digest"] and bytes.fromhex(row["payload_digest"]),
                )
            if len(page) < _PAGE_ROWS:
                return
            following = page[-1]["_offset"] + 1

    async def newest_checkpoint(self, topic: Topic, partition: int) -> StoredCheckpoint | None:
        """Return the checkpoint that covers most of a chain."""
        chain = {"chain": f"{topic}/{partition}"}
        newest = await self._client.rows(
            "SELECT note FROM gyre.audit_checkpoints_v1 WHERE chain = {chain:String} AND _error = '' "
            "ORDER BY tree_size DESC LIMIT 1",
            chain,
        )
        if not newest:
            return None
        found = await self._client.rows(
            "SELECT first_block, arrayMap(block -> lower(hex(block)), blocks) AS blocks FROM gyre.audit_checkpoints_v1 "
            "WHERE chain = {chain:String} AND _error = '' AND notEmpty(blocks) ORDER BY tree_size",
            chain,
        )
        by_number = {row["first_block"] + place: block for row in found for place, block in enumerate(row["blocks"])}
        blocks = [bytes.fromhex(by_number[number]) for number in takewhile(by_number.__contains__, count())]
        return StoredCheckpoint(newest[0]["note"], blocks)

    async def oldest_checkpoint(self, topic: Topic, partition: int, offset: int) -> str | None:
        """Return the note of the first checkpoint of a chain that covers an offset."""
        rows = await self._client.rows(
            "SELECT note FROM gyre.audit_checkpoints_v1 WHERE chain = {chain:String} AND _error = '' "
            "AND last_offset >= {offset:Int64} ORDER BY tree_size LIMIT 1",
            {"chain": f"{topic}/{partition}", "offset": offset},
        )
        return rows[0]["note"] if rows else None

    async def erased(self, topic: Topic, partition: int) -> set[int]:
        """Return the offsets of a chain whose content erasures on record say is gone."""
        rows = await self._client.rows(
            "SELECT DISTINCT place.offset AS erased FROM gyre.audit_erasures_v1 ARRAY JOIN rows AS place "
            "WHERE place.topic = {topic:String} AND place.partition = {partition:UInt32}",
            {"topic": str(topic), "partition": partition},
        )
        return {row["erased"] for row in rows}

    async def personal(self, tenant: str, subject: str) -> list[Personal]:
        """Return the requests of a person, and those that it gave feedback on."""
        person = {"tenant": tenant, "subject": subject, "erased": ERASED}
        found: dict[str, Personal] = {}
        for topic in OF_REQUESTS:
            said = f"OR (tenant = {{tenant:String}} AND {_SAID_BY})" if topic is Topic.FEEDBACK else ""
            # A record that could not be decoded has no fields, but it has its key.
            rows = await self._client.rows(
                f"SELECT if(request_id = '', _key, request_id) AS id, id IN ({_ASKED_BY}) AS is_whole, "  # noqa: S608 - constants
                f"_partition, _offset FROM gyre.{clickhouse.table(topic)} "
                f"WHERE _error != {{erased:String}} AND (is_whole {said}) ORDER BY _partition, _offset",
                person,
            )
            for row in rows:
                one = found.setdefault(row["id"], Personal(row["id"], bool(row["is_whole"])))
                one.rows.append(Place(topic=str(topic), partition=row["_partition"], offset=row["_offset"]))
        learned = await self._client.rows(
            f"SELECT request_id, groupUniqArray(candidate_id) AS candidates, groupUniqArray(dataset_id) AS datasets "  # noqa: S608 - constants
            "FROM (SELECT arrayJoin(arrayConcat(training_request_ids, holdout_request_ids)) AS request_id, "
            f"candidate_id, dataset_id FROM gyre.trainer_candidates_v1) WHERE request_id IN ({_ASKED_BY}) "
            "GROUP BY request_id",
            person,
        )
        for row in learned:
            if row["request_id"] in found:
                found[row["request_id"]].candidate_ids.extend(sorted(row["candidates"]))
                found[row["request_id"]].dataset_ids.extend(sorted(row["datasets"]))
        return list(found.values())

    async def announced(self, erasure_id: str) -> int:
        """Return how many requests an erasure on record names."""
        rows = await self._client.rows(
            "SELECT count() AS requests FROM gyre.audit_erasures_v1 WHERE erasure_id = {id:String}", {"id": erasure_id}
        )
        return int(rows[0]["requests"])

    async def unerased(self, topic: Topic, *, signed: bool, erasure_id: str = "") -> list[tuple[int, int]]:
        """Return the places of a topic that erasures on record name and that still hold content."""
        rows = await self._client.rows(
            "SELECT _partition, _offset FROM gyre.{table:Identifier} WHERE _error != {erased:String} "
            "AND (_partition, _offset) IN ("
            "SELECT toUInt32(place.partition), toUInt64(place.offset) FROM gyre.audit_erasures_v1 AS erasures "
            "ARRAY JOIN rows AS place LEFT JOIN (SELECT chain, max(last_offset) AS last_offset "
            "FROM gyre.audit_checkpoints_v1 GROUP BY chain) AS signed "
            "ON signed.chain = concat({erasures:String}, '/', toString(erasures._partition)) "
            "WHERE place.topic = {topic:String} AND {id:String} IN ('', erasure_id) AND (NOT {signed:Bool} OR "
            "(signed.chain != '' AND toInt64(erasures._offset) <= signed.last_offset))) "
            "ORDER BY _partition, _offset LIMIT {limit:UInt32}",
            {
                "table": clickhouse.table(topic),
                "topic": str(topic),
                "erasures": str(Topic.ERASURES),
                "erased": ERASED,
                "id": erasure_id,
                "signed": signed,
                "limit": _ERASED_ROWS,
            },
        )
        return [(row["_partition"], row["_offset"]) for row in rows]

    async def erase(self, topic: Topic, places: Sequence[tuple[int, int]]) -> None:
        """Take the content out of rows."""
        table = clickhouse.table(topic)
        columns = await self._client.rows(
            "SELECT name, type FROM system.columns WHERE database = 'gyre' AND table = {table:String} "
            "AND name NOT IN {kept:Array(String)}",
            {"table": table, "kept": [*_KEPT]},
        )
        emptied = ", ".join(
            [
                f"_error = '{ERASED}'",
                *(f"{row['name']} = defaultValueOfTypeName({_quoted(row['type'])})" for row in columns),
            ]
        )
        await self._client.command(
            f"ALTER TABLE gyre.{table} UPDATE {emptied} "
            f"WHERE (_partition, _offset) IN ({', '.join(map(str, places))}) SETTINGS mutations_sync = 2"
        )

    async def rows_of(self, asked_id: str) -> list[StoredRow]:
        """Return the rows that hold a request, or a candidate and its deployments, oldest first."""
        found = [row for topic, field in PROVEN_BY.items() for row in await self._rows_of(topic, field, asked_id)]
        return sorted(found, key=lambda row: (row.timestamp_ms, row.topic, row.offset))

    async def _rows_of(self, topic: Topic, field: str, asked_id: str) -> list[StoredRow]:
        table = clickhouse.table(topic)
        rows = await self._client.rows(
            "SELECT _partition, _offset, toUnixTimestamp64Milli(_timestamp) AS timestamp_ms, lower(hex(_key)) AS key, "
            "lower(hex(_salt)) AS salt, lower(hex(_payload)) AS payload, lower(hex(_digest)) AS digest, "
            "lower(hex(_prev_hash)) AS prev_hash, lower(hex(_hash)) AS hash "
            "FROM gyre.{table:Identifier} WHERE {field:Identifier} = {id:String}",
            {"table": table, "field": field, "id": asked_id},
        )
        found = []
        for row in rows:
            (before,) = await self._client.rows(
                "SELECT count() AS rows FROM gyre.{table:Identifier} "
                "WHERE _partition = {partition:UInt32} AND _offset < {offset:UInt64}",
                {"table": table, "partition": row["_partition"], "offset": row["_offset"]},
            )
            found.append(
                StoredRow(
                    topic=topic,
                    partition=row["_partition"],
                    offset=row["_offset"],
                    timestamp_ms=row["timestamp_ms"],
                    index=before["rows"],
                    **{
                        name: bytes.fromhex(row[name])
                        for name in ("key", "salt", "payload", "digest", "prev_hash", "hash")
                    },
                )
            )
        return found

    async def leaves(self, topic: Topic, partition: int, start: int, end: int) -> list[bytes]:
        """Return the hashes of a chain's rows from the one at a place to before another."""
        rows = await self._client.rows(
            "SELECT lower(hex(_hash)) AS hash FROM gyre.{table:Identifier} WHERE _partition = {partition:UInt32} "
            "ORDER BY _offset LIMIT {rows:UInt64} OFFSET {start:UInt64}",
            {"table": clickhouse.table(topic), "partition": partition, "rows": end - start, "start": start},
        )
        return [bytes.fromhex(row["hash"]) for row in rows]

    async def _offset(self, topic: Topic, partition: int, index: int) -> int:
        """Return the offset of the row at a place of a chain; one beyond the last where there is none."""
        rows = await self._client.rows(
            "SELECT _offset FROM gyre.{table:Identifier} WHERE _partition = {partition:UInt32} "
            "ORDER BY _offset LIMIT 1 OFFSET {index:UInt64}",
            {"table": clickhouse.table(topic), "partition": partition, "index": index},
        )
        return int(rows[0]["_offset"]) if rows else (await self.head(topic, partition)).offset + 1

    async def lineage(self, request_id: str) -> list[Step]:
        """Return the rows of the view `gyre.lineage` for a request, oldest first."""
        rows = await self._client.rows(
            "SELECT direction, kind, id, at, summary, hash FROM gyre.lineage "
            "WHERE request_id = {request_id:String} ORDER BY at, kind, id",
            {"request_id": request_id},
        )
        return [Step(**row) for row in rows]

    async def labelled(self, label_id: str) -> str | None:
        """Return the request that a label is of."""
        rows = await self._client.rows(
            "SELECT request_id FROM gyre.labels WHERE label_id = {label_id:String} LIMIT 1", {"label_id": label_id}
        )
        return rows[0]["request_id"] if rows else None

    async def taught(self, label_id: str) -> list[Step]:
        """Return the newest rows of the view `gyre.taught` for a label, oldest first."""
        rows = await self._client.rows(
            "SELECT 'consequence' AS direction, 'later answer' AS kind, request_id AS id, at, summary, hash "
            "FROM gyre.taught WHERE label_id = {label_id:String} ORDER BY at DESC LIMIT {answers:UInt32}",
            {"label_id": label_id, "answers": _LATER_ANSWERS},
        )
        return [Step(**row) for row in reversed(rows)]
