"""Faust's consumer, as it hands out batches."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaError
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

from services.runtime.settings import KafkaSettings
from services.triage import tables
from services.triage.batches import MOST_RECORDS, Batch, BatchConsumer
from services.triage.domain.selection import Selector

TRAFFIC, CHANGELOG = TP("traffic", 0), TP("app-rows-changelog", 0)


@pytest.fixture
async def consumer(tmp_path: Any) -> BatchConsumer:
    app = tables.app("app", KafkaSettings(bootstrap_servers="nowhere:1", partitions=1), str(tmp_path))
    app.Table("rows", key_type=bytes, value_type=bytes, partitions=1)
    app.topics._acking_topics.add("traffic")
    found = app.consumer
    assert isinstance(found, BatchConsumer)
    return found


def _records(tp: TP, *offsets: int) -> list[Any]:
    return [
        SimpleNamespace(topic=tp.topic, partition=tp.partition, offset=each, timestamp=5000, timestamp_type=0)
        for each in offsets
    ]


def _batch(consumer: BatchConsumer, *offsets: int) -> Batch:
    message = consumer._to_message(TRAFFIC, _records(TRAFFIC, *offsets))
    assert isinstance(message, Batch)
    return message


async def test_what_is_fetched_of_a_topic_is_handed_out_in_parts_and_changelogs_by_the_record(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    many, few = _records(TRAFFIC, *range(MOST_RECORDS + 3)), _records(CHANGELOG, 1, 2)

    async def fetched(*_: Any) -> Any:
        return {TRAFFIC: many, CHANGELOG: few}

    monkeypatch.setattr(Consumer, "_getmany", fetched)
    found = await consumer._getmany(None, 1.0)
    assert [len(each) for each in found[TRAFFIC]] == [MOST_RECORDS, 3]
    assert [record for part in found[TRAFFIC] for record in part] == many
    assert found[CHANGELOG] == few


async def test_faust_goes_back_behind_what_was_on_its_way_and_that_is_of_the_partitions_that_were_asked_for(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_come, active, done = asyncio.Event(), {TRAFFIC}, []

    async def fetched(_: Any, asked: set[TP], timeout: float) -> Any:  # noqa: ASYNC109 - Faust's own
        await has_come.wait()
        done.append(f"fetched of {len(asked)}")
        return {}

    async def gone_back(_: Any) -> None:
        done.append("gone back")

    monkeypatch.setattr(Consumer, "_getmany", fetched)
    monkeypatch.setattr(Consumer, "perform_seek", gone_back)
    fetching = asyncio.create_task(consumer._getmany(active, 1.0))
    going_back = asyncio.create_task(consumer.perform_seek())
    await asyncio.sleep(0)
    active.clear()
    has_come.set()
    await asyncio.gather(fetching, going_back)
    assert done == ["fetched of 1", "gone back"]


async def test_a_batch_stands_where_its_last_record_does(consumer: BatchConsumer) -> None:
    batch = _batch(consumer, 3, 4, 5)
    assert (batch.tp, batch.offset, batch.timestamp) == (TRAFFIC, 5, 5.0)
    assert [each.offset for each in batch.records] == [3, 4, 5]


async def test_of_a_batch_that_begins_before_where_faust_goes_on_the_rest_is_handed_out(
    consumer: BatchConsumer,
) -> None:
    consumer._read_offset[TRAFFIC] = 5
    assert [each.offset for each in _batch(consumer, 3, 4, 5, 6).records] == [5, 6]


async def test_what_is_committed_is_behind_the_last_batch_that_was_handled(consumer: BatchConsumer) -> None:
    assert consumer._new_offset(TRAFFIC) is None
    first, second, third = _batch(consumer, 3, 4), _batch(consumer, 5, 9), _batch(consumer, 10)
    for each in (first, second):
        consumer.ack(each)
    assert consumer._new_offset(TRAFFIC) == 10
    assert consumer._new_offset(TRAFFIC) is None
    consumer.ack(third)
    assert consumer._new_offset(TRAFFIC) == 11


async def test_nothing_is_committed_while_a_batch_is_written(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed = []

    async def commit(*_: Any) -> bool:
        committed.append(True)
        return True

    monkeypatch.setattr(Consumer, "force_commit", commit)
    async with consumer.writing():
        committing = asyncio.create_task(consumer.force_commit())
        await asyncio.sleep(0)
        assert not committed
    assert await committing
    assert committed


@pytest.mark.parametrize("reason", [KafkaError(), asyncio.CancelledError()])
async def test_after_a_batch_that_was_written_in_part_nothing_is_committed_any_more(
    consumer: BatchConsumer, monkeypatch: pytest.MonkeyPatch, reason: BaseException
) -> None:
    async def commit(*_: Any) -> bool:
        raise AssertionError("committed")

    monkeypatch.setattr(Consumer, "force_commit", commit)
    with pytest.raises(type(reason)):
        async with consumer.writing():
            raise reason
    assert not await consumer.force_commit()


class Produced:
    """A transactional producer of aiokafka's that takes two records a request."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, list[tuple[bytes, bytes | None]]]] = []
        self.acknowledged: list[asyncio.Future[None]] = []

    def create_batch(self) -> Any:
        rows: list[Any] = []

        def append(*, timestamp: None, key: bytes, value: bytes | None) -> Any:
            return None if len(rows) == 2 else rows.append((key, value)) or len(rows)

        return SimpleNamespace(append=append, rows=rows)

    async def send_batch(self, batch: Any, topic: str, *, partition: int) -> asyncio.Future[None]:
        self.sent.append((topic, partition, batch.rows))
        self.acknowledged.append(asyncio.get_running_loop().create_future())
        return self.acknowledged[-1]


async def test_what_partitions_were_written_with_ends_as_they_are_revoked(tmp_path: Any) -> None:
    app, stopped = tables.app("app", KafkaSettings(bootstrap_servers="nowhere:1"), str(tmp_path)), []

    async def stop() -> None:
        stopped.append(True)

    app.producer._transaction_producers = {f"app-0-{partition}": SimpleNamespace(stop=stop) for partition in range(2)}
    await tables.end_transactions(app, {TRAFFIC})
    assert stopped == [True, True]
    assert app.producer._transaction_producers == {}


async def test_rows_change_when_all_that_came_of_a_batch_is_acknowledged(tmp_path: Any) -> None:
    kafka, produced = KafkaSettings(bootstrap_servers="nowhere:1", partitions=4), Produced()
    app = tables.app("app", kafka, str(tmp_path))
    app.assignor._topic_groups = {"cases": 0, "app-rows-changelog": 0}
    app.producer._transaction_producers = {"app-0-3": produced}
    rows = tables.Table(app, "rows", Selector, kafka)
    for number in range(3):
        rows.put("a", Selector(seen=number))
    rows.put("b", Selector(seen=7))
    rows.delete("c")
    writing = asyncio.create_task(tables.write(app, 3, {"cases": [(b"r1", b"case")]}, [rows]))
    await asyncio.sleep(0.01)
    assert [(topic, partition, [key for key, _ in sent]) for topic, partition, sent in produced.sent] == [
        ("cases", 3, [b"r1"]),
        ("app-rows-changelog", 3, [b"a", b"b"]),
        ("app-rows-changelog", 3, [b"c"]),
    ]
    assert produced.sent[2][2] == [(b"c", None)]
    assert rows._database(3).get(b"a") is None
    for each in produced.acknowledged:
        each.set_result(None)
    await writing
    assert (rows.get("a", 3), rows.get("b", 3), rows.get("c", 3)) == (Selector(seen=2), Selector(seen=7), None)
    assert rows._database(3).get(b"a") == produced.sent[1][2][0][1]
    assert rows.changes()[1] == []


async def test_rows_do_not_change_where_something_is_not_acknowledged(tmp_path: Any) -> None:
    kafka, produced = KafkaSettings(bootstrap_servers="nowhere:1", partitions=4), Produced()
    app = tables.app("app", kafka, str(tmp_path))
    app.assignor._topic_groups = {"app-rows-changelog": 0}
    app.producer._transaction_producers = {"app-0-0": produced}
    rows = tables.Table(app, "rows", Selector, kafka)
    rows.put("a", Selector())
    writing = asyncio.create_task(tables.write(app, 0, {}, [rows]))
    await asyncio.sleep(0.01)
    produced.acknowledged[0].set_exception(KafkaError())
    with pytest.raises(KafkaError):
        await writing
    assert rows._database(0).get(b"a") is None
