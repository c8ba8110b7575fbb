"""Faults put into a real ClickHouse engine and the record that a real audit keeps in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from msgspec.structs import replace as changed
from pydantic import SecretStr

from embedded.stack import Stack
from gyre.doctor.installation import Installation
from schemas import clickhouse as ddl
from schemas.events import Label
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from services.audit.settings import Settings as AuditSettings
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from tests.integration.audit.record import eventually
from tests.integration.audit.story import story
from tests.integration.doctor.conftest import causes, delete, installation_of, make, remedy
from tests.integration.service_process import ServiceProcess

LABEL = next(event for _, event in story()[1] if isinstance(event, Label))
LATER = Clock(now=lambda: datetime.now(UTC) + timedelta(minutes=10))


@dataclass
class Record:
    """A running audit, and the installation that it is part of."""

    audit: ServiceProcess
    at: Installation
    database: ClickHouse
    told: dict[str, list[str]]  # before audit had made its tables, and before it had a key

    def starting(self, **settings: str) -> None:
        """Have it start again with other settings."""
        self.audit.stop()
        self.audit._environment.update({f"GYRE_AUDIT_{name.upper()}": value for name, value in settings.items()})
        self.audit.start()

    async def has(self, count: int, where: str) -> None:
        """Wait until so many rows are there."""

        async def there() -> bool:
            return (await self.database.rows(f"SELECT count() AS rows FROM gyre.{where}"))[0]["rows"] >= count

        await eventually(there, 120)  # a busy machine takes its time to start audit


@pytest.fixture(scope="session")
async def record(lab: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Record]:
    installation = await installation_of(lab)
    key = SigningKey.generate("gyre-audit").secret()
    environment = {
        "GYRE_AUDIT_CHECKPOINT_SECONDS": "0.3",
        "GYRE_AUDIT_DRIFT_SHARE": "0",
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": installation.kafka.bootstrap_servers,
        "GYRE_KAFKA_PARTITIONS": str(installation.kafka.partitions),
        "GYRE_CLICKHOUSE_URL": installation.clickhouse.url,
        "GYRE_CLICKHOUSE_PASSWORD": installation.clickhouse.password.get_secret_value(),
    }
    database, told = ClickHouse(installation.clickhouse), await causes(installation, "tables", "signatures")
    with ServiceProcess("audit", tmp_path_factory.mktemp("audit") / "log", environment) as audit:
        await audit.serving(120)
        at = replace(installation, services={"audit": audit.target}, audit=AuditSettings(signing_keys=SecretStr(key)))
        record = Record(audit, at, database, told)
        await send(at, "l-0")
        await record.has(1, "triage_labels_v1 WHERE label_id = 'l-0'")
        told |= await causes(replace(at, audit=AuditSettings()), "signing-key")
        record.starting(signing_keys=key)
        await record.has(1, "audit_checkpoints_v1 WHERE chain LIKE 'triage.labels.v1/%'")
        yield record
    await database.close()


async def send(at: Installation, label_id: str) -> None:
    async with Producer(at.kafka) as producer:
        await producer.send(Topic.LABELS, changed(LABEL, label_id=label_id))


async def test_clickhouse_away_is_told_once(installation: Installation) -> None:
    away = replace(
        installation,
        clickhouse=installation.clickhouse.model_copy(update={"url": "http://127.0.0.1:9"}),
        services={"audit": "127.0.0.1:9"},
    )
    found = await causes(away, "signatures", "clocks", "clickhouse-disks")
    assert found == {"clickhouse": ["ClickHouse at http://127.0.0.1:9 does not answer."]}


async def test_a_wrong_password_is_told_from_a_server_that_is_away(installation: Installation) -> None:
    wrong = replace(installation, clickhouse=installation.clickhouse.model_copy(update={"password": SecretStr("no")}))
    assert await causes(wrong, "signatures", "clocks") == {
        "clickhouse": [
            f"ClickHouse at {wrong.clickhouse.url} refuses the user audit: the password is wrong, or there is no such "
            "user."
        ]
    }
    assert "GYRE_CLICKHOUSE_PASSWORD" in await remedy(wrong, "clickhouse")


async def test_a_clock_that_differs_from_clickhouses_is_told(installation: Installation) -> None:
    (cause,) = (await causes(replace(installation, clock=LATER), "clocks"))["clocks"]
    assert cause == "ClickHouse's clock is 600 s behind this machine's."
    assert await causes(installation, "clocks", "clickhouse-disks") == {}


async def test_a_record_whose_tables_audit_has_not_made_and_one_that_nobody_signs_are_told(record: Record) -> None:
    assert record.told == {
        "tables": ["The tables of the record were never made."],
        "signing-key": ["Nothing of the record is signed, so nobody can be shown that it is untouched."],
    }


async def test_tables_that_are_gone_and_statements_that_are_not_applied_are_named(record: Record) -> None:
    assert await causes(record.at, "tables") == {}
    database, files = record.database, ddl.migrations()
    await database.command("DROP VIEW gyre.interactions")
    (cause,) = (await causes(record.at, "tables"))["tables"]
    assert cause == "gyre.interactions of 0013_views.sql is gone from ClickHouse."
    for statement in files[12].statements:
        await database.command(statement)

    insert = (
        "INSERT INTO gyre.schema_versions (number, name, digest) SELECT {number:UInt32}, {name:String}, {digest:String}"
    )
    await database.command(insert, {"number": files[13].number, "name": "x", "digest": "x"})
    assert (await causes(record.at, "tables"))["tables"] == [f"{files[13].name} of schemas/clickhouse is not applied."]
    await database.command(insert, {"number": 9999, "name": "x", "digest": "x"})
    (cause,) = (await causes(record.at, "tables"))["tables"]
    assert cause.startswith("The record was made by a newer Gyre: schemas/clickhouse/9999")
    await database.command("TRUNCATE TABLE gyre.schema_versions")
    for file in files:
        row = {"number": file.number, "name": file.name, "digest": file.digest}
        await database.command(insert, row)
    assert await causes(record.at, "tables") == {}


async def test_a_record_that_another_key_signed_is_told_without_the_key(record: Record) -> None:
    assert await causes(record.at, "signing-key") == {}
    other = AuditSettings(signing_keys=SecretStr(SigningKey.generate("gyre-audit").secret()))
    (cause,) = (await causes(replace(record.at, audit=other), "signatures"))["signing-key"]
    assert "which is not among the keys that audit has now" in cause
    assert "PRIVATE" not in cause


async def test_rows_that_are_not_signed_are_told_from_a_chain_that_is_broken(record: Record) -> None:
    record.starting(checkpoint_seconds="1000000")
    await record.audit.serving(120)
    await send(record.at, "l-2")
    await record.has(1, "triage_labels_v1 WHERE label_id = 'l-2'")
    later = replace(record.at, clock=LATER)
    (cause,) = (await causes(later, "signatures"))["signatures"]
    assert "triage.labels.v1/" in cause
    assert "are not signed" in cause

    ((row),) = await record.database.rows(
        "SELECT _partition, _offset FROM gyre.triage_labels_v1 WHERE label_id = 'l-2'"
    )
    await record.database.command(
        "ALTER TABLE gyre.triage_labels_v1 UPDATE _payload = 'forged' WHERE label_id = 'l-2' "
        "SETTINGS mutations_sync = 1"
    )
    record.starting(checkpoint_seconds="0.3")
    await record.audit.serving(120)
    (cause,) = (await causes(later, "signatures"))["signatures"]
    assert cause.startswith(f"The chain triage.labels.v1/{row['_partition']} is broken at offset {row['_offset']} (")
    assert cause.endswith("and not signed any more.")


async def test_a_topic_that_was_made_anew_beneath_its_record_is_told(
    record: Record, admin: AIOKafkaAdminClient
) -> None:
    await send(record.at, "l-9")
    await record.has(1, "triage_labels_v1 WHERE label_id = 'l-9'")
    assert await causes(record.at, "agreement") == {}
    await delete(admin, Topic.LABELS)
    await make(admin, Topic.LABELS, record.at)
    (cause,) = (await causes(record.at, "agreement"))["agreement"]
    assert cause.startswith(f"Kafka is older than the record: {Topic.LABELS}/")
