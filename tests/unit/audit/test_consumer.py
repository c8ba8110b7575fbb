"""Who holds a partition, while the group shares them out anew."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

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
    message = SimpleNamespace(topic=PARTITION.topic, partition=0, offset=0, timestamp=0, key=b"k", value=b"not avro")
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


async def test_a_record_that_is_tried_again_and_again_is_one_dead_letter() -> None:
    producer: Any = FakeDeadLetters()
    letters = _Once(producer)
    for offset in (3, 3, 4, 3, 4, 5):
        record = Record(Topic.FEEDBACK, 0, offset, 0, b"k", b"not avro")
        await letters.send_dead_letter(Topic.FEEDBACK, record.dead("audit", "no Avro", Clock()))
    assert [letter.offset for letter in producer.letters] == [3, 4, 5]
