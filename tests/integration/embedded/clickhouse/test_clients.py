"""clickhouse-connect, unmodified."""

import pandas
import pyarrow
import pyarrow.parquet
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from clickhouse_connect.driver.external import ExternalData

from tests.integration.embedded.clickhouse.front import Front


def test_clickhouse_connect_inserts_natively_and_reads_back_what_it_wrote(client: Client) -> None:
    client.command(
        "CREATE TABLE native (id UInt32, name LowCardinality(String), tags Array(String), at DateTime64(3)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    rows = [
        [i, f"name {i % 7}", [f"t{i}", "ünïcode\t'\\"], pandas.Timestamp("2026-01-02 03:04:05.678")]
        for i in range(2000)
    ]
    summary = client.insert("native", rows, column_names=["id", "name", "tags", "at"])
    assert summary.written_rows == 2000
    result = client.query("SELECT * FROM native ORDER BY id")
    assert [list(row) for row in result.result_rows] == [
        [i, name, tags, at.to_pydatetime()] for i, name, tags, at in rows
    ]
    assert int(result.summary["read_rows"]) == 2000


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", "deflate", False])
def test_clickhouse_connect_works_with_every_compression(front: Front, compress: str | bool) -> None:
    with front.client(compress=compress) as client:
        client.command("CREATE TABLE IF NOT EXISTS packed (n UInt64, c String) ENGINE = MergeTree ORDER BY n")
        client.command("TRUNCATE TABLE packed")
        if compress == "deflate":  # which clickhouse-connect reads but cannot write
            client.command("INSERT INTO packed SELECT number, repeat(toString(number), 10) FROM numbers(50000)")
        else:
            client.insert("packed", [[i, str(i) * 10] for i in range(50_000)])
        assert client.query("SELECT sum(n), sum(length(c)) FROM packed").first_row == (
            sum(range(50_000)),
            sum(len(str(i)) * 10 for i in range(50_000)),
        )
        assert len(client.query("SELECT n FROM packed").result_rows) == 50_000


def test_clickhouse_connect_moves_data_frames_and_arrow_tables(client: Client) -> None:
    client.command("CREATE TABLE frames (a Int64, b String) ENGINE = MergeTree ORDER BY a")
    client.insert_df("frames", pandas.DataFrame({"a": range(1000), "b": [f"v{i}" for i in range(1000)]}))
    client.insert_arrow("frames", pyarrow.table({"a": pyarrow.array(range(1000, 2000)), "b": ["w"] * 1000}))
    frame = client.query_df("SELECT a, b FROM frames ORDER BY a")
    assert list(frame["a"]) == list(range(2000))
    assert client.query_arrow("SELECT a FROM frames").num_rows == 2000


def test_clickhouse_connect_binds_parameters_on_both_sides(client: Client) -> None:
    value = "it's a \\ \t tab\nand ünïcode"
    row = client.query(
        "SELECT {text:String}, {list:Array(Int32)}, {none:Nullable(String)}, {day:Date}",
        parameters={"text": value, "list": [1, 2], "none": None, "day": pandas.Timestamp("2026-02-03").date()},
    ).first_row
    assert row == (value, [1, 2], None, pandas.Timestamp("2026-02-03").date())
    assert client.query("SELECT %(text)s", parameters={"text": value}).first_row == (value,)


def test_clickhouse_connect_streams_rows(client: Client) -> None:
    with client.query_rows_stream("SELECT number FROM numbers(2000000)") as stream:
        assert sum(row[0] for row in stream) == sum(range(2_000_000))


def test_clickhouse_connect_is_told_of_a_failure_in_mid_stream(client: Client) -> None:
    sql = "SELECT number, throwIf(number = 3000000, 'in the middle') FROM numbers(5000000)"
    rows = 0
    stream = client.query_rows_stream(sql)
    with pytest.raises(ClickHouseError, match="in the middle"), stream:  # the rows until then count
        for _ in stream:
            rows += 1
    assert rows > 0


def test_clickhouse_connect_queries_with_external_data(client: Client) -> None:
    external = ExternalData(
        file_name="wanted.csv", fmt="CSV", structure=["id UInt32", "label String"], data=b'1,"one"\n2,"two"\n'
    )
    result = client.query("SELECT label FROM wanted ORDER BY id", external_data=external)
    assert result.result_rows == [("one",), ("two",)]


def test_the_read_only_user_queries_with_external_data(front: Front) -> None:
    external = ExternalData(file_name="wanted", fmt="CSV", structure=["id UInt32"], data=b"1\n2\n")
    with front.client("analyst") as analyst:
        assert analyst.query("SELECT sum(id) FROM wanted", external_data=external).first_row == (3,)


def test_clickhouse_connect_reports_the_code_of_an_error(client: Client) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_IDENTIFIER") as failure:
        client.query("SELECT nope")
    assert failure.value.code == 47


def test_a_session_keeps_its_temporary_tables_and_settings(front: Front, client: Client) -> None:
    with front.client(session_id="kept") as kept:
        kept.command("CREATE TEMPORARY TABLE mine (a Int8)")
        kept.insert("mine", [[1], [2]])
        kept.command("SET max_block_size = 123")
        assert kept.query("SELECT sum(a), getSetting('max_block_size') FROM mine").first_row == (3, 123)
        # Settings of one query don't outlive it.
        assert kept.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 77}).first_row == (77,)
        assert kept.query("SELECT getSetting('max_block_size')").first_row == (123,)
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM mine")


def test_clickhouse_connect_is_told_of_a_violated_constraint(client: Client) -> None:
    client.command("CREATE TABLE small (a Int64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT") as failure:
        client.insert("small", [[1], [10]], column_names=["a"])
    assert failure.value.code == 469
    assert client.query("SELECT count() FROM small").first_row == (0,)
