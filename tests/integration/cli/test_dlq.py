"""`gyre dlq` on a real broker."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from click.testing import CliRunner
from msgspec.structs import replace

from gyre.cli import main
from gyre.cli.dead_letters import replay, summaries
from gyre.cli.who import account
from schemas.codecs import codec
from schemas.events import Event
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.kafka import Producer, Record
from services.runtime.settings import KafkaSettings
from tests.integration.audit.story import story

EVENTS: dict[Topic, Event] = dict(story()[1])
LABELS, CANDIDATES = Topic.LABELS, Topic.CANDIDATES


@pytest.fixture
async def producer(kafka: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Producer]:
    monkeypatch.setenv("GYRE_KAFKA_BOOTSTRAP_SERVERS", kafka)
    async with Producer(KafkaSettings()) as producer:
        yield producer


async def gyre_dlq(*arguments: object, answer: str = "") -> tuple[int, str]:
    """The exit code and the output of the command, as a person who types `answer` gets them."""
    result = await asyncio.to_thread(
        CliRunner().invoke, main, ["dlq", *map(str, arguments)], input=answer, catch_exceptions=False
    )
    return result.exit_code, result.output


async def bury(producer: Producer, topic: Topic, value: bytes, key: bytes = b"", partition: int = 0) -> int:
    """Have a service give up on a record; returns the letter's offset."""
    key = key or uuid.uuid4().hex.encode()
    record = Record(topic, partition, 7, 1_780_000_000_000, key, value)
    await producer.send_dead_letter(topic, record.dead("trainer", "of [no] use", Clock()))
    (offset,) = [each.offset for each in (await summaries([topic]))[topic] if each.letter.key == key]
    return offset


async def sent(kafka: str, topic: Topic, value: bytes) -> list[Any]:
    """The committed records of a topic that hold a value, up to its end."""
    committed, uncommitted = (
        AIOKafkaConsumer(str(topic), bootstrap_servers=kafka, auto_offset_reset="earliest", isolation_level=level)
        for level in ("read_committed", "read_uncommitted")
    )
    async with committed, uncommitted:
        ends, found = await uncommitted.end_offsets(committed.assignment()), []
        while any([await committed.position(each) < end for each, end in ends.items()]):
            for messages in (await committed.getmany(timeout_ms=100)).values():
                found += [message for message in messages if message.value == value]
    return found


def label() -> bytes:
    """A record that no other test has."""
    return codec(LABELS).encode(replace(EVENTS[LABELS], label_id=uuid.uuid4().hex))


async def test_a_letter_is_listed_and_shown_as_what_it_holds(producer: Producer) -> None:
    offset = await bury(producer, LABELS, label(), key=b"request-7", partition=1)

    code, listed = await gyre_dlq("list")
    (line,) = [line for line in listed.splitlines() if line.startswith(LABELS)]
    assert code == 0
    assert "trainer" in line
    assert "of [no] use" in line

    _, letters = await gyre_dlq("list", "--topic", LABELS.dead_letters)
    (line,) = [line for line in letters.splitlines() if "request-7" in line]
    assert line.split()[:2] == [str(offset), "waiting"]

    code, shown = await gyre_dlq("show", LABELS, offset)
    head, _, body = shown.partition("{")
    assert f"record       {LABELS}, partition 1, offset 7" in head
    assert json.loads("{" + body)["answer"] == "right"


async def test_what_is_no_event_is_shown_as_it_is_and_never_sent_back(producer: Producer, kafka: str) -> None:
    text, other = b"nonsense " + uuid.uuid4().hex.encode(), b"\xff\x00" + uuid.uuid4().bytes
    for value, shown_as in ((text, text.decode()), (other, other.hex(" "))):
        offset = await bury(producer, LABELS, value)
        _, shown = await gyre_dlq("show", LABELS, offset)
        assert shown.endswith(f"{shown_as}\n")

        code, said = await gyre_dlq("replay", LABELS, offset, "--yes")
        assert code == 1
        assert "is none that a service could read" in said
        assert await sent(kafka, LABELS, value) == []


async def test_a_record_is_sent_back_once_with_its_key_to_where_its_key_belongs(producer: Producer, kafka: str) -> None:
    value, key = label(), uuid.uuid4().hex.encode()
    async with AIOKafkaProducer(bootstrap_servers=kafka) as original:
        first = await original.send_and_wait(str(LABELS), value, key=key)
    offset = await bury(producer, LABELS, value, key=key, partition=first.partition)

    code, said = await gyre_dlq("replay", LABELS, offset, answer="y\n")
    assert (code, said.splitlines()[-1]) == (0, f"Sent 1 of 1 back to {LABELS}.")
    records = await sent(kafka, LABELS, value)
    assert [(each.key, each.partition) for each in records] == [(key, first.partition)] * 2

    _, shown = await gyre_dlq("show", LABELS, offset)
    assert f"was sent back to {LABELS} by {account()}\n" in shown

    code, said = await gyre_dlq("replay", LABELS, offset, "--yes")
    assert code == 1
    assert "was replayed at" in said
    _, letters = await gyre_dlq("list", "--topic", LABELS)
    assert [line.split()[1] for line in letters.splitlines() if key.decode() in line] == ["replayed"]
    assert len(await sent(kafka, LABELS, value)) == 2


async def test_a_record_without_a_key_goes_to_the_partition_where_it_was(producer: Producer, kafka: str) -> None:
    value = label()
    record = Record(LABELS, 1, 7, 1_780_000_000_000, b"", value)
    await producer.send_dead_letter(LABELS, record.dead("triage", uuid.uuid4().hex, Clock()))
    offset = (await summaries([LABELS]))[LABELS][-1].offset
    await gyre_dlq("replay", LABELS, offset, "--yes")
    assert [each.partition for each in await sent(kafka, LABELS, value)] == [1]


async def test_all_that_wait_are_sent_back_and_what_cannot_be_read_stays(producer: Producer, kafka: str) -> None:
    value = codec(CANDIDATES).encode(EVENTS[CANDIDATES])
    await bury(producer, CANDIDATES, value)
    await bury(producer, CANDIDATES, b"nonsense")

    code, said = await gyre_dlq("replay", CANDIDATES, "--all", answer="n\n")
    assert code == 1
    assert "holds state: what is replayed takes the place of what has come since" in said
    assert await sent(kafka, CANDIDATES, value) == []

    code, said = await gyre_dlq("replay", CANDIDATES, "--all", "--yes")
    assert code == 0
    assert "Staying: " in said
    assert len(await sent(kafka, CANDIDATES, value)) == 1
    code, said = await gyre_dlq("replay", CANDIDATES, "--all", "--yes")
    assert (code, said.splitlines()[-1]) == (0, "There is nothing to replay.")


async def test_two_who_replay_at_once_send_nothing_twice(producer: Producer, kafka: str) -> None:
    values = [label() for _ in range(20)]
    offsets = [await bury(producer, LABELS, value) for value in values]
    outcomes = await asyncio.gather(*(replay(LABELS, offsets) for _ in range(2)), return_exceptions=True)
    while sum(each.replayed_at is None for each in (await summaries([LABELS]))[LABELS] if each.offset in offsets):
        await replay(LABELS, offsets)  # whoever was shut out tries again
    assert [len(await sent(kafka, LABELS, value)) for value in values] == [1] * len(values), outcomes


async def test_a_letter_that_is_not_there_is_said_to_be_none(producer: Producer) -> None:
    for command in ("show", "replay"):
        code, said = await gyre_dlq(command, LABELS, 10**9)
        assert code == 1
        assert f"{LABELS.dead_letters} has no letter at offset 1000000000" in said


async def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    for command in (["list"], ["show", LABELS, 0], ["replay", LABELS, "--all"]):
        code, said = await gyre_dlq(*command)
        assert code == 1
        assert said.startswith("Error: Kafka at 127.0.0.1:9 does not answer; start it (gyre up)")
