"""Inserts by plain HTTP: formats, failures, memory."""

import hashlib
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import fastavro
import psutil
import pytest

from embedded.clickhouse.compression import BlockEncoder
from tests.integration.embedded.clickhouse.front import Front, code, wait_until


def test_rows_are_inserted_from_json_and_csv_and_values(front: Front) -> None:
    front.text("CREATE TABLE texts (a Int64, s String) ENGINE = MergeTree ORDER BY a")
    for sql, data in (
        ("INSERT INTO texts FORMAT JSONEachRow", b'{"a": 1, "s": "json"}\n'),
        ("INSERT INTO texts (s, a) SETTINGS max_insert_threads = 1 FORMAT CSV", b'"csv",2\n'),
        ("INSERT INTO texts VALUES", b"(3, 'values'), (2 + 2, concat('ex', 'pression'))"),
    ):
        response = front.post(sql, content=data)
        assert response.status_code == 200, response.text
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    front.text('INSERT INTO texts FORMAT CSV\n5,"in one body"\n')
    front.text("INSERT INTO texts SELECT a * 10, s FROM input('a Int64, s String') FORMAT CSV\n6,\"through input\"\n")
    front.text("INSERT INTO texts SELECT {n:Int64}, 'selected'", param_n="7")
    front.text("INSERT INTO {table:Identifier} VALUES (8, 'named')", param_table="texts")
    assert front.text("SELECT a, s FROM texts ORDER BY a") == (
        "1\tjson\n2\tcsv\n3\tvalues\n4\texpression\n5\tin one body\n7\tselected\n8\tnamed\n60\tthrough input\n"
    )


def avro_rows(count: int) -> bytes:
    schema = fastavro.parse_schema(
        {
            "type": "record",
            "name": "Row",
            "fields": [
                {"name": "topic", "type": "string"},
                {"name": "offset", "type": "long"},
                {"name": "hash", "type": {"type": "fixed", "name": "Hash", "size": 32}},
                {"name": "timings", "type": {"type": "array", "items": "long"}},
                {"name": "text", "type": "string"},
            ],
        }
    )
    out = io.BytesIO()
    rows = (
        {
            "topic": "t",
            "offset": i,
            "hash": hashlib.sha256(b"%d" % i).digest(),
            "timings": [i, i + 1],
            "text": "x" * 300,
        }
        for i in range(count)
    )
    fastavro.writer(out, schema, rows)
    return out.getvalue()


def test_a_block_of_ten_thousand_avro_rows_is_inserted_whole(front: Front) -> None:
    front.text(
        "CREATE TABLE avro (topic LowCardinality(String), offset Int64, hash FixedString(32), timings Array(Int64), "
        "text String) ENGINE = ReplacingMergeTree ORDER BY (topic, offset)"
    )
    block = avro_rows(10_000)
    response = front.post("INSERT INTO avro FORMAT Avro", content=block)
    assert response.status_code == 200, response.text
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "10000"
    assert front.text("SELECT count(), sum(offset), sum(timings[2]), uniqExact(hash) FROM avro") == (
        "10000\t49995000\t50005000\t10000\n"
    )
    assert (
        front.text("SELECT hex(hash) FROM avro WHERE offset = 77").strip().lower() == hashlib.sha256(b"77").hexdigest()
    )
    # A damaged block is refused whole.
    assert front.post("INSERT INTO avro FORMAT Avro", content=block[:-100]).status_code >= 400
    assert front.text("SELECT count() FROM avro") == "10000\n"


def refused(front: Front, sql: str, content: bytes, **params: Any) -> int:
    response = front.post(sql, content=content, **params)
    assert response.status_code >= 400
    assert re.search(r"INFILE '|uploads|in file|from file", response.text) is None
    return code(response)


@pytest.mark.parametrize(
    ("data_format", "good", "bad"),
    [
        ("TSV", b"1\n", b"-1\n"),
        ("JSONEachRow", b'{"a": 1}\n', b'{"a": -1}\n'),
        ("Values", b"(1)", b", (1 - 2)"),
        ("RowBinary", (1).to_bytes(8, "little"), (-1).to_bytes(8, "little", signed=True)),
    ],
)
def test_an_insert_that_violates_a_constraint_is_an_error_and_stores_nothing(
    front: Front, data_format: str, good: bytes, bad: bytes
) -> None:
    front.text("CREATE OR REPLACE TABLE positive (a Int64, CONSTRAINT positive CHECK a > 0) ENGINE = Memory")
    sql = f"INSERT INTO positive FORMAT {data_format}"
    response = front.post(sql, content=good + bad)
    assert (response.status_code, code(response)) == (500, 469)
    assert "VIOLATED_CONSTRAINT" in response.text
    assert refused(front, sql, good + bad, async_insert=1, wait_for_async_insert=0) == 469
    assert front.text("SELECT count() FROM positive") == "0\n"
    assert front.post(sql, content=good).status_code == 200
    assert front.text("SELECT a FROM positive") == "1\n"


def test_an_insert_into_too_many_parts_is_an_error(front: Front) -> None:
    front.text(
        "CREATE TABLE parts (a Int64) ENGINE = MergeTree ORDER BY a "
        "SETTINGS parts_to_delay_insert = 1000, parts_to_throw_insert = 2"
    )
    front.text("SYSTEM STOP MERGES parts")
    outcomes = [front.post("INSERT INTO parts FORMAT TSV", content=b"%d\n" % i) for i in range(4)]
    assert [response.status_code for response in outcomes] == [200, 200, 500, 500]
    assert [code(response) for response in outcomes[2:]] == [252, 252]
    assert front.text("SELECT a FROM parts ORDER BY a") == "0\n1\n"


def test_a_materialized_view_that_fails_fails_the_insert(front: Front) -> None:
    front.text("CREATE TABLE viewed (a Int64) ENGINE = MergeTree ORDER BY a")
    front.text(
        "CREATE MATERIALIZED VIEW strict ENGINE = MergeTree ORDER BY a "
        "AS SELECT a, throwIf(a = 3, 'no threes') AS t FROM viewed"
    )
    assert refused(front, "INSERT INTO viewed FORMAT TSV", b"1\n3\n") == 395


def test_data_that_goes_wrong_in_mid_body_is_an_error_and_stores_nothing(front: Front) -> None:
    front.text("CREATE TABLE typed (a Int64, s String) ENGINE = MergeTree ORDER BY a")
    rows = b"".join(b"%d\tx\n" % i for i in range(300_000))
    text = rows + b"many\tx\n" + rows
    sql = "INSERT INTO typed FORMAT TSV"
    assert refused(front, sql, text) == 27
    blocks = BlockEncoder().encode(rows)
    assert refused(front, sql, blocks[:-1] + b"\0", decompress=1) > 0
    assert refused(front, "INSERT INTO typed FORMAT Nope", rows) == 73
    assert refused(front, "INSERT INTO typed nonsense FORMAT TSV", rows) == 62
    assert refused(front, "INSERT INTO absent FORMAT TSV", rows) == 60
    assert front.text("SELECT count() FROM typed") == "0\n"
    assert front.post(sql, content=rows).status_code == 200
    assert front.text("SELECT count() FROM typed") == "300000\n"
    assert list((front.folder / "data" / "uploads").iterdir()) == []


INSERTABLE_FORMATS = (
    *("Native", "Avro", "Parquet", "ORC", "Arrow", "ArrowStream", "RowBinary", "RowBinaryWithNamesAndTypes"),
    *("JSON", "JSONCompact", "JSONEachRow", "JSONColumns", "CSV", "CSVWithNames", "TabSeparatedWithNamesAndTypes"),
    *("TSKV", "MsgPack", "BSONEachRow", "Values", "CustomSeparated", "JSONObjectEachRow"),
)


@pytest.mark.parametrize("data_format", INSERTABLE_FORMATS)
def test_what_was_read_in_a_format_can_be_inserted_in_it(front: Front, data_format: str) -> None:
    front.text("CREATE OR REPLACE TABLE formats (a Int64, s String) ENGINE = Memory")
    data = front.post(f"SELECT toInt64(number) AS a, toString(number) AS s FROM numbers(1000) FORMAT {data_format}")
    response = front.post(f"INSERT INTO formats (a, s) FORMAT {data_format}", content=data.content)
    assert response.status_code == 200, response.text
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == "1000"
    assert front.text("SELECT count(), sum(a), sum(toInt64(s)) FROM formats") == "1000\t499500\t499500\n"


def test_a_large_insert_takes_bounded_memory(front: Front) -> None:
    front.text("CREATE TABLE discarded (s String) ENGINE = Null")
    process = psutil.Process(front.process.pid)
    piece = b"x" * 1023 + b"\n"
    before = most = process.memory_info().rss

    def body() -> Iterator[bytes]:
        nonlocal most
        for _ in range(400):
            most = max(most, process.memory_info().rss)
            yield piece * 1024

    response = front.post("INSERT INTO discarded FORMAT TSV", content=body(), max_threads=1, max_insert_block_size=8192)
    assert response.status_code == 200, response.text
    assert json.loads(response.headers["X-ClickHouse-Summary"])["written_rows"] == str(400 * 1024)
    assert most - before < 100 << 20


def test_an_insert_whose_client_goes_away_writes_nothing(front: Front) -> None:
    front.text("CREATE TABLE half (a Int64) ENGINE = MergeTree ORDER BY a")

    def half() -> Iterator[bytes]:
        yield b"1\n2\n"
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        front.post("INSERT INTO half FORMAT TSV", content=half(), query_id="half")
    wait_until(lambda: front.post("SELECT 1", query_id="half").status_code == 200)
    assert front.text("SELECT count() FROM half") == "0\n"
