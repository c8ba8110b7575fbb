"""What is sent to ClickHouse is what another Avro reader makes of it."""

import io
from datetime import UTC, datetime

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import clickhouse
from schemas.codecs import codec
from schemas.events import EVENTS, Event
from schemas.topics import Topic
from services.audit.blocks import container
from services.audit.domain import EMPTY, chained, runs
from services.runtime.kafka import Record
from tests.contract.schemas.test_codecs import strategy


def salts(size: int) -> bytes:
    return bytes(index % 251 for index in range(size))


def read(block: bytes) -> list[dict[str, object]]:
    return list(fastavro.reader(io.BytesIO(block)))  # type: ignore[arg-type] # records are dicts


@pytest.mark.parametrize("topic", list(Topic))
def test_a_row_is_the_envelope_and_the_event(topic: Topic) -> None:
    @settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(strategy(EVENTS[topic]), min_size=1, max_size=4), st.binary(max_size=9))
    def check(events: list[Event], key: bytes) -> None:
        values = [codec(topic).encode(event) for event in events]
        records = [
            Record(topic, 2**20, 2**40 + number, 1_780_000_000_000 + number, key, value)
            for number, value in enumerate(values)
        ]
        (run,) = runs(records)
        rows = chained(EMPTY, run, salts)
        block, columns = container(rows)
        found = read(block)
        assert len(found) == len(rows)
        for row, back in zip(rows, found, strict=True):
            assert list(back) == columns
            assert (back["_topic"], back["_partition"], back["_offset"]) == (topic, 2**20, row.record.offset)
            assert back["_timestamp"] == datetime.fromtimestamp(row.record.timestamp_ms / 1000, UTC)
            assert (back["_key"], back["_payload"], back["_error"]) == (key, row.record.value, "")
            assert (back["_salt"], back["_digest"]) == (row.salt, row.digest)
            assert (back["_hash"], back["_prev_hash"]) == (row.hash, row.prev_hash)
            event = {name: value for name, value in back.items() if not name.startswith("_")}
            (alone,) = read(_alone(topic, row.record.value))
            assert event == alone

    check()


def _alone(topic: Topic, value: bytes) -> bytes:
    """One event in a container file that fastavro writes by itself."""
    from schemas import avro

    schema = avro.parsed(avro.published(topic, codec(topic).schema_id(value)))
    event = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema, None)
    buffer = io.BytesIO()
    fastavro.writer(buffer, schema, [event])  # type: ignore[list-item] # a record is a dict
    return buffer.getvalue()


def test_a_record_that_cannot_be_decoded_is_an_envelope_alone() -> None:
    (run,) = runs([Record(Topic.LABELS, 0, 7, -1, b"", b"garbage")])
    block, columns = container(chained(EMPTY, run, salts))
    (back,) = read(block)
    assert set(columns) == set(clickhouse.ENVELOPE)
    assert back["_payload"] == b"garbage"
    assert back["_error"]
    assert back["_schema_id"] == 0


@pytest.mark.parametrize("topic", list(Topic))
def test_every_column_of_a_block_is_a_column_of_the_table(topic: Topic) -> None:
    from schemas import avro
    from services.audit.blocks import row_schema

    for schema_id in avro.published_ids()[topic]:
        names = {field["name"] for field in row_schema(topic, schema_id)["fields"]}
        assert names <= {*clickhouse.ENVELOPE, *(field["name"] for field in avro.derive(EVENTS[topic])["fields"])}
