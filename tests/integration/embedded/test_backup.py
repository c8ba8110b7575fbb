"""A rehearsal: a stack that is filled, backed up, destroyed, and restored elsewhere, on other ports."""

from __future__ import annotations

import asyncio
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from click.testing import CliRunner
from msgspec.structs import replace

from embedded.environment import audit_signing_keys, clickhouse_password
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.cli import main
from schemas.events import Label
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.settings import ClickHouseSettings, KafkaSettings
from tests.integration.audit.record import eventually
from tests.integration.audit.story import story
from tests.integration.service_process import ServiceProcess

GROUP, READ = "gyre-serving", TopicPartition(str(Topic.CANDIDATES), 0)


@contextmanager
def running(state_dir: Path) -> Iterator[Stack]:
    """Kafka and ClickHouse, without the rest of the stack."""
    stack = Stack(Settings(state_dir=state_dir, ports=stack_ports()))
    stack.start(("kafka", "clickhouse"))
    try:
        yield stack
    finally:
        stack.stop()


@contextmanager
def audited(stack: Stack, log: Path) -> Iterator[ServiceProcess]:
    """Audit, told what `gyre up` would tell it."""
    environment = {
        "GYRE_AUDIT_SIGNING_KEYS": audit_signing_keys(stack.settings),
        "GYRE_AUDIT_CHECKPOINTS_FILE": str(stack.settings.state_dir / "audit" / "checkpoints"),
        "GYRE_AUDIT_CHECKPOINT_SECONDS": "0.3",
        "GYRE_AUDIT_DRIFT_SHARE": "0",
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka_of(stack).bootstrap_servers,
        "GYRE_CLICKHOUSE_URL": clickhouse_of(stack).url,
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(stack.settings, "audit"),
    }
    with ServiceProcess("audit", log, environment) as process:
        yield process


def kafka_of(stack: Stack) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"))


def clickhouse_of(stack: Stack) -> ClickHouseSettings:
    return ClickHouseSettings(
        url=f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        password=clickhouse_password(stack.settings, "audit"),  # type: ignore[arg-type]
    )


async def signed(stack: Stack, label_id: str) -> None:
    """Wait until a label is on record and a checkpoint covers it."""
    database = ClickHouse(clickhouse_of(stack))

    async def there() -> bool:
        return bool(
            await database.rows(
                "SELECT 1 FROM gyre.triage_labels_v1 AS label JOIN gyre.audit_checkpoints_v1 AS checkpoint "
                "ON checkpoint.chain = concat('triage.labels.v1/', toString(label._partition)) "
                "WHERE label.label_id = {id:String} AND checkpoint.last_offset >= toInt64(label._offset)",
                {"id": label_id},
            )
        )

    try:
        await eventually(there, 180)  # a busy machine takes its time
    finally:
        await database.close()


async def topics(stack: Stack) -> dict[Any, list[Any]]:
    """Every committed record of every topic, with its offset, time, key and value."""
    found: dict[Any, list[Any]] = {}
    async with AIOKafkaConsumer(bootstrap_servers=kafka_of(stack).bootstrap_servers) as consumer:
        names = [*Topic, *(topic.dead_letters for topic in Topic)]
        consumer._client.set_topics(names)
        await consumer._client.force_metadata_update()
        places = [TopicPartition(name, each) for name in names for each in consumer.partitions_for_topic(name)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for place, messages in (await consumer.getmany(timeout_ms=100)).items():
                found.setdefault(place, []).extend((m.offset, m.timestamp, m.key, m.value) for m in messages)
        return {place: (ends[place], found.get(place, [])) for place in places}


async def committed(stack: Stack) -> dict[Any, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_of(stack).bootstrap_servers)
    await admin.start()
    try:
        return {place: each.offset for place, each in (await admin.list_consumer_group_offsets(GROUP)).items()}
    finally:
        await admin.close()


async def gyre(*arguments: object) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.timeout(900)  # two starts of the parts and of audit, and a machine may be busy
async def test_a_stack_that_is_destroyed_is_restored_elsewhere_and_goes_on_where_it_was(tmp_path: Path) -> None:
    old, new, backup, export = (tmp_path / name for name in ("old", "new", "backup", "export"))
    _, records = story()
    label = next(event for _, event in records if isinstance(event, Label))
    with running(old) as stack:
        key = str(SigningKey.parse(audit_signing_keys(stack.settings)).verifying)
        with audited(stack, tmp_path / "log") as audit:
            await audit.serving(120)
            async with Producer(kafka_of(stack)) as producer:
                for topic, event in records:
                    await producer.send(topic, event)
            reader = AIOKafkaConsumer(bootstrap_servers=kafka_of(stack).bootstrap_servers, group_id=GROUP)
            async with reader:
                reader.assign([READ])
                await reader.commit({READ: 1})
            await signed(stack, label.label_id)
        (stack.settings.artifacts_dir / "adapter").write_bytes(b"weights")
        refused = await asyncio.to_thread(CliRunner().invoke, main, ["backup", str(backup), "--state-dir", str(old)])
        assert "stop it first: gyre down" in refused.output
        before, read_until = await topics(stack), await committed(stack)
    assert read_until == {READ: 1}
    await gyre("backup", backup, "--state-dir", old)
    shutil.rmtree(old)

    await gyre("restore", backup, "--state-dir", new)
    with running(new) as stack:
        assert await topics(stack) == before
        assert await committed(stack) == read_until
        assert (stack.settings.artifacts_dir / "adapter").read_bytes() == b"weights"
        with audited(stack, tmp_path / "log") as audit:
            await audit.serving(120)
            later = replace(label, label_id=str(uuid.uuid4()))
            async with Producer(kafka_of(stack)) as producer:
                await producer.send(Topic.LABELS, later)
            await signed(stack, later.label_id)
        url = clickhouse_of(stack).url
        result = await asyncio.to_thread(
            CliRunner().invoke,
            main,
            ["audit", "export", str(export), "--url", url],
            env={"GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(stack.settings, "audit")},
        )
        assert result.exit_code == 0, result.output
    kept = new / "audit" / "checkpoints"
    said = await gyre("audit", "verify", export, "--key", key, "--checkpoints", kept)
    assert "rows are as they were recorded and signed" in said
