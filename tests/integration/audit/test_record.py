"""Everything that is sent is on record exactly once, whatever happens to audit, Kafka's records or ClickHouse."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import uuid
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from grpc import StatusCode
from grpc.aio import AioRpcError
from msgspec.structs import replace

from embedded.stack import Stack
from gyre.api.audit.v1 import audit_pb2
from schemas.codecs import codec, dead_letter_codec
from schemas.events import Interaction
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.settings import KafkaSettings
from tests.integration.audit.record import assert_every_chain_is_intact, eventually, miscounted
from tests.integration.audit.story import interaction, story
from tests.integration.service_process import ServiceProcess

if TYPE_CHECKING:  # exists for type checkers alone
    from gyre.api.audit.v1.audit_pb2_grpc import AuditAsyncStub

INTERACTIONS = str(Topic.INTERACTIONS)


async def stored(database: ClickHouse, conversation: str) -> int:
    rows = await database.rows(
        "SELECT count() AS n FROM gyre.router_interactions_v1 WHERE startsWith(request_id, {prefix:String})",
        {"prefix": conversation},
    )
    return int(rows[0]["n"])


async def test_an_interaction_is_there_with_every_field(
    audit: AuditAsyncStub, database: ClickHouse, producer: Producer
) -> None:
    sent = interaction(str(uuid.uuid4()))
    await producer.send(Topic.INTERACTIONS, sent)
    await eventually(lambda: is_stored(database, sent.request_id, 1))

    (row,) = await database.rows(
        "SELECT * FROM gyre.interactions WHERE request_id = {id:String}", {"id": sent.request_id}
    )

    assert row["answer"] == sent.answer
    assert row["received_at"].timestamp() == sent.received_at.timestamp()
    assert [(stage["name"], stage["duration_us"]) for stage in row["stages"]] == [
        (stage.name, stage.duration_us) for stage in sent.stages
    ]
    assert (row["mean_logprob"], row["sum_logprob"]) == (sent.mean_logprob, None)
    assert (row["bundle_version"], row["model"], row["model_version"]) == ("b-1", "small", "1")
    assert (row["state"], len(row["hash"])) == ("finished", 64)


async def is_stored(database: ClickHouse, prefix: str, count: int) -> bool:
    found = await stored(database, prefix)
    assert found <= count, "a record is there twice"
    return found == count


async def test_a_stream_that_never_ended_is_shown_as_unfinished_and_one_that_did_once(
    audit: AuditAsyncStub, database: ClickHouse, producer: Producer
) -> None:
    cut, whole = str(uuid.uuid4()), str(uuid.uuid4())
    await producer.send(Topic.INTERACTIONS, interaction(cut, phase="opened"))
    await producer.send(Topic.INTERACTIONS, interaction(whole, phase="opened"))
    await producer.send(Topic.INTERACTIONS, replace(interaction(whole), streamed=True))
    await eventually(lambda: is_stored(database, cut, 1))
    await eventually(lambda: is_stored(database, whole, 2))

    rows = await database.rows(
        "SELECT request_id, state FROM gyre.interactions WHERE request_id IN ({a:String}, {b:String})",
        {"a": cut, "b": whole},
    )
    assert {row["request_id"]: row["state"] for row in rows} == {cut: "unfinished", whole: "finished"}
    assert len(rows) == 2


async def test_a_record_that_cannot_be_decoded_is_kept_and_dead_lettered_and_its_neighbours_are_stored(
    audit: AuditAsyncStub,
    database: ClickHouse,
    raw_producer: AIOKafkaProducer,
    kafka_settings: KafkaSettings,
) -> None:
    marker = str(uuid.uuid4())
    encode = codec(Topic.INTERACTIONS).encode
    whole = encode(interaction(f"{marker}-forged"))
    bad = {
        "no wire format": b"\x07nonsense" + marker.encode(),
        "an unknown schema": b"\x00\x00\x00\x03\xe7" + marker.encode(),
        "cut off": encode(interaction(f"{marker}-cut"))[:-40],
        "followed by more": encode(interaction(f"{marker}-tail")) + bytes(64),
        "followed by a whole record": encode(interaction(f"{marker}-host")) + whole[5:],
        "nothing": b"",
    }
    batch = raw_producer.create_batch()
    good = 0
    for value in bad.values():
        for _ in range(3):
            assert batch.append(key=b"k", value=encode(interaction(f"{marker}-good-{good}")), timestamp=None)
            good += 1
        assert batch.append(key=marker.encode(), value=value, timestamp=None)
    await raw_producer.send_batch(batch, INTERACTIONS, partition=0)

    async def all_kept() -> bool:
        rows = await database.rows(
            "SELECT _payload, _error FROM gyre.router_interactions_v1 WHERE _key = {key:String}", {"key": marker}
        )
        assert all(row["_error"] for row in rows)
        return len(rows) == len(bad)

    await eventually(all_kept)
    # Only the good ones have fields: nothing of a record that cannot be decoded is taken for one.
    assert await stored(database, marker) == good
    kept = await database.rows(
        "SELECT hex(_payload) AS payload FROM gyre.router_interactions_v1 WHERE _key = {key:String}", {"key": marker}
    )
    assert sorted(row["payload"] for row in kept) == sorted(value.hex().upper() for value in bad.values())
    assert sorted(await dead_letters(kafka_settings, marker)) == sorted(bad.values())
    await assert_every_chain_is_intact(audit, database)


async def dead_letters(settings: KafkaSettings, marker: str) -> list[bytes]:
    found: list[bytes] = []
    async with AIOKafkaConsumer(
        Topic.INTERACTIONS.dead_letters, bootstrap_servers=settings.bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        ends = await consumer.end_offsets(consumer.assignment())
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                letters = [dead_letter_codec().decode(message.value) for message in messages]
                found += [letter.value for letter in letters if letter.hop == "audit" and letter.key == marker.encode()]
    return found


async def test_after_kills_under_load_every_record_is_there_once_and_the_chains_are_intact(
    audit: AuditAsyncStub, audit_process: ServiceProcess, database: ClickHouse, producer: Producer
) -> None:
    marker, count, chance = str(uuid.uuid4()), 4000, random.Random(7)
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < count:
            batch = range(sent, min(sent + 100, count))
            await asyncio.gather(
                *(producer.send(Topic.INTERACTIONS, interaction(f"{marker}-{number}")) for number in batch)
            )
            sent += len(batch)
            await asyncio.sleep(0.02)  # so that the load lasts as long as the kills

    sending = asyncio.create_task(send())
    for kill in range(1, 4):
        target = kill * count // 5
        await eventually(lambda target=target: reached(database, marker, target))  # type: ignore[misc]
        await asyncio.sleep(chance.random() / 2)  # a random moment is the point
        audit_process.kill()
        audit_process.start()
        await audit_process.serving()
    await sending

    await eventually(lambda: is_stored(database, marker, count))
    rows = await database.rows(
        "SELECT uniqExact(request_id) AS n FROM gyre.interactions WHERE startsWith(request_id, {m:String})",
        {"m": marker},
    )
    assert rows[0]["n"] == count
    await assert_every_chain_is_intact(audit, database)
    await eventually(lambda: is_counted(database))


async def is_counted(database: ClickHouse) -> bool:
    return await miscounted(database) == []


async def reached(database: ClickHouse, marker: str, count: int) -> bool:
    return await stored(database, marker) >= count


async def test_it_goes_on_by_itself_after_clickhouse_was_killed(
    audit: AuditAsyncStub,
    audit_process: ServiceProcess,
    stack: Stack,
    database: ClickHouse,
    producer: Producer,
) -> None:
    marker = str(uuid.uuid4())
    await producer.send(Topic.INTERACTIONS, interaction(f"{marker}-before"))
    await eventually(lambda: is_stored(database, marker, 1))
    (pid,) = [status.pid for status in stack.status() if status.part.name == "clickhouse"]

    os.kill(pid, signal.SIGKILL)
    await asyncio.gather(
        *(producer.send(Topic.INTERACTIONS, interaction(f"{marker}-{number}")) for number in range(500))
    )
    await asyncio.to_thread(stack.start, ("clickhouse",))

    await eventually(lambda: is_stored(database, marker, 501))
    await assert_every_chain_is_intact(audit, database)
    await eventually(lambda: is_counted(database))


async def test_it_goes_on_by_itself_after_kafka_was_killed(
    audit: AuditAsyncStub, stack: Stack, database: ClickHouse, producer: Producer
) -> None:
    marker = str(uuid.uuid4())
    await producer.send(Topic.INTERACTIONS, interaction(f"{marker}-before"))
    (pid,) = [status.pid for status in stack.status() if status.part.name == "kafka"]

    os.kill(pid, signal.SIGKILL)
    await asyncio.to_thread(stack.start, ("kafka",))
    await producer.send(Topic.INTERACTIONS, interaction(f"{marker}-after"))

    await eventually(lambda: is_stored(database, marker, 2))
    await assert_every_chain_is_intact(audit, database)


async def test_a_row_that_was_changed_is_found(audit: AuditAsyncStub, database: ClickHouse) -> None:
    (row,) = await database.rows(
        "SELECT _partition, _offset, hex(_payload) AS payload FROM gyre.router_interactions_v1 WHERE _error = '' "
        "ORDER BY _partition, _offset LIMIT 1 OFFSET 3"
    )
    at = {"partition": row["_partition"], "offset": row["_offset"]}
    change = (
        "ALTER TABLE gyre.router_interactions_v1 UPDATE _payload = unhex({payload:String}) "
        "WHERE _partition = {partition:UInt32} AND _offset = {offset:UInt64} SETTINGS mutations_sync = 2"
    )
    await database.command(change, {**at, "payload": row["payload"][:-2] + "FF"})
    try:
        verdict = await audit.Verify(audit_pb2.VerifyRequest(topic=INTERACTIONS, partition=row["_partition"]))
    finally:
        await database.command(change, {**at, "payload": row["payload"]})

    assert not verdict.intact
    assert verdict.first_bad_offset == row["_offset"]


async def test_lineage_goes_from_an_answer_to_the_model_that_learned_from_it_and_back(
    audit: AuditAsyncStub, database: ClickHouse, producer: Producer
) -> None:
    first, records = story()
    for topic, event in records:
        await producer.send(topic, event)
    later = next(event.request_id for _, event in reversed(records) if isinstance(event, Interaction))

    async def complete() -> bool:
        rows = await database.rows(
            "SELECT countIf(request_id = {first:String}) AS first, countIf(request_id = {later:String}) AS later "
            "FROM gyre.lineage WHERE request_id IN ({first:String}, {later:String})",
            {"first": first, "later": later},
        )
        return (rows[0]["first"], rows[0]["later"]) == (10, 6)

    await eventually(complete)

    steps = (await audit.Trace(audit_pb2.TraceRequest(id=first))).steps
    assert [(step.direction, step.kind) for step in steps] == [
        ("itself", "interaction"),
        *(
            ("consequence", kind)
            for kind in (
                *("feedback", "edge case", "label"),
                *("adapter", "dataset", "gate", "deployment", "later answers", "erasure"),
            )
        ),
    ]
    back = (await audit.Trace(audit_pb2.TraceRequest(id=later))).steps
    assert {(step.direction, step.kind) for step in back} == {
        *(("origin", kind) for kind in ("adapter", "dataset", "gate", "deployment", "later answers")),
        ("itself", "interaction"),
    }
    label_id = next(event.label_id for topic, event in records if topic is Topic.LABELS)  # type: ignore[attr-defined]
    of_label = (await audit.Trace(audit_pb2.TraceRequest(id=label_id))).steps
    assert [(step.id, step.kind) for step in of_label[len(steps) :]] == [(later, "later answer")]


async def test_what_is_not_on_record_is_not_found(audit: AuditAsyncStub) -> None:
    with pytest.raises(AioRpcError) as raised:
        await audit.Trace(audit_pb2.TraceRequest(id=str(uuid.uuid4())))
    assert raised.value.code() is StatusCode.NOT_FOUND
    with pytest.raises(AioRpcError) as raised:
        await audit.Verify(audit_pb2.VerifyRequest(topic="router.gossip.v1", partition=0))
    assert raised.value.code() is StatusCode.NOT_FOUND
