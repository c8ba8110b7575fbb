"""Interactions on their way into the record, while all that they pass through fails: 100,000 for `make chaos`.

What comes next is decided by how many rows are stored, never by the clock, so that each fault falls into traffic.
What was sent is counted in Kafka, what was stored in ClickHouse, each without audit.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from msgspec.structs import replace
from pydantic import SecretStr

from embedded.clickhouse.users import create_users_file
from embedded.environment import clickhouse_password
from embedded.ports import free_ports, stack_ports
from embedded.settings import HOST, Settings
from embedded.stack import Stack
from embedded.supervision import Supervisor
from gyre.api.audit.v1 import audit_pb2_grpc
from schemas.codecs import codec
from schemas.topics import Topic
from services.audit.adapters import ClickHouseLedger
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.errors import Retryable, ServiceError
from services.runtime.kafka import MAX_RECORD_BYTES, ensure_topics, until_answered
from services.runtime.rpc import channel
from services.runtime.settings import ClickHouseSettings, KafkaSettings
from tests.chaos.extent import IS_WHOLE
from tests.disks import filled
from tests.integration.audit.record import assert_every_chain_is_intact, eventually
from tests.integration.audit.story import interaction
from tests.integration.service_process import ServiceProcess

pytestmark = pytest.mark.timeout(900)

COUNT = 100_000 if IS_WHOLE else 30_000
# Each fault has so many to itself, so that there is traffic for the last one too.
AHEAD = COUNT // 16
BATCH = 500
PARTITIONS = 4
STILL_SECONDS = 120.0
DISK_BYTES = 1 << 30
DISK_FILES = 20_000
LITTLE_ROOM = 64 << 20
# Far more than audit may hold at once.
LARGE, LARGE_BYTES = 2000, 120_000
TOPIC = Topic.INTERACTIONS
EVENT = interaction("")


def kafka_at(stack: Stack) -> str:
    return stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT")


async def send(stack: Stack, names: Sequence[str], answer: str = "") -> AsyncIterator[Sequence[str]]:
    """Send an interaction for each name, once; yields names that have been acknowledged."""
    encode = codec(TOPIC).encode
    # A batch is tried for as long as the broker may be away; the producer being idempotent, it is written once.
    async with AIOKafkaProducer(
        bootstrap_servers=kafka_at(stack),
        enable_idempotence=True,
        request_timeout_ms=int(STILL_SECONDS * 1000),
        max_request_size=2 * MAX_RECORD_BYTES,
        compression_type="lz4",
    ) as producer:
        for start in range(0, len(names), BATCH):
            batch = names[start : start + BATCH]
            acknowledgements = [
                await producer.send(
                    str(TOPIC), encode(replace(EVENT, request_id=name, answer=answer)), key=name.encode()
                )
                for name in batch
            ]
            await asyncio.gather(*acknowledgements)
            yield batch


class Ingestion:
    """Kafka and ClickHouse under their supervisor, two replicas of audit, and a sender."""

    def __init__(self, stack: Stack, replicas: tuple[ServiceProcess, ServiceProcess], database: ClickHouse) -> None:
        self._stack = stack
        self._supervisor = Supervisor(stack.settings)
        self.replicas = replicas
        self.database = database
        self.acknowledged: set[str] = set()
        self._stored = 0
        self._allowed = AHEAD

    async def stored(self) -> int:
        """How many rows there are, as far as can be seen: none before audit has made the tables."""
        with suppress(ServiceError, TimeoutError):
            async with asyncio.timeout(2):
                rows = await self.database.rows("SELECT count() AS n FROM gyre.router_interactions_v1")
                self._stored = rows[0]["n"]
        return self._stored

    async def until_stored(self, count: int) -> None:
        """Wait until there are so many rows."""
        await eventually(lambda: self._holds(count), STILL_SECONDS)

    async def _holds(self, count: int) -> bool:
        return await self.stored() >= count

    async def flow(self, count: int) -> None:
        """Send until so many rows are stored, and some more beyond them."""
        self._allowed = min(count + AHEAD, COUNT)
        await self.until_stored(count)
        self._allowed = min(self._stored + AHEAD, COUNT)

    async def _is_full(self) -> bool:
        return len(self.acknowledged) >= self._allowed

    async def send(self) -> None:
        """Send every interaction once, as far as is allowed."""
        names = [f"chaos-{number}" for number in range(COUNT)]
        async for acknowledged in send(self._stack, names):
            self.acknowledged.update(acknowledged)
            while self._allowed <= len(self.acknowledged) < COUNT:
                await asyncio.sleep(0.05)

    def pid(self, part: str) -> int:
        """The process of Kafka or ClickHouse."""
        return self._supervisor.processes()[part].pid

    async def back(self, part: str) -> None:
        """Wait until the supervisor has a part ready again."""
        await asyncio.to_thread(self._stack.start, (part,))

    async def kill(self, part: str) -> None:
        """End Kafka or ClickHouse without warning."""
        os.kill(self.pid(part), signal.SIGKILL)
        await self.back(part)

    async def stop(self, part: str) -> None:
        """Stop Kafka or ClickHouse as an operator does."""
        self._supervisor.stop(part)
        await eventually(lambda: self._is_stopped(part))
        await self.back(part)

    async def _is_stopped(self, part: str) -> bool:
        return self._supervisor.processes()[part].state == "STOPPED"

    async def hold_clickhouse(self) -> None:
        """Have ClickHouse stand still until all that may be sent waits in Kafka."""
        pid = self.pid("clickhouse")
        os.kill(pid, signal.SIGSTOP)
        await eventually(self._is_full, STILL_SECONDS)
        os.kill(pid, signal.SIGCONT)

    async def kill_replica(self, which: int) -> None:
        """End a replica without warning; it is started anew at once."""
        self.replicas[which].kill()
        self.replicas[which].start()

    async def stop_replica(self, which: int) -> None:
        """Stop a replica as a deployment does, and start it when the other has gone on."""
        assert self.replicas[which].stop() == 0
        await self.until_stored(await self.stored() + AHEAD // 4)
        self.replicas[which].start()

    async def hold_replica(self, which: int) -> None:
        """Have a replica stand still, with what it was about to store, until the other has taken its partitions."""
        before = await self.offsets()
        self.replicas[which].signal(signal.SIGSTOP)
        await eventually(lambda: self._all_beyond(before), STILL_SECONDS)
        self.replicas[which].signal(signal.SIGCONT)

    async def _all_beyond(self, before: dict[int, int]) -> bool:
        now = await self.offsets()
        return all(now[partition] > offset + AHEAD // 8 for partition, offset in before.items())

    async def offsets(self) -> dict[int, int]:
        """The last row of each partition."""
        rows = await self.database.rows(
            "SELECT _partition AS partition, max(_offset) AS last FROM gyre.router_interactions_v1 GROUP BY partition"
        )
        return {row["partition"]: row["last"] for row in rows}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(Settings(state_dir=tmp_path_factory.mktemp("state"), ports=stack_ports()))
    stack.start(("kafka", "clickhouse"))
    yield stack
    stack.stop()


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[Stack]:
    """A broker with nothing else in it: the small disk is to hold what this test sends."""
    stack = Stack(Settings(state_dir=tmp_path / "kafka", ports=stack_ports()))
    stack.start(("kafka",))
    yield stack
    stack.stop()


def audit(stack: Stack, database: ClickHouseSettings, log: Path) -> ServiceProcess:
    """A replica of audit."""
    environment = {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka_at(stack),
        "GYRE_KAFKA_PARTITIONS": str(PARTITIONS),
        "GYRE_AUDIT_DRIFT_SHARE": "0",  # the record alone
        "GYRE_CLICKHOUSE_URL": database.url,
        "GYRE_CLICKHOUSE_PASSWORD": database.password.get_secret_value(),
    }
    return ServiceProcess("audit", log, environment)


@pytest.fixture
async def ingestion(stack: Stack, tmp_path: Path) -> AsyncIterator[Ingestion]:
    settings = ClickHouseSettings(
        url=f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        password=SecretStr(clickhouse_password(stack.settings, "audit")),
    )
    await ensure_topics(KafkaSettings(bootstrap_servers=kafka_at(stack), partitions=PARTITIONS))
    database = ClickHouse(settings)
    with audit(stack, settings, tmp_path / "first.log") as one, audit(stack, settings, tmp_path / "second.log") as two:
        yield Ingestion(stack, (one, two), database)
    await database.close()


@contextmanager
def small_clickhouse(folder: Path) -> Iterator[tuple[ClickHouseSettings, Path]]:
    """A ClickHouse on a disk of its own, in a mount namespace; yields the disk too, as it is reached from outside."""
    data, users, (port,) = folder / "data", folder / "users.json", free_ports(1)
    data.mkdir()
    password = create_users_file(users, {"audit": "small"})["audit"]
    own_disk = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={DISK_BYTES},nr_inodes={DISK_FILES} tmpfs '{data}'"
    if subprocess.run([*own_disk, mount], check=False).returncode != 0:
        pytest.skip("this machine lets nobody mount a disk, not even in a namespace of his own")
    environment = {
        "GYRE_EMBEDDED_CLICKHOUSE_PORT": str(port),
        "GYRE_EMBEDDED_CLICKHOUSE_DATA_DIR": str(data),
        "GYRE_EMBEDDED_CLICKHOUSE_USERS_FILE": str(users),
    }
    server = subprocess.Popen(
        [*own_disk, f'{mount} && exec "$@"', "sh", sys.executable, "-m", "embedded.clickhouse"],
        env={**os.environ, **environment},
    )
    try:
        settings = ClickHouseSettings(url=f"http://{HOST}:{port}", password=SecretStr(password))
        yield settings, Path(f"/proc/{server.pid}/root{data}")
    finally:
        server.terminate()
        server.wait(60)


def take_all_files(disk: Path, taken: list[Path]) -> None:
    """Leave room for too few files for a row, which a disk may run out of before it runs out of bytes."""
    with suppress(OSError):
        for number in itertools.count(len(taken)):
            (disk / f"filler-{number}").touch()
            taken.append(disk / f"filler-{number}")
    for _ in range(3):  # the request itself needs some
        taken.pop().unlink()


async def in_kafka(stack: Stack) -> list[tuple[int, int, str]]:
    """Every message that Kafka holds, as partition, offset and key."""
    found = []
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka_at(stack), auto_offset_reset="earliest", isolation_level="read_committed"
    ) as consumer:
        partitions = [TopicPartition(str(TOPIC), each) for each in range(PARTITIONS)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(each) < end for each, end in ends.items()]):
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                found += [(message.partition, message.offset, message.key.decode()) for message in messages]
        letters = TopicPartition(TOPIC.dead_letters, 0)
        assert (await consumer.end_offsets([letters]))[letters] == 0, "a good record became a dead letter"
    return found


async def assert_rows_equal_messages(stack: Stack, database: ClickHouse, replica: ServiceProcess) -> None:
    """Compare what Kafka and ClickHouse hold, one by one, and have every chain recomputed."""
    messages = await in_kafka(stack)
    rows = await database.rows(
        "SELECT _partition AS partition, _offset AS offset, request_id, _error FROM gyre.router_interactions_v1"
    )
    assert len(rows) == len(messages)
    assert {(row["partition"], row["offset"], row["request_id"]) for row in rows} == set(messages)
    assert {row["_error"] for row in rows} == {""}
    await replica.serving(STILL_SECONDS)
    async with channel(replica.target) as to:
        await assert_every_chain_is_intact(audit_pb2_grpc.AuditStub(to), database)


async def test_rows_equal_messages_exactly_whatever_is_killed_or_stopped(stack: Stack, ingestion: Ingestion) -> None:
    faults: list[Callable[[], Awaitable[None]]] = [
        lambda: ingestion.kill_replica(0),
        ingestion.hold_clickhouse,
        lambda: ingestion.kill_replica(1),
        lambda: ingestion.kill("clickhouse"),
        lambda: ingestion.kill_replica(0),
        lambda: ingestion.kill("kafka"),
        lambda: ingestion.kill_replica(1),
        lambda: ingestion.stop_replica(0),
        lambda: ingestion.stop("kafka"),
        lambda: ingestion.hold_replica(1),
        lambda: ingestion.stop("clickhouse"),
        lambda: ingestion.kill_replica(0),
    ]
    sending = asyncio.create_task(ingestion.send())
    for number, fault in enumerate(faults, 1):
        await asyncio.gather(*(replica.serving(STILL_SECONDS) for replica in ingestion.replicas))
        await ingestion.flow(number * COUNT * 9 // 10 // len(faults))
        await fault()
    await ingestion.flow(COUNT)
    await sending

    names = [name for _, _, name in await in_kafka(stack)]
    assert len(names) == COUNT
    assert set(names) == ingestion.acknowledged == {f"chaos-{number}" for number in range(COUNT)}
    await assert_rows_equal_messages(stack, ingestion.database, ingestion.replicas[0])


async def test_a_full_disk_is_waited_for_in_bounded_memory(own_broker: Stack, tmp_path: Path) -> None:
    stack, sent = own_broker, 0
    await ensure_topics(KafkaSettings(bootstrap_servers=kafka_at(stack), partitions=PARTITIONS))
    large = [f"large-{number}" for number in range(LARGE)]
    async for acknowledged in send(stack, large, answer=text(LARGE_BYTES)):
        sent += len(acknowledged)
    with small_clickhouse(tmp_path) as (settings, disk):
        database = ClickHouse(settings)
        await until_answered("ClickHouse", ClickHouseLedger(database, Clock()).prepare)
        with ExitStack() as full, audit(stack, settings, tmp_path / "log") as replica:
            full.enter_context(filled(disk))
            await replica.serving(STILL_SECONDS)
            before = replica.peak_memory_bytes()
            await eventually(lambda: says(replica, "NOT_ENOUGH_SPACE", 20), STILL_SECONDS)
            full.close()
            await eventually(lambda: holds(database, sent), STILL_SECONDS)
            held = replica.peak_memory_bytes() - before
            assert held < LARGE * LARGE_BYTES / 2, f"{held >> 20} MiB held of what waited"

            taken: list[Path] = []

            async def refused() -> bool:
                nonlocal sent
                take_all_files(disk, taken)  # again and again: ClickHouse removes what it has merged
                async for acknowledged in send(stack, ["late"]):
                    sent += len(acknowledged)
                return await says(replica, "No space left on device", 1)

            await eventually(refused, STILL_SECONDS)
            for each in taken:
                each.unlink()
            async for acknowledged in send(stack, ["largest"], answer=text(MAX_RECORD_BYTES - (1 << 16))):
                sent += len(acknowledged)
            await eventually(lambda: holds(database, sent), STILL_SECONDS)
            await assert_rows_equal_messages(stack, database, replica)
        await database.close()


async def test_clickhouse_takes_no_rows_while_its_disk_has_little_room(tmp_path: Path) -> None:
    with small_clickhouse(tmp_path) as (settings, disk):
        database = ClickHouse(settings)
        await until_answered("ClickHouse", ClickHouseLedger(database, Clock()).prepare)
        statistics = os.statvfs(disk)
        with (disk / "other").open("wb") as other:
            os.posix_fallocate(other.fileno(), 0, statistics.f_bavail * statistics.f_frsize - LITTLE_ROOM)
        rows = "INSERT INTO gyre.rollup_minutes (records) VALUES (1)"
        with pytest.raises(Retryable, match="NOT_ENOUGH_SPACE"):
            await database.command(rows)
        (disk / "other").unlink()
        await database.command(rows)
        await database.close()


def text(size: int) -> str:
    """So many characters that do not compress."""
    return random.Random(7).randbytes(size // 2).hex()


async def says(replica: ServiceProcess, text: str, times: int) -> bool:
    return replica.log.read_text().count(text) >= times


async def holds(database: ClickHouse, count: int) -> bool:
    with suppress(Retryable):
        rows = await database.rows("SELECT count() AS n FROM gyre.router_interactions_v1")
        return bool(rows[0]["n"] >= count)
    return False
