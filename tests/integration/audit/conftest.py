"""The audit service as a process of its own, on a real broker and a real ClickHouse engine."""

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from msgspec.structs import replace
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.stack import Stack
from gyre.api.audit.v1 import audit_pb2_grpc
from schemas.events import Label
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.rpc import channel
from services.runtime.settings import ClickHouseSettings, KafkaSettings
from tests.integration.audit.record import eventually
from tests.integration.audit.story import story
from tests.integration.service_process import ServiceProcess


@pytest.fixture(scope="session")
def kafka_settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=kafka, partitions=2)


@pytest.fixture(scope="session")
def signing_key() -> SigningKey:
    return SigningKey.generate("gyre-audit")


@pytest.fixture(scope="session")
def kept_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that audit writes checkpoints to as well."""
    return tmp_path_factory.mktemp("kept") / "checkpoints"


@pytest.fixture(scope="session")
def audit_environment(
    kafka_settings: KafkaSettings, clickhouse: ClickHouseSettings, signing_key: SigningKey, kept_checkpoints: Path
) -> dict[str, str]:
    return {
        "GYRE_AUDIT_SIGNING_KEYS": signing_key.secret(),
        "GYRE_AUDIT_CHECKPOINT_SECONDS": "0.5",
        "GYRE_AUDIT_CHECKPOINTS_FILE": str(kept_checkpoints),
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka_settings.bootstrap_servers,
        "GYRE_KAFKA_PARTITIONS": str(kafka_settings.partitions),
        "GYRE_CLICKHOUSE_URL": clickhouse.url,
        "GYRE_CLICKHOUSE_USER": clickhouse.user,
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse.password.get_secret_value(),
    }


@pytest.fixture(scope="session")
def audit_process(
    audit_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServiceProcess]:
    log = tmp_path_factory.mktemp("audit") / "log"
    with ServiceProcess("audit", log, audit_environment) as process:
        yield process
        assert process.stop() == 0, log.read_text()[-2000:]


@pytest.fixture
async def audit(audit_process: ServiceProcess) -> AsyncIterator[Any]:
    """A stub of the running service."""
    await audit_process.serving()
    async with channel(audit_process.target) as to:
        stub: Any = audit_pb2_grpc.AuditStub(to)
        yield stub


@pytest.fixture(scope="session")
async def database(clickhouse: ClickHouseSettings) -> AsyncIterator[ClickHouse]:
    client = ClickHouse(clickhouse)
    yield client
    await client.close()


@pytest.fixture(scope="session")
async def producer(kafka_settings: KafkaSettings) -> AsyncIterator[Producer]:
    async with Producer(kafka_settings) as producer:
        yield producer


@pytest.fixture(scope="session")
async def raw_producer(kafka_settings: KafkaSettings) -> AsyncIterator[AIOKafkaProducer]:
    """Sends bytes as they are, for what no service of ours would send."""
    async with AIOKafkaProducer(bootstrap_servers=kafka_settings.bootstrap_servers, max_batch_size=1 << 20) as producer:
        yield producer


@pytest.fixture(scope="session")
async def analyst(stack: Stack, clickhouse: ClickHouseSettings) -> AsyncIterator[ClickHouse]:
    password = SecretStr(clickhouse_password(stack.settings, "analyst"))
    client = ClickHouse(clickhouse.model_copy(update={"user": "analyst", "password": password}))
    yield client
    await client.close()


@pytest.fixture(scope="session")
async def told(audit_process: Any, database: ClickHouse, producer: Producer) -> dict[str, str]:
    """The ids of one request's way through the loop that is on record."""
    await audit_process.serving()
    request_id, records = story()
    label = next(event for _, event in records if isinstance(event, Label))
    other = str(uuid.uuid4())
    twice = [replace(label, request_id=other, expert=expert, label_id=str(uuid.uuid4())) for expert in ("e-1", "e-2")]
    for topic, event in [*records, *((Topic.LABELS, each) for each in twice)]:
        await producer.send(topic, event)
    candidate_id = next(event.candidate_id for topic, event in records if topic is Topic.CANDIDATES)  # type: ignore[attr-defined]

    async def complete() -> bool:
        rows = await database.rows("SELECT 1 FROM gyre.lineage WHERE request_id = {id:String}", {"id": request_id})
        outcomes = await database.rows("SELECT 1 FROM gyre.outcomes WHERE request_id = {id:String}", {"id": request_id})
        rest = await database.rows(
            "SELECT 1 FROM gyre.agreement, gyre.review_actions, gyre.incidents WHERE kind = 'drift'"
        )
        return len(rows) == 10 and len(outcomes) == 1 and bool(rest)

    await eventually(complete)
    return {"request_id": request_id, "candidate_id": candidate_id, "label_id": label.label_id}
