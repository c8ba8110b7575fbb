"""Who holds a partition, while the group shares them out anew."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from schemas.events import Checkpoint
from schemas.ledger.merkle import Tree
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from services.audit.consumer import Recorder, _Once
from services.audit.domain import Chain, Row
from services.audit.erasing import Eraser
from services.audit.settings import Settings
from services.audit.signing import Keys
from services.runtime.clock import Clock
from services.runtime.kafka import Record
from services.runtime.settings import KafkaSettings
from tests.unit.audit.fakes import FakeDeadLetters, FakeLedger

PARTITION = TopicPartition(str(Topic.FEEDBACK), 0)


class SlowLedger(FakeLedger):
    """Stores when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.let = asyncio.Event()

    async def append(self, rows: Sequence[Row], attempt: int = 0) -> None:
        self.asked.set()
        await self.let.wait()
        await super().append(rows, attempt)


@pytest.mark.parametrize("goes", [False, True])
async def test_a_partition_that_goes_while_its_rows_are_stored_has_to_be_placed_again(goes: bool) -> None:
    ledger = SlowLedger()
    recorder = Recorder(KafkaSettings(), Settings(), ledger, Keys(), Eraser(ledger, signed=False), Clock())
    message = SimpleNamespace(
        topic=PARTITION.topic, partition=0, offset=0, timestamp=0, headers=(), key=b"k", value=b"not avro"
    )
    ends = {PARTITION: 1}
    # aiokafka answers nothing about a partition that is gone.
    consumer: Any = SimpleNamespace(highwater=lambda partition: ends[partition], assignment=lambda: set(ends))
    letters: Any = FakeDeadLetters()
    recorder._chains[PARTITION] = Chain()
    keeping = asyncio.create_task(recorder._keep(letters, consumer, PARTITION, [message]))
    await ledger.asked.wait()
    if goes:
        recorder.forget([PARTITION])
        del ends[PARTITION]
    ledger.let.set()
    await keeping
    assert (PARTITION in recorder._chains) is not goes
    assert [row.record.offset for row in ledger.rows[Topic.FEEDBACK, 0]] == [0]


class FakeConsumer:
    """What aiokafka has fetched of each partition."""

    def __init__(self, fetched: dict[TopicPartition, int]) -> None:
        self.fetched = {
            partition: [
                SimpleNamespace(
                    topic=partition.topic, partition=partition.partition, offset=offset, timestamp=0, headers=()
                )
                for offset in range(count)
            ]
            for partition, count in fetched.items()
        }
        for message in [each for messages in self.fetched.values() for each in messages]:
            message.key, message.value = b"k", b"not avro"

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int = 0, max_records: int
    ) -> dict[TopicPartition, list[Any]]:
        await asyncio.sleep(0)
        taken = {}
        for partition in self.fetched:
            if partition in partitions and max_records and (messages := self.fetched[partition][:max_records]):
                del self.fetched[partition][:max_records]
                taken[partition] = messages
                max_records -= len(messages)
        return taken

    def highwater(self, partition: TopicPartition) -> int:
        return 0

    def assignment(self) -> set[TopicPartition]:
        return {*self.fetched}


async def test_each_partition_is_one_insert_and_some_are_stored_side_by_side() -> None:
    ledger, partitions = SlowLedger(), [TopicPartition(str(Topic.FEEDBACK), number) for number in range(5)]
    settings = Settings(batch_records=4, flush_seconds=0)
    recorder = Recorder(KafkaSettings(), settings, ledger, Keys(), Eraser(ledger, signed=False), Clock())
    recorder._chains.update((partition, Chain()) for partition in partitions)
    consumer: Any = FakeConsumer(dict.fromkeys(partitions, 6))
    letters: Any = FakeDeadLetters()
    for _ in range(2):
        await recorder._read(letters, consumer)
    third = asyncio.create_task(recorder._read(letters, consumer))
    await asyncio.sleep(0.01)
    # Four each, none cut off for another's sake, and no more of them before one is stored.
    assert [len(consumer.fetched[partition]) for partition in partitions] == [2, 2, 6, 6, 6]
    ledger.let.set()
    await third
    while any(consumer.fetched.values()) or recorder._work:
        recorder._settle()
        await recorder._read(letters, consumer)
    for partition in partitions:
        rows = ledger.rows[Topic.FEEDBACK, partition.partition]
        assert [row.record.offset for row in rows] == [*range(6)]


async def test_what_nobody_expected_of_one_partition_ends_the_reading() -> None:
    class FailingLedger(FakeLedger):
        async def append(self, rows: Sequence[Row], attempt: int = 0) -> None:
            raise ZeroDivisionError

    ledger = FailingLedger()
    recorder = Recorder(KafkaSettings(), Settings(), ledger, Keys(), Eraser(ledger, signed=False), Clock())
    recorder._chains[PARTITION] = Chain()
    consumer: Any = FakeConsumer({PARTITION: 1})
    letters: Any = FakeDeadLetters()
    with pytest.raises(ZeroDivisionError):
        for _ in range(3):
            recorder._settle()
            await recorder._read(letters, consumer)


class FakeEvents:
    """What was told."""

    def __init__(self) -> None:
        self.sent: list[Checkpoint] = []

    async def send(self, topic: Topic, event: Checkpoint) -> None:
        self.sent.append(event)


async def test_a_chain_is_signed_between_its_batches() -> None:
    ledger, keys = SlowLedger(), Keys([SigningKey.generate("audit")])
    settings = Settings(batch_records=2, flush_seconds=0, checkpoint_seconds=0)
    recorder = Recorder(KafkaSettings(), settings, ledger, keys, Eraser(ledger, signed=True), Clock())
    recorder._chains[PARTITION] = Chain(tree=Tree())
    consumer: Any = FakeConsumer({PARTITION: 3})
    letters: Any = FakeDeadLetters()
    events: Any = FakeEvents()
    ledger.let.set()
    await recorder._read(letters, consumer)
    await recorder._work[PARTITION]
    recorder._settle()
    ledger.let.clear()
    await recorder._read(letters, consumer)
    await recorder._sign(events)
    assert not events.sent, "it was signed while it was extended, and one of the two is lost"
    ledger.let.set()
    await recorder._work[PARTITION]
    recorder._settle()
    await recorder._sign(events)
    assert [(event.last_offset, event.tree_size) for event in events.sent] == [(2, 3)]
    assert (recorder._chains[PARTITION].head.offset, recorder._chains[PARTITION].unsigned) == (2, 0)


async def test_a_record_that_is_tried_again_and_again_is_one_dead_letter() -> None:
    producer: Any = FakeDeadLetters()
    letters = _Once(producer)
    for offset in (3, 3, 4, 3, 4, 5):
        record = Record(Topic.FEEDBACK, 0, offset, 0, b"k", b"not avro")
        await letters.send_dead_letter(Topic.FEEDBACK, record.dead("audit", "no Avro", Clock()))
    assert [letter.offset for letter in producer.letters] == [3, 4, 5]
