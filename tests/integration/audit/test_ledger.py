"""One behaviour for the ledger in memory and the one in ClickHouse."""

import asyncio
import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from schemas.clickhouse import rollups, table
from schemas.codecs import codec
from schemas.events import Checkpoint, Erasure, Event, Feedback
from schemas.ledger.verification import ChainVerifier
from schemas.topics import Topic
from services.audit.adapters import ClickHouseLedger
from services.audit.blocks import container
from services.audit.domain import EMPTY, Chain, Head, Row, chained, runs
from services.audit.handlers import keep
from services.audit.ports import Ledger
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, Retryable
from services.runtime.kafka import MAX_RECORD_BYTES, Record
from tests.integration.audit.story import interaction
from tests.unit.audit.fakes import FakeDeadLetters, FakeLedger

TOPIC = Topic.INTERACTIONS
GOOD = codec(TOPIC).encode(interaction("ledger"))


# Partitions from here on are those of these tests.
FAR = 1000


@pytest.fixture(params=["memory", "clickhouse"])
async def ledger(request: pytest.FixtureRequest, database: ClickHouse) -> AsyncIterator[Ledger]:
    if request.param == "memory":
        yield FakeLedger()
        return
    ledger = ClickHouseLedger(database, Clock())
    await ledger.prepare()
    yield ledger
    # A running audit, and whoever verifies the whole record, would take these for theirs.
    for topic in Topic:
        await database.command(
            f"ALTER TABLE gyre.{table(topic)} DELETE WHERE _partition >= {FAR} SETTINGS mutations_sync = 2"
        )
    for rollup in rollups():
        await database.command(
            f"ALTER TABLE gyre.{rollup.name} DELETE WHERE partition >= {FAR} SETTINGS mutations_sync = 2"
        )


@pytest.fixture
def partition() -> int:
    """One that no other test has: far beyond those that the topics have."""
    return FAR + uuid.uuid4().int % 90_000


def record(partition: int, offset: int, value: bytes, timestamp_ms: int = 1_780_000_000_000) -> Record:
    return Record(TOPIC, partition, offset, timestamp_ms, b"k", value)


def rows(head: Head, partition: int, values: dict[int, bytes]) -> list[Row]:
    (run,) = runs([record(partition, offset, value) for offset, value in values.items()])
    return chained(head, run, lambda size: uuid.uuid4().bytes * (size // 16))


async def offsets(ledger: Ledger, partition: int) -> list[int]:
    verifier, found = ChainVerifier(TOPIC, partition, [], set()), []
    async for link in ledger.links(TOPIC, partition):
        verifier.add(link.offset, link.timestamp_ms, link.digest, link.prev_hash, link.hash, link.payload_digest)
        found.append(link.offset)
    return found


async def test_preparing_twice_is_preparing_once(ledger: Ledger) -> None:
    await ledger.prepare()
    await ledger.prepare()


async def test_a_partition_of_which_nothing_is_stored_is_empty(ledger: Ledger, partition: int) -> None:
    assert await ledger.head(TOPIC, partition) == EMPTY
    assert await offsets(ledger, partition) == []


async def test_what_is_appended_is_the_head_and_follows(ledger: Ledger, partition: int) -> None:
    first = rows(EMPTY, partition, {4: GOOD, 5: GOOD, 9: GOOD})
    await ledger.append(first)
    assert await ledger.head(TOPIC, partition) == first[-1].head
    second = rows(first[-1].head, partition, {10: GOOD})
    await ledger.append(second)
    assert await ledger.head(TOPIC, partition) == second[-1].head
    assert await offsets(ledger, partition) == [4, 5, 9, 10]


async def test_the_same_rows_again_change_nothing(ledger: Ledger, partition: int) -> None:
    added = rows(EMPTY, partition, {0: GOOD, 1: GOOD})
    await ledger.append(added)
    await ledger.append(added)
    assert await offsets(ledger, partition) == [0, 1]


async def test_other_rows_after_a_row_that_is_followed_already_are_passed_over(ledger: Ledger, partition: int) -> None:
    first = rows(EMPTY, partition, {0: GOOD})
    await ledger.append(first)
    kept = rows(first[-1].head, partition, {1: GOOD, 2: GOOD})
    await ledger.append(kept)
    await ledger.append(rows(first[-1].head, partition, {1: GOOD}))
    assert await ledger.head(TOPIC, partition) == kept[-1].head
    assert await offsets(ledger, partition) == [0, 1, 2]


@pytest.mark.parametrize(
    "bad",
    [GOOD[:-10], GOOD[:5], GOOD + bytes(3), GOOD + GOOD[5:], GOOD[:40] + b"\xff" * 40 + GOOD[80:]],
    ids=["cut off", "empty", "followed by zeros", "followed by a record", "garbled"],
)
async def test_one_bad_record_fails_the_whole_block_and_leaves_no_trace(
    ledger: Ledger, partition: int, bad: bytes
) -> None:
    with pytest.raises(InvalidArgument):
        await ledger.append(rows(EMPTY, partition, {0: GOOD, 1: bad, 2: GOOD}))
    assert await offsets(ledger, partition) == []
    await ledger.append(rows(EMPTY, partition, {0: GOOD}))
    assert await offsets(ledger, partition) == [0]


async def test_a_record_that_cannot_be_decoded_is_kept_without_fields(ledger: Ledger, partition: int) -> None:
    added = rows(EMPTY, partition, {0: b"garbage"})
    await ledger.append(added)
    assert await offsets(ledger, partition) == [0]


async def test_records_of_any_time_are_stored_in_their_order(database: ClickHouse, partition: int) -> None:
    ledger, letters = ClickHouseLedger(database, Clock()), FakeDeadLetters()
    await ledger.prepare()
    centuries = [
        datetime(year, month, 1, tzinfo=UTC) for year in (1, 1899, 1969, 1970, 2299, 9999) for month in (1, 12)
    ]
    times = [-1, 0, 1, *(int(each.timestamp() * 1000) for each in centuries), 1 << 60]
    records = [record(partition, offset, GOOD, timestamp_ms) for offset, timestamp_ms in enumerate(times)]
    await keep(ledger, letters, Clock(), Chain(), records)
    assert await offsets(ledger, partition) == list(range(len(times)))
    assert letters.letters == []


async def test_the_largest_record_that_kafka_takes_is_stored(database: ClickHouse, partition: int) -> None:
    ledger, letters = ClickHouseLedger(database, Clock()), FakeDeadLetters()
    await ledger.prepare()
    largest = codec(TOPIC).encode(replace(interaction("ledger"), answer="x" * (MAX_RECORD_BYTES - len(GOOD))))
    await keep(ledger, letters, Clock(), Chain(), [record(partition, 0, largest)])
    assert await offsets(ledger, partition) == [0]
    assert letters.letters == []


async def test_a_token_that_a_killed_server_has_used_up_is_followed_by_another(
    database: ClickHouse, partition: int
) -> None:
    ledger = ClickHouseLedger(database, Clock())
    await ledger.prepare()
    # As after a server that was killed between noting the token and storing the block.
    block, columns = container(rows(EMPTY, partition + 100_000, {0: GOOD}))
    token = {"insert_deduplicate": 1, "insert_deduplication_token": f"{partition}:{EMPTY.hash.hex()}:0"}
    await database.insert("gyre.router_interactions_v1", columns, block, "Avro", token)

    letters = FakeDeadLetters()
    await keep(ledger, letters, Clock(), Chain(), [record(partition, 0, GOOD)])
    assert await offsets(ledger, partition) == [0]
    assert letters.letters == []


@pytest.fixture
async def forgetful(database: ClickHouse) -> AsyncIterator[None]:
    """The table of interactions forgets tokens quickly, as it does when much is inserted while a process stands."""
    setting = "ALTER TABLE gyre.router_interactions_v1 MODIFY SETTING non_replicated_deduplication_window = "
    await ClickHouseLedger(database, Clock()).prepare()
    await database.command(f"{setting}2")
    yield
    await database.command(f"{setting}1000")


async def test_a_process_that_stood_still_for_longer_than_tokens_are_kept_cannot_fork_the_chain(
    database: ClickHouse, partition: int, forgetful: None
) -> None:
    # Stopped between its last question and its insert, it does not know that time has passed.
    stalled = ClickHouseLedger(database, Clock(monotonic=lambda: 0.0), lease_seconds=1)
    late = rows(await stalled.head(TOPIC, partition), partition, {0: GOOD})
    owner = ClickHouseLedger(database, Clock())
    head = EMPTY
    for offset in range(4):
        added = rows(head, partition, {offset: GOOD})
        await owner.append(added)
        head = added[-1].head
    await asyncio.sleep(1.5)  # the lease is a time
    with pytest.raises(Retryable, match="SESSION_NOT_FOUND"):
        await stalled.append(late)
    assert await offsets(owner, partition) == [0, 1, 2, 3]


async def test_a_partition_that_was_left_alone_is_looked_at_again_before_it_is_appended_to(
    database: ClickHouse, partition: int
) -> None:
    seconds = itertools.count(step=10)
    ledger = ClickHouseLedger(database, Clock(monotonic=lambda: float(next(seconds))), lease_seconds=1)
    first = rows(await ledger.head(TOPIC, partition), partition, {0: GOOD})
    await asyncio.sleep(1.5)  # the lease is a time
    await ledger.append(first)
    await ClickHouseLedger(database, Clock()).append(rows(first[-1].head, partition, {1: GOOD}))
    await ledger.append(rows(first[-1].head, partition, {1: GOOD}))
    assert await offsets(ledger, partition) == [0, 1]


async def test_a_request_that_is_not_on_record_has_no_lineage(ledger: Ledger) -> None:
    assert await ledger.lineage(str(uuid.uuid4())) == []


async def test_a_chain_can_be_read_from_any_place(ledger: Ledger, partition: int) -> None:
    await ledger.append(rows(EMPTY, partition, dict.fromkeys((4, 5, 9, 11), GOOD)))
    for start, wanted in ((0, [4, 5, 9, 11]), (2, [9, 11]), (4, [])):
        assert [link.offset async for link in ledger.links(TOPIC, partition, start)] == wanted
    hashes = [link.hash async for link in ledger.links(TOPIC, partition)]
    assert await ledger.leaves(TOPIC, partition, 1, 3) == hashes[1:3]
    assert await ledger.leaves(TOPIC, partition, 3, 9) == hashes[3:]


async def test_checkpoints_are_found_by_size_and_offset_and_blocks_by_their_numbers(
    ledger: Ledger, partition: int
) -> None:
    assert await ledger.newest_checkpoint(TOPIC, partition) is None
    assert await ledger.oldest_checkpoint(TOPIC, partition, 0) is None
    made = [
        checkpoint(partition, size=1024, last_offset=2000, first_block=0, blocks=(b"\x01" * 32,)),
        checkpoint(partition, size=4096, last_offset=9000, first_block=3, blocks=(b"\x04" * 32,)),
        checkpoint(partition, size=3072, last_offset=7000, first_block=1, blocks=(b"\x02" * 32, b"\x03" * 32)),
        checkpoint(partition, size=3100, last_offset=7100),
    ]
    await tell(ledger, Topic.CHECKPOINTS, partition, made)
    newest = await ledger.newest_checkpoint(TOPIC, partition)
    assert newest is not None
    assert newest.note == "note of 4096"
    assert newest.blocks == [bytes([number]) * 32 for number in (1, 2, 3, 4)]
    assert await ledger.oldest_checkpoint(TOPIC, partition, 2000) == "note of 1024"
    assert await ledger.oldest_checkpoint(TOPIC, partition, 7001) == "note of 3100"
    assert await ledger.oldest_checkpoint(TOPIC, partition, 9001) is None


async def test_what_is_on_record_of_a_person_is_found_and_taken_out_once_the_erasure_is_signed(
    ledger: Ledger, partition: int
) -> None:
    tenant, subject, other = (str(uuid.uuid4()) for _ in range(3))
    theirs, anothers = str(uuid.uuid4()), str(uuid.uuid4())
    asked = replace(interaction(theirs), tenant=tenant, user=subject)
    await tell(ledger, TOPIC, partition, [asked, replace(asked, request_id=anothers, user=other)])
    feedback = Feedback(
        feedback_id="f", request_id=anothers, tenant=tenant, application="a", given_at=asked.received_at,
        source="explicit", kind="edit", text=f"says {subject}", user=subject,
    )  # fmt: skip
    await tell(ledger, Topic.FEEDBACK, partition, [feedback])

    found = sorted(await ledger.personal(tenant, subject), key=lambda each: each.is_whole)
    assert [(each.request_id, each.is_whole, len(each.rows)) for each in found] == [
        (anothers, False, 1),
        (theirs, True, 1),
    ]
    wishes = [
        Erasure(request_id=each.request_id, erasure_id=tenant, tenant=tenant, asked_at=asked.received_at,
                is_whole=each.is_whole, rows=tuple(each.rows))
        for each in found
    ]  # fmt: skip
    assert await ledger.announced(tenant) == 0
    await tell(ledger, Topic.ERASURES, partition, wishes)
    assert await ledger.announced(tenant) == 2
    assert await ledger.erased(TOPIC, partition) == {0}

    assert (partition, 0) in await ledger.unerased(TOPIC, signed=False)
    assert (partition, 0) not in await ledger.unerased(TOPIC, signed=True)
    covering = replace(checkpoint(partition, size=2, last_offset=1), chain=f"{Topic.ERASURES}/{partition}")
    await tell(ledger, Topic.CHECKPOINTS, partition + 1, [covering])
    for topic in (TOPIC, Topic.FEEDBACK):
        assert (partition, 0) in await ledger.unerased(topic, signed=True)
        before = [link async for link in ledger.links(topic, partition)]
        await ledger.erase(topic, [(partition, 0)])
        after = [link async for link in ledger.links(topic, partition)]
        assert after == [replace(before[0], payload_digest=None), *before[1:]]
        assert (partition, 0) not in await ledger.unerased(topic, signed=False)
    assert await ledger.personal(tenant, subject) == []


async def tell(ledger: Ledger, topic: Topic, partition: int, events: Sequence[Event]) -> None:
    """Stores events as the first of their topic's partition."""
    records = [
        Record(topic, partition, offset, 1_780_000_000_000, b"k", codec(topic).encode(event))
        for offset, event in enumerate(events)
    ]
    (run,) = runs(records)
    await ledger.append(chained(EMPTY, run, lambda size: uuid.uuid4().bytes * (size // 16)))


def checkpoint(
    partition: int, *, size: int, last_offset: int, first_block: int = 0, blocks: tuple[bytes, ...] = ()
) -> Checkpoint:
    return Checkpoint(
        chain=f"{TOPIC}/{partition}",
        first_offset=0,
        last_offset=last_offset,
        root=bytes(32),
        signature=bytes(64),
        key_id="k",
        signed_at=datetime(2026, 11, 24, tzinfo=UTC),
        tree_size=size,
        note=f"note of {size}",
        first_block=first_block,
        blocks=blocks,
    )
