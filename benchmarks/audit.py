"""Audit's throughput: Kafka -> hash chain -> ClickHouse, beside ClickHouse alone taking the same rows.

    python -m benchmarks.audit [--records 1000000]

Starts Kafka, ClickHouse and one audit process of its own, on free ports and a state folder that is removed afterwards,
and measures, one after the other:

    native insertion  blocks in ClickHouse's own format into a copy of the table without its constraint: the floor
    Avro insertion    the same rows as audit sends them, made beforehand, into a copy of the table
    audit             as many interactions, waiting in Kafka, until the last one can be read in ClickHouse
    verify            what `gyre audit export` has written of them, checked with the public key

Times are from the first row seen to the last one. Memory is the peak of the process, sampled ten times a second. Where
other programs want the processors too, compare the processor time.
"""

import argparse
import asyncio
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import clickhouse_connect
import psutil
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.ports import free_ports, stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.auditor.export import export
from gyre.auditor.verify import verify
from schemas.codecs import codec
from schemas.events import Citation, Interaction, Message, RouteCandidate, Sensitivity, Stage, Tool
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from services.audit.adapters import ClickHouseLedger
from services.audit.blocks import container
from services.audit.domain import EMPTY, chained, runs
from services.audit.settings import Settings as AuditSettings
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.kafka import Record, ensure_topics
from services.runtime.settings import ClickHouseSettings, KafkaSettings

_MIB = 1024 * 1024
_FLOOR, _FILLED = "gyre.benchmark_floor", "gyre.benchmark_filled"
_CITIES = ("Lisbon", "San Francisco", "Bonn", "Kyoto", "Nairobi", "Seattle", "Oaxaca", "Tromsø")
_STAGES = ("data-prep", "governance", "context-stitching", "policy", "routing", "inference", "monitoring", "audit")
_CANDIDATE = RouteCandidate(model="small", tier="small", cleared=True, live=True, chosen=True, reason="ok")


def main() -> None:
    """Runs both measurements and prints them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000, help="interactions to keep")
    parser.add_argument("--partitions", type=int, default=4, help="of the topic")
    options = parser.parse_args()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic just made has no leader yet; it tries again
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder:
        stack = Stack(Settings(state_dir=Path(folder), ports=stack_ports()))
        try:
            stack.start(("kafka", "clickhouse"))
            asyncio.run(_measure(stack, options.records, options.partitions))
        finally:
            stack.stop()


async def _measure(stack: Stack, count: int, partitions: int) -> None:
    kafka = KafkaSettings(bootstrap_servers=stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"), partitions=partitions)
    database = ClickHouseSettings(
        url=f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        password=SecretStr(clickhouse_password(stack.settings, "audit")),
    )
    clickhouse = ClickHouse(database)
    server = next(status.pid for status in stack.status() if status.part.name == "clickhouse")
    try:
        await ClickHouseLedger(clickhouse, Clock()).prepare()
        values = interactions(count)
        size = sum(map(len, values)) / count
        print(f"{count:,} interactions of {size:,.0f} bytes, {partitions} partitions, {os.cpu_count()} cores")
        await _fill_floor(clickhouse, values)
        with _used(server) as database_used:
            floor = await _native_insertion(clickhouse, database, count)
        print(f"  native insertion {floor:9,.0f} rows/s   100 %   ClickHouse {database_used.per(count)}")
        with _used(server) as database_used:
            rate = await _avro_insertion(clickhouse, values)
        print(f"  Avro insertion   {rate:9,.0f} rows/s   {rate / floor:4.0%}   ClickHouse {database_used.per(count)}")
        await ensure_topics(kafka)
        await _send(kafka, values)
        key = SigningKey.generate("benchmark")
        with _audit(kafka, database, key) as process, _used(server) as database_used, _used(process.pid) as audit_used:
            rate = await _until_stored(clickhouse, count)
            await _until_signed(clickhouse, count)
        print(f"  audit            {rate:9,.0f} rows/s   {rate / floor:4.0%}   ClickHouse {database_used.per(count)}")
        print(f"                                             audit      {audit_used.per(count)} (its start included)")
        rows, seconds, peak = await asyncio.to_thread(_verify, database, key)
        print(f"  verify           {rows / seconds:9,.0f} rows/s of processor, on one core, {peak / _MIB:,.0f} MiB")
    finally:
        await clickhouse.close()


def interactions(count: int) -> list[bytes]:
    """Returns so many interactions as their topic holds them."""
    chance, encode, clock = random.Random(1), codec(Topic.INTERACTIONS).encode, Clock()
    found = []
    for _ in range(count):
        city, now = chance.choice(_CITIES), datetime.now(UTC)
        event = Interaction(
            request_id=clock.new_id(),
            phase="finished",
            tenant="acme",
            application="helpdesk",
            task="find_event",
            user=f"u-{chance.randrange(5000)}",
            received_at=now,
            finished_at=now,
            messages=(
                Message(role="user", content=f"Find me {chance.randrange(9)} concerts in {city} this week, " * 6),
            ),
            tools=(Tool(name="find_event", description="Finds events", parameters='{"type": "object"}' * 12),),
            answer=f'{{"name": "find_event", "arguments": {{"city": "{city}"}}}}',
            finish_reason="stop",
            model="small",
            model_version="1",
            tier="small",
            candidates=(
                RouteCandidate(model="small", tier="small", cleared=True, live=True, chosen=True, reason="ok"),
            ),
            bundle_version="benchmark",
            sensitivity=Sensitivity.INTERNAL,
            citations=(Citation(document_id="d-1", sensitivity=Sensitivity.PUBLIC, tokens=80, score=0.7),),
            prompt_tokens=212,
            completion_tokens=21,
            mean_logprob=-chance.random(),
            total_us=chance.randrange(10**6),
            stages=tuple(
                Stage(name=name, start_us=i, duration_us=chance.randrange(900)) for i, name in enumerate(_STAGES)
            ),
        )
        found.append(encode(event))
    return found


def _blocks(values: list[bytes]) -> Iterator[tuple[bytes, list[str]]]:
    """Yields what audit sends ClickHouse of interactions."""
    batch = AuditSettings().batch_records
    now = time.time_ns() // 10**6
    records = [Record(Topic.INTERACTIONS, 0, offset, now, b"", value) for offset, value in enumerate(values)]
    head = EMPTY
    for start in range(0, len(records), batch):
        for run in runs(records[start : start + batch]):
            rows = chained(head, run, os.urandom)
            head = rows[-1].head
            yield container(rows)


async def _fill_floor(clickhouse: ClickHouse, values: list[bytes]) -> None:
    for table in (_FLOOR, _FILLED):
        await clickhouse.command(f"CREATE TABLE {table} AS gyre.router_interactions_v1")
    await clickhouse.command(f"ALTER TABLE {_FLOOR} DROP CONSTRAINT hash_follows_from_header")
    for block, columns in _blocks(values):
        await clickhouse.insert(_FILLED, columns, block, "Avro", {"async_insert": 0})


async def _native_insertion(clickhouse: ClickHouse, database: ClickHouseSettings, count: int) -> float:
    batch, at = AuditSettings().batch_records, urlsplit(database.url)
    client = clickhouse_connect.get_client(
        host=at.hostname, port=at.port, username=database.user, password=database.password.get_secret_value()
    )
    page = "SELECT * FROM {table} WHERE _offset >= {start} AND _offset < {end} ORDER BY _offset"
    columns = [row["name"] for row in await clickhouse.rows(f"DESCRIBE {_FLOOR}")]
    seconds = 0.0
    for start in range(0, count, batch):
        query = page.format(table=_FILLED, start=start, end=start + batch)
        block = await asyncio.to_thread(client.raw_query, query, fmt="Native")
        started = time.perf_counter()
        await clickhouse.insert(_FLOOR, columns, block, "Native", {"async_insert": 0})
        seconds += time.perf_counter() - started
    await _check_and_drop(clickhouse, _FLOOR, count)
    await clickhouse.command(f"DROP TABLE {_FILLED}")
    return count / seconds


async def _avro_insertion(clickhouse: ClickHouse, values: list[bytes]) -> float:
    blocks = list(_blocks(values))
    await clickhouse.command(f"CREATE TABLE {_FLOOR} AS gyre.router_interactions_v1")
    started = time.perf_counter()
    for block, columns in blocks:
        await clickhouse.insert(_FLOOR, columns, block, "Avro", {"async_insert": 0})
    seconds = time.perf_counter() - started
    await _check_and_drop(clickhouse, _FLOOR, len(values))
    return len(values) / seconds


async def _check_and_drop(clickhouse: ClickHouse, table: str, count: int) -> None:
    (stored,) = await clickhouse.rows(f"SELECT count() AS n FROM {table}")  # noqa: S608 - our own table
    assert stored["n"] == count, "the floor has lost rows"
    await clickhouse.command(f"DROP TABLE {table}")


async def _until_signed(clickhouse: ClickHouse, count: int) -> None:
    deadline, signed = time.monotonic() + 60, 0
    while time.monotonic() < deadline and signed < count:
        rows = await clickhouse.rows(
            "SELECT max(rows) AS signed FROM gyre.checkpoints WHERE startsWith(chain, {topic:String}) GROUP BY chain",
            {"topic": str(Topic.INTERACTIONS)},
        )
        signed = sum(row["signed"] for row in rows)
        await asyncio.sleep(0.5)
    if signed < count:
        raise SystemExit(f"only {signed:,} of {count:,} rows were signed within 60 s")


def _verify(database: ClickHouseSettings, key: SigningKey) -> tuple[int, float, int]:
    """Exports and verifies; returns rows, seconds of processor, and how much more memory verifying took at most."""
    with tempfile.TemporaryDirectory(prefix="gyre-") as name:
        folder = Path(name) / "export"
        rows = sum(e.rows for e in export(folder, database.url, database.user, database.password.get_secret_value()))
        before = psutil.Process().memory_info().rss
        with _used(os.getpid()) as used:
            bad = [finding for finding in verify(folder, [key.verifying]) if finding.bad]
        assert not bad, bad
        return rows, used.cpu_seconds, max(used.peak_bytes - before, 0)


async def _send(kafka: KafkaSettings, values: list[bytes]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=20, compression_type="lz4")
    async with producer:
        for start in range(0, len(values), 5000):
            sent = [
                await producer.send(str(Topic.INTERACTIONS), value, key=b"%d" % (start + number))
                for number, value in enumerate(values[start : start + 5000])
            ]
            await asyncio.gather(*sent)


async def _until_stored(clickhouse: ClickHouse, count: int) -> float:
    """Waits for all rows and returns how many a second came after those that were there first."""
    first, started, deadline = 0, 0.0, time.monotonic() + 600
    while time.monotonic() < deadline:
        (row,) = await clickhouse.rows("SELECT count() AS n FROM gyre.router_interactions_v1")
        if row["n"] and not first:
            first, started = row["n"], time.perf_counter()
        if row["n"] == count:
            return float((count - first) / (time.perf_counter() - started))
        await asyncio.sleep(0.25)  # asking costs what is measured too
    raise SystemExit(f"only {row['n']:,} of {count:,} rows were stored within 600 s")


@contextmanager
def _audit(kafka: KafkaSettings, clickhouse: ClickHouseSettings, key: SigningKey) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "GYRE_KAFKA_PARTITIONS": str(kafka.partitions),
        "GYRE_CLICKHOUSE_URL": clickhouse.url,
        "GYRE_CLICKHOUSE_USER": clickhouse.user,
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
        "GYRE_AUDIT_SIGNING_KEYS": key.secret(),
        "GYRE_AUDIT_CHECKPOINT_SECONDS": "2",
        "GYRE_AUDIT_GRPC_PORT": str(free_ports(1)[0]),
        "GYRE_TELEMETRY_LOG_LEVEL": "WARNING",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.audit"], env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class _Usage:
    """What a process used meanwhile: at most so much memory (resident), and so much processor time."""

    peak_bytes: int = 0
    cpu_seconds: float = 0.0

    def per(self, rows: int) -> str:
        return f"{self.cpu_seconds / rows * 1e6:5.1f} us of processor a row, {self.peak_bytes / _MIB:,.0f} MiB"


@contextmanager
def _used(pid: int) -> Iterator[_Usage]:
    process, usage, stop = psutil.Process(pid), _Usage(), threading.Event()
    before = sum(process.cpu_times()[:2])

    def sample() -> None:
        while not stop.wait(0.1):
            usage.peak_bytes = max(usage.peak_bytes, process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield usage
    finally:
        usage.cpu_seconds = sum(process.cpu_times()[:2]) - before
        stop.set()
        thread.join()


if __name__ == "__main__":
    main()
