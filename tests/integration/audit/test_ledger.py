"""One behaviour for the ledger in memory and the one in ClickHouse."""

import uuid
from collections.abc import Sequence
from contextlib import suppress

import pytest

from schemas.codecs import codec
from schemas.ledger.verification import ChainVerifier
from schemas.topics import Topic
from services.audit.adapters import ClickHouseLedger
from services.audit.domain import EMPTY, Head, Row, chained, runs
from services.audit.ports import Ledger
from services.runtime.clickhouse import ClickHouse
from services.runtime.errors import Rejected
from services.runtime.kafka import Record
from tests.integration.audit.story import interaction
from tests.unit.audit.fakes import FakeLedger

TOPIC = Topic.INTERACTIONS
GOOD = codec(TOPIC).encode(interaction("ledger"))


@pytest.fixture(params=["memory", "clickhouse"])
async def ledger(request: pytest.FixtureRequest, database: ClickHouse) -> Ledger:
    if request.param == "memory":
        return FakeLedger()
    ledger = ClickHouseLedger(database)
    await ledger.prepare()
    return ledger


@pytest.fixture
def partition() -> int:
    """One that no other test has: far beyond those that the topics have."""
    return 1000 + uuid.uuid4().int % 90_000


def rows(head: Head, partition: int, values: dict[int, bytes]) -> list[Row]:
    (run,) = runs(
        [Record(TOPIC, partition, offset, 1_780_000_000_000, b"k", value) for offset, value in values.items()]
    )
    return chained(head, run, lambda size: uuid.uuid4().bytes * (size // 16))


async def offsets(ledger: Ledger, partition: int) -> list[int]:
    verifier, found = ChainVerifier(TOPIC, partition, [], set()), []
    async for link in ledger.links(TOPIC, partition):
        verifier.add(link.offset, link.timestamp_ms, link.digest, link.prev_hash, link.hash, link.payload_digest)
        found.append(link.offset)
    return found


async def refused(ledger: Ledger, added: Sequence[Row]) -> bool:
    """Whether rows are refused, by an error or by not being there afterwards."""
    first = added[0].record
    before = await ledger.head(first.topic, first.partition)
    with suppress(Rejected):
        await ledger.append(added)
    return await ledger.head(first.topic, first.partition) == before


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
    assert await refused(ledger, rows(EMPTY, partition, {0: GOOD, 1: bad, 2: GOOD}))
    assert await offsets(ledger, partition) == []
    await ledger.append(rows(EMPTY, partition, {0: GOOD}))
    assert await offsets(ledger, partition) == [0]


async def test_a_record_that_cannot_be_decoded_is_kept_without_fields(ledger: Ledger, partition: int) -> None:
    added = rows(EMPTY, partition, {0: b"garbage"})
    await ledger.append(added)
    assert await offsets(ledger, partition) == [0]


async def test_a_request_that_is_not_on_record_has_no_lineage(ledger: Ledger) -> None:
    assert await ledger.lineage(str(uuid.uuid4())) == []
