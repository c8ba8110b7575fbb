"""Keeping, verifying and tracing, on a ledger in memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.codecs import codec
from schemas.topics import Topic
from services.audit.domain import Chain, Head
from services.audit.handlers import keep, recount, trace, verify
from services.audit.signing import Keys
from services.runtime.clock import Clock
from services.runtime.errors import NotFound, Retryable
from services.runtime.kafka import Record
from tests.integration.audit.story import interaction
from tests.unit.audit.fakes import FakeDeadLetters, FakeLedger

TOPIC = Topic.INTERACTIONS
GOOD = codec(TOPIC).encode(interaction("r"))
BAD = GOOD[:-10]


def record(offset: int, value: bytes = GOOD) -> Record:
    return Record(TOPIC, 0, offset, 1_780_000_000_000, b"key", value)


@pytest.fixture
def ledger() -> FakeLedger:
    return FakeLedger()


@pytest.fixture
def letters() -> FakeDeadLetters:
    return FakeDeadLetters()


async def test_records_are_stored_together_and_the_head_moves_to_the_last(
    ledger: FakeLedger, letters: FakeDeadLetters
) -> None:
    head = (await keep(ledger, letters, Clock(), Chain(), [record(offset) for offset in (0, 1, 2, 9)])).head
    assert head == ledger.rows[TOPIC, 0][-1].head == Head(9, head.hash)
    assert ledger.appended == [4]
    assert (await verify(ledger, Keys(), TOPIC, 0)).first_bad_offset is None


@given(st.lists(st.sampled_from([GOOD, BAD, b"garbage", b""]), min_size=1, max_size=24))
async def test_whatever_records_are_bad_all_are_kept_in_order_and_only_the_bad_are_dead_letters(
    values: list[bytes],
) -> None:
    ledger, letters = FakeLedger(), FakeDeadLetters()
    await keep(ledger, letters, Clock(), Chain(), [record(offset, value) for offset, value in enumerate(values)])

    rows = ledger.rows[TOPIC, 0]
    assert [row.record.value for row in rows] == values
    assert [bool(row.error) for row in rows] == [value != GOOD for value in values]
    assert [letter.value for letter in letters.letters] == [value for value in values if value != GOOD]
    assert all(letter.hop == "audit" and letter.reason for letter in letters.letters)
    assert (await verify(ledger, Keys(), TOPIC, 0)).rows == len(values)


async def test_one_bad_record_among_many_is_found_in_few_tries(ledger: FakeLedger, letters: FakeDeadLetters) -> None:
    values = [GOOD] * 1024
    values[700] = BAD
    await keep(ledger, letters, Clock(), Chain(), [record(offset, value) for offset, value in enumerate(values)])
    assert len(ledger.appended) <= 2 * 10 + 2
    assert [letter.offset for letter in letters.letters] == [700]


async def test_a_lost_acknowledgement_repeats_nothing(ledger: FakeLedger, letters: FakeDeadLetters) -> None:
    records = [record(offset) for offset in range(3)]
    ledger.lose_acknowledgements = True
    with pytest.raises(Retryable):
        await keep(ledger, letters, Clock(), Chain(), records)
    ledger.lose_acknowledgements = False

    head = await ledger.head(TOPIC, 0)
    assert head.offset == 2
    await keep(ledger, letters, Clock(), Chain(head), [record(3)])
    assert [row.record.offset for row in ledger.rows[TOPIC, 0]] == [0, 1, 2, 3]


async def test_a_process_that_was_replaced_cannot_fork_the_chain(ledger: FakeLedger, letters: FakeDeadLetters) -> None:
    stale = await keep(ledger, letters, Clock(), Chain(), [record(0)])
    await keep(ledger, letters, Clock(), stale, [record(1), record(2)])

    with pytest.raises(Retryable, match="another process has extended the chain"):
        await keep(ledger, letters, Clock(), stale, [record(1)])

    assert [row.record.offset for row in ledger.rows[TOPIC, 0]] == [0, 1, 2]
    assert (await verify(ledger, Keys(), TOPIC, 0)).first_bad_offset is None


async def test_while_the_ledger_is_away_nothing_is_given_up(ledger: FakeLedger, letters: FakeDeadLetters) -> None:
    ledger.away = 1
    with pytest.raises(Retryable):
        await keep(ledger, letters, Clock(), Chain(), [record(0, BAD)])
    assert letters.letters == []


async def test_rows_that_were_acknowledged_and_not_stored_are_stored_under_another_token(
    ledger: FakeLedger, letters: FakeDeadLetters
) -> None:
    ledger.drop = 1
    chain = await keep(ledger, letters, Clock(), Chain(), [record(0), record(1)])
    assert (chain.head.offset, ledger.appended) == (1, [2, 2])
    assert letters.letters == []


async def test_a_ledger_that_stores_nothing_is_not_taken_for_bad_records(
    ledger: FakeLedger, letters: FakeDeadLetters
) -> None:
    ledger.drop = 1000
    with pytest.raises(Retryable, match="acknowledged and not stored"):
        await keep(ledger, letters, Clock(), Chain(), [record(0), record(1)])
    assert (ledger.rows[TOPIC, 0], letters.letters) == ([], [])


async def test_rollups_that_cannot_be_mended_hold_nothing_up(ledger: FakeLedger) -> None:
    ledger.away = 1
    await recount(ledger, Topic.INTERACTIONS, 0)
    assert ledger.recounted == []
    await recount(ledger, Topic.INTERACTIONS, 0)
    assert ledger.recounted == [(Topic.INTERACTIONS, 0)]


async def test_a_changed_row_is_named_by_its_offset(ledger: FakeLedger, letters: FakeDeadLetters) -> None:
    await keep(ledger, letters, Clock(), Chain(), [record(offset) for offset in (3, 5, 8, 9)])
    rows = ledger.rows[TOPIC, 0]
    rows[2] = replace(rows[2], record=record(8, GOOD + b"!"))

    verdict = await verify(ledger, Keys(), TOPIC, 0)

    assert (verdict.first_bad_offset, verdict.rows, verdict.head_hash) == (8, 2, rows[1].hash)


async def test_a_removed_first_row_shows(ledger: FakeLedger, letters: FakeDeadLetters) -> None:
    await keep(ledger, letters, Clock(), Chain(), [record(0), record(1)])
    del ledger.rows[TOPIC, 0][0]
    assert (await verify(ledger, Keys(), TOPIC, 0)).first_bad_offset == 1


async def test_an_unknown_topic_and_an_unknown_request_are_not_found(ledger: FakeLedger) -> None:
    with pytest.raises(NotFound, match=r"topic: router\.gossip\.v1 is none of"):
        await verify(ledger, Keys(), "router.gossip.v1", 0)
    with pytest.raises(NotFound, match="id: nothing is on record of x"):
        await trace(ledger, "x")
