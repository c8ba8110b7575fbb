"""The hash chain by itself: vectors that anyone can recompute, and how it is extended."""

import hashlib
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from schemas.avro import published_ids
from schemas.codecs import codec
from schemas.ledger.chain import SALT_BYTES, header_hash, payload_digest
from schemas.topics import Topic
from services.audit.domain import EMPTY, Head, Row, Run, chained, runs
from services.runtime.kafka import Record
from tests.integration.audit.story import interaction

# Computed with sha256sum, not with the code under test.
DIGEST = "c7ec3b32ccb6d79d303d9b08b3eceed1e2a736dc635e412eebbdc1a9b9bf6aa4"
HASH = "fa53032a3af9bd5b7cfcc0f7e789161038cf5208087dec2a58c3ab59e69a36c3"
TOPIC = Topic.FEEDBACK
MAY = int(datetime(2026, 5, 31, 23, 59, tzinfo=UTC).timestamp() * 1000)
JUNE = int(datetime(2026, 6, 1, tzinfo=UTC).timestamp() * 1000)


def record(offset: int, value: bytes = b"v", timestamp_ms: int = MAY, topic: Topic = TOPIC) -> Record:
    return Record(topic=topic, partition=3, offset=offset, timestamp_ms=timestamp_ms, key=b"k", value=value)


def chain(count: int) -> list[Row]:
    return chained(EMPTY, Run(0, "", [record(offset) for offset in range(count)]), lambda size: bytes(range(size)))


def test_the_digest_is_the_published_one() -> None:
    # { head -c 16 /dev/zero; printf 3:keypayload; } | sha256sum
    assert payload_digest(bytes(SALT_BYTES), b"key", b"payload") == hashlib.sha256(bytes(16) + b"3:keypayload").digest()
    assert payload_digest(bytes(SALT_BYTES), b"key", b"payload").hex() == DIGEST


def test_the_hash_is_the_published_one() -> None:
    found = header_hash("router.feedback.v1", 3, 41, 1_780_000_000_123, bytes.fromhex(DIGEST), bytes(32))
    header = f"gyre.record.v1\nrouter.feedback.v1\n3\n41\n1780000000123\n{DIGEST}\n{'00' * 32}\n"
    assert found == hashlib.sha256(header.encode()).digest()
    assert found.hex() == HASH


def test_key_and_payload_cannot_be_shifted_against_each_other() -> None:
    assert payload_digest(b"", b"ab", b"c") != payload_digest(b"", b"a", b"bc")


def test_each_row_has_a_salt_of_its_own() -> None:
    salts = [row.salt for row in chain(5)]
    assert {len(salt) for salt in salts} == {SALT_BYTES}
    assert len(set(salts)) == 5


def test_runs_end_where_the_schema_or_the_month_changes_and_lose_nothing() -> None:
    encoded = codec(Topic.INTERACTIONS).encode(interaction("r"))
    records = [
        record(1, encoded, topic=Topic.INTERACTIONS),
        record(2, encoded, topic=Topic.INTERACTIONS),
        record(3, b"garbage", topic=Topic.INTERACTIONS),
        record(5, encoded, topic=Topic.INTERACTIONS),
        record(8, encoded, JUNE, topic=Topic.INTERACTIONS),
        record(9, encoded, 10**18, topic=Topic.INTERACTIONS),
    ]
    found = list(runs(records))
    assert [[each.offset for each in run.records] for run in found] == [[1, 2], [3], [5], [8], [9]]
    newest = published_ids()[Topic.INTERACTIONS][-1]
    assert [run.schema_id for run in found] == [newest, 0, newest, newest, newest]
    assert [bool(run.error) for run in found] == [False, True, False, False, False]


@given(st.lists(st.binary(max_size=20), max_size=20), st.integers(0, 20))
def test_a_chain_can_be_extended_in_any_pieces(values: list[bytes], cut: int) -> None:
    records = [record(offset, value) for offset, value in enumerate(values)]
    head = EMPTY
    rows: list[Row] = []
    for piece in (records[:cut], records[cut:]):
        added = chained(head, Run(0, "", piece), lambda size: bytes(size))
        rows += added
        head = added[-1].head if added else head
    whole = chained(EMPTY, Run(0, "", records), lambda size: bytes(size))
    assert [row.hash for row in rows] == [row.hash for row in whole]
    assert head == (whole[-1].head if whole else Head(-1, bytes(32)))
