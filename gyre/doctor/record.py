"""The record: ClickHouse, its tables, its disk and clock, and whether what is in it is signed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from gyre.api.audit.v1 import audit_pb2, audit_pb2_grpc
from gyre.doctor.checks import Check, Finding, error, warning
from gyre.doctor.installation import Installation
from gyre.doctor.machine import FREE_SHARE, LEAST_FREE_BYTES
from schemas import clickhouse as ddl
from schemas.ledger.notes import InvalidKeyError, SigningKey, VerifyingKey
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.errors import Rejected, Retryable
from services.runtime.rpc import channel

# Audit signs a row within a minute; a chain that is behind by more has stopped.
UNSIGNED = timedelta(minutes=5)
SKEW_SECONDS = 5.0
_RPC_SECONDS = 60.0
_ACCESS_DENIED = {"516", "192", "193", "194"}  # AUTHENTICATION_FAILED, UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD
_CREATED = re.compile(
    r"CREATE (?:TABLE|MATERIALIZED VIEW) IF NOT EXISTS gyre\.(\w+)|CREATE OR REPLACE VIEW gyre\.(\w+)"
)


@asynccontextmanager
async def clickhouse_of(at: Installation) -> AsyncIterator[ClickHouse]:
    """Give a client, connected when it is first used."""
    client = ClickHouse(at.clickhouse)
    try:
        yield client
    finally:
        await client.close()


async def _probe_server(at: Installation) -> str:
    async with clickhouse_of(at) as client:
        try:
            await client.rows("SELECT 1")
        except (Retryable, Rejected) as failure:
            return str(failure)
    return ""


def judge_server(at: Installation, why: str) -> Iterator[Finding]:
    """Say why ClickHouse does not answer, if there is a reason."""
    if not why:
        return
    user, url = at.clickhouse.user, at.clickhouse.url
    if set(re.findall(r"(?i)code: (\d+)", why)) & _ACCESS_DENIED or "Authentication failed" in why:
        yield error(
            f"ClickHouse at {url} refuses the user {user}: the password is wrong, or there is no such user.",
            "Its users are written when the stack starts: gyre down && gyre up."
            if at.is_embedded
            else f"Set GYRE_CLICKHOUSE_PASSWORD to that of GYRE_CLICKHOUSE_USER={user}, for audit too, or give the "
            f"user another: ALTER USER {user} IDENTIFIED BY '...'.",
        )
        return
    yield error(
        f"ClickHouse at {url} does not answer.",
        "Start it: gyre up."
        if at.is_embedded
        else f"Start it, or say where it is: GYRE_CLICKHOUSE_URL is {at.clickhouse.url}.",
    )


@dataclass(frozen=True)
class Schema:
    """What ClickHouse says of its tables.

    Attributes:
        applied: The digest of each numbered file that audit has applied; None where that table is missing.
        tables: Tables and views that there are.
    """

    applied: Mapping[int, str] | None
    tables: Collection[str]


async def _probe_tables(at: Installation) -> Schema:
    async with clickhouse_of(at) as client:
        rows = await client.rows(
            "SELECT name FROM system.tables WHERE database = {name:String}", {"name": ddl.DATABASE}
        )
        tables = {row["name"] for row in rows}
        if "schema_versions" not in tables:
            return Schema(None, tables)
        rows = await client.rows("SELECT number, digest FROM gyre.schema_versions FINAL")
        return Schema({row["number"]: row["digest"] for row in rows}, tables)


def judge_tables(at: Installation, found: Schema) -> Iterator[Finding]:
    """Say which of schemas/clickhouse is not in ClickHouse."""
    restart = f"Audit applies them when it starts: {at.restart}."
    if found.applied is None:
        yield error("The tables of the record were never made.", restart)
        return
    files = ddl.migrations()
    if newer := found.applied.keys() - {file.number for file in files}:
        yield error(
            f"The record was made by a newer Gyre: schemas/clickhouse/{max(newer):04d} is not in this one.",
            "Install that version again; audit of this one would not fill what it does not know.",
        )
        return
    late = [file.name for file in files if found.applied.get(file.number) != file.digest]
    if late:
        yield error(
            f"{', '.join(late[:3])} of schemas/clickhouse {'is' if len(late) == 1 else 'are'} not applied.", restart
        )
    for file in files:
        names = [name for pair in _CREATED.findall(file.text) for name in pair if name]
        gone = [name for name in names if name not in found.tables]
        if gone and found.applied.get(file.number) == file.digest:
            yield error(
                f"{', '.join(f'gyre.{name}' for name in gone)} of {file.name} {'is' if len(gone) == 1 else 'are'} gone "
                "from ClickHouse.",
                "Restore what was in it from a backup, or have it made empty: ALTER TABLE gyre.schema_versions DELETE "
                f"WHERE number = {file.number}, then {at.restart}.",
            )


@dataclass(frozen=True)
class ServerDisk:
    """A disk of ClickHouse's own, in bytes."""

    name: str
    free: int
    total: int


async def _probe_server_disks(at: Installation) -> list[ServerDisk] | None:
    if at.is_embedded:  # it is this machine's
        return None
    async with clickhouse_of(at) as client:
        rows = await client.rows("SELECT name, free_space AS free, total_space AS total FROM system.disks")
    return [ServerDisk(row["name"], row["free"], row["total"]) for row in rows]


def judge_server_disks(_at: Installation, found: Sequence[ServerDisk]) -> Iterator[Finding]:
    """Say which are nearly full."""
    for disk in found:
        if disk.total and disk.free < max(LEAST_FREE_BYTES, FREE_SHARE * disk.total):
            yield error(
                f"ClickHouse's disk {disk.name} is nearly full: {disk.free / 2**30:.1f} of "
                f"{disk.total / 2**30:.0f} GiB are left.",
                "Make its volume larger; see what is large: SELECT table, formatReadableSize(sum(bytes_on_disk)) FROM "
                "system.parts WHERE active GROUP BY table ORDER BY sum(bytes_on_disk) DESC.",
            )


async def _probe_clock(at: Installation) -> float:
    async with clickhouse_of(at) as client:
        await client.rows("SELECT 1")  # connected
        before = at.clock.now()
        ((row),) = await client.rows("SELECT toUnixTimestamp64Micro(now64(6)) AS now")
        after = at.clock.now()
    middle = before + (after - before) / 2
    return (datetime.fromtimestamp(row["now"] / 1e6, tz=UTC) - middle).total_seconds()


def judge_clock(_at: Installation, ahead_seconds: float) -> Iterator[Finding]:
    """Say how far ClickHouse's clock is off, ahead of this machine's or behind it."""
    if abs(ahead_seconds) > SKEW_SECONDS:
        way = "ahead of" if ahead_seconds > 0 else "behind"
        yield error(
            f"ClickHouse's clock is {abs(ahead_seconds):,.0f} s {way} this machine's.",
            "Set both by NTP: timedatectl set-ntp true.",
        )


@dataclass(frozen=True)
class Signed:
    """By whom the newest checkpoints are signed.

    Attributes:
        rows: Whether there is anything to sign.
        key_ids: Keys of the newest checkpoint of each chain.
    """

    rows: bool
    key_ids: Collection[str]


async def _probe_signed(at: Installation) -> Signed:
    async with clickhouse_of(at) as client:
        ((row),) = await client.rows(
            "SELECT sum(total_rows) AS rows FROM system.tables WHERE database = {name:String} "
            "AND name IN {of:Array(String)}",
            {"name": ddl.DATABASE, "of": [ddl.table(topic) for topic in Topic if topic is not Topic.CHECKPOINTS]},
        )
        keys = await client.rows(
            "SELECT DISTINCT key_id FROM (SELECT chain, argMax(key_id, last_offset) AS key_id "
            "FROM gyre.audit_checkpoints_v1 WHERE _error = '' GROUP BY chain)"
        )
    return Signed(bool(row["rows"]), {each["key_id"] for each in keys})


def judge_signed(at: Installation, found: Signed) -> Iterator[Finding]:
    """Say whether the record is signed, by a key that there still is."""
    told, former = at.audit.signing_keys.get_secret_value().split(), at.audit.former_keys.split()
    try:
        ours = [SigningKey.parse(text).verifying.label for text in told]
        known = {*ours, *(VerifyingKey.parse(text).label for text in former)}
    except InvalidKeyError as failure:
        yield error(
            f"GYRE_AUDIT_SIGNING_KEYS or GYRE_AUDIT_FORMER_KEYS holds no key: {failure}.",
            "Put back the one that gyre audit keygen wrote, or make a new one and give the old public key as a former.",
        )
        return
    if not told:
        if at.is_embedded and found.key_ids:
            yield error(
                f"The signing key {_listed(found.key_ids)} is gone from this machine.",
                "Restore it from a backup (gyre restore); else put its public key into GYRE_AUDIT_FORMER_KEYS and let "
                "gyre up make a new one.",
            )
        elif found.rows and not found.key_ids:
            yield warning(
                "Nothing of the record is signed, so nobody can be shown that it is untouched.",
                "Make a key and give it to audit in GYRE_AUDIT_SIGNING_KEYS: gyre audit keygen audit.key.",
            )
        return
    if other := set(found.key_ids) - known:
        yield error(
            f"Checkpoints are signed by {_listed(other)}, which is not among the keys that audit has now: it will sign "
            "no chain that it cannot follow.",
            "Give audit that key again in GYRE_AUDIT_SIGNING_KEYS, or its public key in GYRE_AUDIT_FORMER_KEYS, and "
            f"restart it: {at.restart}.",
        )


@dataclass(frozen=True)
class Unsigned:
    """A chain with rows that nobody has signed for too long.

    Attributes:
        chain: topic/partition.
        rows: How many.
        since: When the first of them was written.
        broken: What is wrong with the chain, if audit could be asked and says that it is broken.
        offset: Where.
    """

    chain: str
    rows: int
    since: datetime
    broken: str = ""
    offset: int = 0


async def _probe_unsigned(at: Installation) -> list[Unsigned] | None:
    found = []
    async with clickhouse_of(at) as client:
        signed = {
            row["chain"]: row["last"]
            for row in await client.rows(
                "SELECT chain, max(last_offset) AS last FROM gyre.audit_checkpoints_v1 WHERE _error = '' GROUP BY chain"
            )
        }
        if not signed:
            return None
        until = at.clock.now() - UNSIGNED
        for topic in (each for each in Topic if each is not Topic.CHECKPOINTS):
            last = {
                int(chain.rpartition("/")[2]): offset
                for chain, offset in signed.items()
                if chain.startswith(f"{topic}/")
            }
            rows = await client.rows(
                "SELECT _partition AS partition, count() AS rows, toUnixTimestamp64Milli(min(_timestamp)) AS since "
                "FROM gyre.{table:Identifier} WHERE toInt64(_offset) > transform(_partition, "
                "{partitions:Array(UInt32)}, {last:Array(Int64)}, toInt64(-1)) "
                "AND _timestamp < fromUnixTimestamp64Milli({until:Int64}) "
                "GROUP BY _partition",
                {
                    "table": ddl.table(topic),
                    "partitions": [0, *last],
                    "last": [last.get(0, -1), *last.values()],
                    "until": int(until.timestamp() * 1000),
                },
            )
            for row in rows:
                since = datetime.fromtimestamp(row["since"] / 1000, tz=UTC)
                found.append(Unsigned(f"{topic}/{row['partition']}", row["rows"], since))
    return [await _verified(at, each) for each in found]


async def _verified(at: Installation, unsigned: Unsigned) -> Unsigned:
    from grpc.aio import AioRpcError

    topic, _, partition = unsigned.chain.rpartition("/")
    if "audit" not in at.services:
        return unsigned
    request = audit_pb2.VerifyRequest(topic=topic, partition=int(partition))
    try:
        async with channel(at.services["audit"]) as to:
            stub: Any = audit_pb2_grpc.AuditStub(to)
            verdict = await stub.Verify(request, timeout=_RPC_SECONDS)
    except AioRpcError:  # it is too large to be gone through now
        return unsigned
    if verdict.intact:
        return unsigned
    return Unsigned(unsigned.chain, unsigned.rows, unsigned.since, verdict.reason, verdict.first_bad_offset)


def judge_unsigned(at: Installation, found: Sequence[Unsigned]) -> Iterator[Finding]:
    """Say which chains are broken, or not signed any more."""
    for each in found:
        if each.broken:
            yield error(
                f"The chain {each.chain} is broken at offset {each.offset} ({each.broken}), and not signed any more.",
                "Somebody changed the record, or it was restored in part: keep everything as it is, see how far it "
                "goes (gyre audit export DIR, gyre audit verify DIR --key KEY), and restore it from a backup.",
            )
    whole = [each for each in found if not each.broken]
    if whole:
        oldest = min(whole, key=lambda each: each.since)
        yield error(
            f"{sum(each.rows for each in whole):,} rows of {_listed([each.chain for each in whole])} are not signed, "
            f"the oldest since {oldest.since:%Y-%m-%d %H:%M} UTC.",
            f"See in audit's log why it does not sign, and restart it: {at.restart}.",
        )


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


CHECKS = [
    Check("clickhouse", "ClickHouse answers, and knows who asks", _probe_server, judge_server),
    Check(
        "clickhouse-disks",
        "there is room on ClickHouse's disks",
        _probe_server_disks,
        judge_server_disks,
        after=("clickhouse",),
    ),
    Check("clocks", "ClickHouse's clock and this machine's agree", _probe_clock, judge_clock, after=("clickhouse",)),
]
# Behind the services.
RECORD_CHECKS = [
    # Audit makes them when it starts.
    Check(
        "tables",
        "every table and view of the record is there",
        _probe_tables,
        judge_tables,
        after=("clickhouse", "audit"),
    ),
    Check(
        "signing-key",
        "the record is signed with a key that audit has",
        _probe_signed,
        judge_signed,
        after=("tables",),
    ),
    Check(
        "signatures",
        "every chain of the record is whole and signed",
        _probe_unsigned,
        judge_unsigned,
        after=("tables", "signing-key"),
    ),
]
