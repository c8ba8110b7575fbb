"""The audit service as a process of its own, on a real broker and a real ClickHouse engine."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from gyre.api.audit.v1 import audit_pb2_grpc
from schemas.ledger.notes import SigningKey
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.rpc import channel
from services.runtime.settings import ClickHouseSettings, KafkaSettings
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
