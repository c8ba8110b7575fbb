from contextlib import AsyncExitStack

from gyre.api.audit.v1 import audit_pb2_grpc
from services.audit.adapters import ClickHouseLedger
from services.audit.consumer import Recorder
from services.audit.erasing import Eraser
from services.audit.servicer import AuditServicer
from services.audit.settings import Settings
from services.audit.signing import Keys
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import ClickHouseSettings, KafkaSettings


async def build(stack: AsyncExitStack) -> Service:
    """Wire audit. It connects to Kafka and ClickHouse once it runs, so that it can wait for either."""
    settings = Settings()
    clickhouse = ClickHouse(ClickHouseSettings())
    stack.push_async_callback(clickhouse.close)
    ledger = ClickHouseLedger(clickhouse)
    keys = Keys.parse(settings.signing_keys.get_secret_value(), settings.former_keys)
    eraser = Eraser(ledger, signed=bool(keys.signing))
    kafka, clock = KafkaSettings(), Clock()
    recorder = Recorder(kafka, settings, ledger, keys, eraser, clock)
    return Service(
        name="audit",
        settings=settings,
        servicers=[
            Registration(
                audit_pb2_grpc.add_AuditServicer_to_server,
                AuditServicer(ledger, keys, kafka, clock),
                "gyre.api.audit.v1.Audit",
            )
        ],
        loops=[recorder.run, eraser.run],
        ready=[recorder.ready],
    )
