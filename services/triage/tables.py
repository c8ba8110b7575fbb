"""Faust tables whose changes belong to the transaction of the records that made them."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import faust
import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types import TP
from faust.types.transports import ConsumerT
from rocksdict import WriteBatch

from services.runtime.kafka import MAX_RECORD_BYTES, connection, create_topics
from services.runtime.settings import KafkaSettings
from services.triage.batches import BatchTransport

R = TypeVar("R", bound=msgspec.Struct)
Row = tuple[bytes, bytes | None]
"""A key and its value; none where it is removed."""
MAX_BATCH_BYTES = 1024 * 1024
# Of each table and partition, in memory. Faust's own would be up to 192 MiB and 2 GiB, and rows are read once or twice.
BUFFER_BYTES, CACHE_BYTES = 4 * 1024 * 1024, 8 * 1024 * 1024


class Table(Generic[R]):
    """Rows by key, kept in RocksDB and in a compacted changelog topic, `gyre-triage-<name>-changelog`.

    Agents change rows, of one partition at a time, and `write` then writes what was changed. Only `get` knows before.
    """

    def __init__(self, app: Any, name: str, row: type[R], kafka: KafkaSettings) -> None:
        self._rows = app.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=kafka.partitions,
            options={"write_buffer_size": BUFFER_BYTES, "block_cache_size": CACHE_BYTES},
        )
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(row)
        self._changed: dict[str, R | None] = {}

    def get(self, key: str, partition: int) -> R | None:
        """Return the row of a key."""
        if key in self._changed:
            return self._changed[key]
        value = self._database(partition).get(key.encode())
        return None if value is None else self._decoder.decode(value)

    def items(self) -> Iterator[tuple[str, R]]:
        """Yield every row of this process' partitions with its key, in the keys' order within a partition."""
        for key, value in self._rows.data.items():
            yield key.decode(), self._decoder.decode(value)

    def put(self, key: str, row: R) -> None:
        """Change a row."""
        self._changed[key] = row

    def delete(self, key: str) -> None:
        """Remove a row."""
        self._changed[key] = None

    def changes(self) -> tuple[str, list[Row]]:
        """Return what was changed since `apply`, the last of each row, and the topic where that goes."""
        changed = self._changed.items()
        rows = [(key.encode(), None if row is None else self._encoder.encode(row)) for key, row in changed]
        return self._rows.changelog_topic.get_topic_name(), rows

    def apply(self, rows: Iterable[Row], partition: int) -> None:
        """Change the copy on disk."""
        batch = WriteBatch(raw_mode=True)
        for key, value in rows:
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        self._database(partition).write(batch)
        self._changed.clear()

    def scrub(self, partition: int) -> None:
        """Take what was overwritten or removed out of a partition's files, in which RocksDB leaves it for a time."""
        database = self._rows.data._dbs.get(partition)
        if database is not None:  # it may have gone to another process
            database.flush()
            database.compact_range(None, None)

    def on_recovered(self, callback: Any) -> None:
        """Call an asynchronous function whenever the rows of the partitions at hand have been read."""
        self._rows.on_recover(callback)

    def _database(self, partition: int) -> Any:
        # Rows are kept as their changelog has them, which is how Faust puts them there when it reads them anew.
        return self._rows.data._db_for_partition(partition)


async def write(app: Any, partition: int, records: Mapping[str, Sequence[Row]], tables: Iterable[Table[Any]]) -> None:
    """Write records and what was changed in tables in the open transaction of a partition.

    `table[key] = value` would put a change into a buffer that a commit does not wait for, so that a crash could lose it
    though its record counts as handled. Here all is sent at once, in few requests, and on return it is acknowledged.

    Args:
        app: As `app` returns it.
        partition: Of the records that the agent is at.
        records: By topic.
        tables: Those that may have changed.
    """
    changes = [(table, *table.changes()) for table in tables]
    sent: list[asyncio.Future[Any]] = []
    for topic, rows in [*records.items(), *((topic, rows) for _, topic, rows in changes)]:
        if rows:
            sent += await _send(app, topic, rows, partition)
    await asyncio.gather(*sent)
    for table, _, rows in changes:
        if rows:
            table.apply(rows, partition)


async def _send(app: Any, topic: str, rows: Sequence[Row], partition: int) -> list[asyncio.Future[Any]]:
    # One by one they would take Faust and aiokafka several times as long as deciding about them did.
    producer = app.producer._transaction_producers[f"{app.conf.id}-{app.assignor.group_for_topic(topic)}-{partition}"]
    batch, sent = producer.create_batch(), []
    for key, value in rows:
        if batch.append(timestamp=None, key=key, value=value) is None:  # it is full
            sent.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(timestamp=None, key=key, value=value)
    sent.append(await producer.send_batch(batch, topic, partition=partition))
    return sent


async def end_transactions(app: Any, *_: Any, **__: Any) -> None:
    """End what partitions were written with, as they are revoked: each that is then assigned is written with a new one.

    Faust keeps the producer of a partition that went to another process. When it comes back, the other's has fenced it.
    """
    for transactional_id in list(app.producer._transaction_producers):
        await app.producer.stop_transaction(transactional_id)


async def ensure_changelogs(app: Any, kafka: KafkaSettings) -> None:
    """Create the changelog topics that are missing.

    Left to Faust they appear after the group has been joined, and what is written until the next rebalance is refused.
    """
    admin = AIOKafkaAdminClient(**connection(kafka))
    await admin.start()
    try:
        present = await admin.list_topics()
        missing = [
            NewTopic(
                name=name,
                num_partitions=kafka.partitions,
                replication_factor=kafka.replication_factor,
                topic_configs={"cleanup.policy": "compact", "max.message.bytes": str(2 * MAX_RECORD_BYTES)},
            )
            for name in app.tables.changelog_topics
            if name not in present
        ]
        await create_topics(admin, missing)
    finally:
        await admin.close()


class _Recovery(Recovery):
    """Reads tables to their end, and then lets records flow from where the group stands.

    With transactions Faust takes the end of a changelog from the consumer's memory, which holds none before the first
    fetch: tables then pass for complete while they are empty. And it lets records flow before it goes back to where the
    group stands: what is fetched in between may be dropped, and counts as handled once a later record does.
    """

    async def _build_highwaters(self, consumer: ConsumerT, tps: set[TP], destination: Counter[TP], title: str) -> None:
        conf = self.app.conf
        kafka = AIOKafkaConsumer(
            bootstrap_servers=[url.authority for url in conf.broker_consumer],
            isolation_level="read_committed",
            **credentials_to_aiokafka_auth(conf.broker_credentials),
        )
        await kafka.start()
        try:
            ends = await kafka.end_offsets(list(tps)) if tps else {}
        finally:
            await kafka.stop()
        destination.clear()
        # The last offset is the marker of the transaction that wrote the record before it.
        destination.update({tp: max(ends[tp] - 2, -1) for tp in tps})

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        consumer: Any = self.app.consumer
        resume = consumer.resume_partitions
        held: set[Any] = set()
        consumer.resume_partitions = held.update
        try:
            await super().on_recovery_completed(generation_id)
        finally:
            consumer.resume_partitions = resume
        resume(held & consumer.assignment())


class _Tables(TableManager):
    """Reads every table anew after a rebalance.

    A rebalance may abort the open transactions, but what they wrote stays in RocksDB: records that are then read again
    would look handled already.
    """

    @property
    def recovery(self) -> Recovery:
        if self._recovery is None:
            self._recovery = _Recovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        for table in self.values():
            table.reset_state()
        self.recovery.active_offsets.clear()
        await super().on_rebalance(assigned, revoked, newly_assigned, generation_id)


def _credentials(kafka: KafkaSettings) -> Credentials | None:
    """Return what Faust hands to its clients for what `connection` gives to others."""
    told = connection(kafka)
    if kafka.has_identity:
        return SASLCredentials(
            username=told["sasl_plain_username"],
            password=told["sasl_plain_password"],
            ssl_context=told.get("ssl_context"),
            mechanism=told["sasl_mechanism"],
        )
    return SSLCredentials(told["ssl_context"]) if kafka.is_encrypted else None


def app(name: str, kafka: KafkaSettings, data_dir: str) -> Any:
    """Return a Faust app that handles records and changes its tables in Kafka transactions.

    Args:
        name: Its consumer group, and the prefix of its topics.
        kafka: Where Kafka is.
        data_dir: Where RocksDB keeps the tables.
    """
    made = faust.App(
        name,
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=_credentials(kafka),
        datadir=data_dir,
        store="rocksdb://",
        processing_guarantee="exactly_once",
        # Partitions of a killed process stand still for as long as this.
        broker_session_timeout=8.0,
        broker_heartbeat_interval=2.0,
        # Edge cases and labels are seen by others when their transaction commits.
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        producer_max_request_size=2 * MAX_RECORD_BYTES,
        producer_max_batch_size=MAX_BATCH_BYTES,
        topic_partitions=kafka.partitions,
        topic_replication_factor=kafka.replication_factor,
        topic_disable_leader=True,
        topic_allow_declare=False,  # all are there before it starts: `ensure_topics`, `ensure_changelogs`
        TableManager=_Tables,
        web_enabled=False,
    )
    made.transport = BatchTransport(made.conf.broker_consumer, made)
    made.in_worker = True  # without it Faust takes itself for a mere client and uses no transactions
    return made
