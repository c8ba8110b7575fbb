from contextlib import AsyncExitStack

from gyre.api.audit.v1 import audit_pb2_grpc
from services.audit.adapters import ClickHouseLedger
from services.audit.consumer import Recorder
from services.audit.drift.watch import Promise, Watch
from services.audit.erasing import Eraser
from services.audit.servicer import AuditServicer
from services.audit.settings import Settings
from services.audit.signing import Keys
from services.audit.watcher import Watcher
from services.runtime import telemetry
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.runtime.errors import Fatal
from services.runtime.rpc import Registration
from services.runtime.service import Service
from services.runtime.settings import ClickHouseSettings, KafkaSettings


async def build(stack: AsyncExitStack) -> Service:
    """Wire audit. It connects to Kafka and ClickHouse once it runs, so that it can wait for either."""
    settings = Settings()
    clickhouse = ClickHouse(ClickHouseSettings())
    stack.push_async_callback(clickhouse.close)
    clock = Clock()
    ledger = ClickHouseLedger(clickhouse, clock)
    keys = Keys.parse(settings.signing_keys.get_secret_value(), settings.former_keys)
    eraser = Eraser(ledger, signed=bool(keys.signing))
    kafka = KafkaSettings()
    recorder = Recorder(kafka, settings, ledger, keys, eraser, clock)
    loops = [recorder.run, eraser.run]
    if settings.drift_share:
        watcher = _watcher(settings, kafka, clock)
        loops += [watcher.follow_bundles, watcher.run]
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
        loops=loops,
        ready=[recorder.ready],
    )


def _watcher(settings: Settings, kafka: KafkaSettings, clock: Clock) -> Watcher:
    try:
        embed = Embedder(settings.models_dir).embed
    except Fatal as error:  # the record comes first
        telemetry.log().warning("questions are not watched by what they are about", error=str(error))
        embed = None
    promise = Promise(settings.drift_requests_per_false_alarm, settings.drift_parts, settings.drift_streams)
    return Watcher(kafka, settings.drift_share, Watch(promise, embed, clock.chance), clock)
