"""ClickHouse's HTTP interface as its clients use it: clickhouse-connect, unmodified, and plain HTTP."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import clickhouse_connect
import fastavro
import httpx
import lz4.frame
import pandas
import psutil
import pyarrow
import pyarrow.parquet
import pytest
from backports import zstd
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from clickhouse_connect.driver.external import ExternalData

from embedded.clickhouse.compression import BlockDecoder, BlockEncoder
from embedded.clickhouse.users import create_users_file

PASSWORDS = {"gyre": "pass-of-gyre", "analyst": "pass-of-analyst"}
START_SECONDS = 30.0


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Front:
    process: subprocess.Popen[str]
    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def client(self, user: str = "gyre", **kwargs: Any) -> Client:
        return clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, username=user, password=PASSWORDS[user], **kwargs
        )

    def post(self, sql: str | bytes, user: str = "gyre", content: Any = None, **params: Any) -> httpx.Response:
        if content is not None:
            params["query"], sql = sql, content
        return httpx.post(self.url, params=params, content=sql, auth=(user, PASSWORDS[user]), timeout=120)

    def text(self, sql: str, **params: Any) -> str:
        response = self.post(sql, **params)
        assert response.status_code == 200, response.text
        return response.text

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(timeout=60)


def environment(folder: Path, port: int) -> dict[str, str]:
    prefix = "GYRE_EMBEDDED_CLICKHOUSE_"
    return os.environ | {
        f"{prefix}DATA_DIR": str(folder / "data"),
        f"{prefix}USERS_FILE": str(folder / "users.json"),
        f"{prefix}PORT": str(port),
        f"{prefix}CONNECTIONS": "4",
    }


def launch(folder: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "embedded.clickhouse"],
        env=environment(folder, port),
        stderr=subprocess.PIPE,
        text=True,
    )


def start(folder: Path) -> Front:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "users.json").exists():
        create_users_file(folder / "users.json", PASSWORDS)
    front = Front(launch(folder, port := free_port()), port, folder)

    def answers() -> bool:
        if front.process.poll() is not None:
            assert front.process.stderr is not None
            pytest.fail(f"the front ended: {front.process.stderr.read()}")
        try:
            return httpx.get(front.url + "ping").text == "Ok.\n"
        except httpx.TransportError:
            return False

    wait_until(answers, START_SECONDS)
    return front


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = start(tmp_path_factory.mktemp("front"))
    yield front
    assert front.stop() == 0


@pytest.fixture(scope="module")
def client(front: Front) -> Iterator[Client]:
    with front.client() as client:
        yield client


def code(response: httpx.Response) -> int:
    return int(response.headers["X-ClickHouse-Exception-Code"])


# clickhouse-connect


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


def test_the_read_only_user_reads_and_changes_nothing(front: Front, client: Client) -> None:
    client.command("CREATE TABLE guarded (a Int64) ENGINE = MergeTree ORDER BY a")
    client.command("INSERT INTO guarded VALUES (1)")
    with front.client("analyst") as analyst:
        assert analyst.query("SELECT a FROM guarded").first_row == (1,)
        assert analyst.query_df("SELECT a FROM guarded").shape == (1, 1)
        with pytest.raises(DatabaseError) as failure:
            analyst.insert("guarded", [[2]])
        assert failure.value.code == 164
    for sql in (
        "INSERT INTO guarded VALUES (2)",
        "INSERT INTO guarded SELECT 2",
        "INSERT INTO guarded FORMAT CSV\n2",
        "CREATE TABLE more (a Int8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE more (a Int8)",
        "DROP TABLE guarded",
        "ALTER TABLE guarded DELETE WHERE 1",
        "TRUNCATE TABLE guarded",
        "OPTIMIZE TABLE guarded",
        "SET readonly = 0",
        "SET max_memory_usage = 1",
        "SELECT 1 SETTINGS readonly = 0",
        "SELECT 1 SETTINGS max_memory_usage = 1",
        "SYSTEM FLUSH LOGS",
    ):
        response = front.post(sql, user="analyst")
        assert (sql, response.headers.get("X-ClickHouse-Exception-Code")) == (sql, "164")
    for params in ({"readonly": "0"}, {"max_threads": "7"}):
        assert code(front.post("SELECT 1", user="analyst", **params)) == 164
    with httpx.Client(auth=("analyst", PASSWORDS["analyst"]), params={"session_id": "s"}) as session:
        for sql in ("SELECT 1", "USE system"):
            assert session.post(front.url, content=sql).status_code == 200
        assert code(session.post(front.url, content="INSERT INTO default.guarded VALUES (2)")) == 164
        assert code(session.post(front.url, content="SET readonly = 0")) == 164
    assert code(front.post("KILL QUERY WHERE 1", user="analyst")) == 497
    assert front.text("SELECT count() FROM guarded") == "1\n"


# Plain HTTP


def test_ping_and_the_root_answer_ok_without_credentials(front: Front) -> None:
    for path in ("", "ping", "replicas_status"):
        assert httpx.get(front.url + path).text == "Ok.\n"
    assert httpx.get(front.url + "nowhere").status_code == 404


def test_an_answer_carries_clickhouses_headers(front: Front) -> None:
    response = front.post("SELECT number FROM numbers(10)", query_id="mine", default_format="JSONCompact")
    headers = response.headers
    assert headers["X-ClickHouse-Query-Id"] == "mine"
    assert headers["X-ClickHouse-Format"] == "JSONCompact"
    assert headers["X-ClickHouse-Timezone"]
    assert headers["X-ClickHouse-Server-Display-Name"] == socket.gethostname()
    assert headers["Content-Type"] == "application/json; charset=UTF-8"
    summary = json.loads(headers["X-ClickHouse-Summary"])
    assert (summary["read_rows"], summary["result_rows"]) == ("10", "10")
    assert response.json()["rows"] == 10


def test_every_way_to_authenticate_works_and_wrong_ones_do_not(front: Front) -> None:
    params = {"query": "SELECT 1"}
    password = PASSWORDS["gyre"]
    accepted = (
        httpx.get(front.url, params=params, auth=("gyre", password)),
        httpx.get(front.url, params=params, headers={"X-ClickHouse-User": "gyre", "X-ClickHouse-Key": password}),
        httpx.get(front.url, params=params | {"user": "gyre", "password": password}),
    )
    assert [response.text for response in accepted] == ["1\n"] * 3
    refused = (
        httpx.get(front.url, params=params),
        httpx.get(front.url, params=params, auth=("gyre", "wrong")),
        httpx.get(front.url, params=params, auth=("nobody", password)),
        httpx.get(front.url, params=params, auth=("gyre", password), headers={"X-ClickHouse-User": "gyre"}),
        httpx.get(front.url, params=params, headers={"Authorization": "Basic %%%"}),
        httpx.get(front.url, params=params, headers={"Authorization": "Bearer abc"}),
    )
    for response in refused:
        assert (response.status_code, code(response)) == (403, 516), response.text
        assert password not in response.text


def test_get_is_read_only(front: Front) -> None:
    for sql in ("CREATE TABLE by_get (a Int8) ENGINE = Memory", "INSERT INTO by_get VALUES (1)", "DROP TABLE by_get"):
        response = httpx.get(front.url, params={"query": sql}, auth=("gyre", PASSWORDS["gyre"]))
        assert code(response) == 164
        assert "POST" in response.text


@pytest.mark.parametrize(
    ("sql", "expected_code", "status"),
    [
        ("SELEC 1", 62, 400),
        ("", 62, 400),
        ("SELECT 1; SELECT 2", 62, 400),
        ("SELECT nope", 47, 404),
        ("SELECT * FROM nope", 60, 404),
        ("SELECT 1 FORMAT Nope", 73, 404),
        ("SELECT throwIf(1, 'thrown')", 395, 500),
        ("SELECT 1 SETTINGS no_such_setting = 1", 115, 404),
        ("SELECT 1 INTO OUTFILE '/tmp/x'", 358, 500),
        ("INSERT INTO t FROM INFILE '/etc/hostname' FORMAT CSV", 78, 404),
    ],
)
def test_a_failure_has_clickhouses_code_text_and_status(
    front: Front, sql: str, expected_code: int, status: int
) -> None:
    response = front.post(sql)
    assert (code(response), response.status_code) == (expected_code, status)
    assert re.fullmatch(
        rf"Code: {expected_code}\. DB::Exception: .+ \([A-Z_]+\) \(version [\d.]+\)\n", response.text, re.DOTALL
    )
    assert response.text.count("DB::Exception") == 1
    assert "pipes" not in response.text


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM file('/etc/hostname', 'LineAsString')",
        "SELECT file('/etc/hostname')",
        "SELECT * FROM `file`('/etc/hostname', 'LineAsString')",
        "SELECT * FROM `/etc/passwd`",
        "SELECT * FROM url('file:///etc/hostname', 'LineAsString')",
        "SELECT * FROM Python(x)",
        "SELECT * FROM executable('id', 'TSV', 'a String')",
        "CREATE TABLE web (s String) ENGINE = URL('http://127.0.0.1:1/', 'CSV')",
        "CREATE TABLE disk (s String) ENGINE = File(LineAsString, '/etc/hostname')",
        "CREATE TABLE program (s String) ENGINE = Executable('id', 'TSV')",
        "CREATE TABLE lite (s String) ENGINE = SQLite('/tmp/stolen', 't')",
        "CREATE DATABASE host ENGINE = Filesystem('/etc')",
        "CREATE DICTIONARY d (k UInt64, v String) PRIMARY KEY k SOURCE(EXECUTABLE(COMMAND 'id' FORMAT 'TSV')) "
        "LAYOUT(FLAT()) LIFETIME(1)",
        "INSERT INTO FUNCTION file('/tmp/stolen', 'TSV') SELECT 1",
        "BACKUP DATABASE default TO File('/tmp/stolen')",
    ],
)
def test_no_query_reaches_the_machine_beside_the_database(front: Front, sql: str) -> None:
    first = front.post(sql)
    if sql.startswith("CREATE DATABASE"):
        # That such a database exists is harmless; reading from it is not allowed.
        first = front.post("SELECT * FROM host.hostname")
    assert "X-ClickHouse-Exception-Code" in first.headers, first.text
    assert socket.gethostname() not in first.text


@pytest.mark.parametrize("coding", ["gzip", "deflate", "lz4", "zstd"])
def test_bodies_are_compressed_both_ways(front: Front, coding: str) -> None:
    pack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.compress,
        "deflate": zlib.compress,
        "lz4": lz4.frame.compress,
        "zstd": zstd.compress,
    }
    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "deflate": zlib.decompress,
        "lz4": lz4.frame.decompress,
        "zstd": zstd.decompress,
    }
    auth = ("gyre", PASSWORDS["gyre"])
    sql = b"SELECT number FROM numbers(500000)"
    expected = hashlib.sha256("".join(f"{i}\n" for i in range(500_000)).encode()).digest()
    with httpx.stream(
        "POST",
        front.url,
        params={"enable_http_compression": "1"},
        content=pack[coding](sql),
        auth=auth,
        headers={"Content-Encoding": coding, "Accept-Encoding": coding},
    ) as response:
        packed = b"".join(response.iter_raw())
        assert response.headers["Content-Encoding"] == coding
    assert hashlib.sha256(unpack[coding](packed)).digest() == expected
    # A server compresses only when asked to by the setting.
    plain = httpx.post(front.url, content=sql, auth=auth, headers={"Accept-Encoding": coding})
    assert "Content-Encoding" not in plain.headers
    broken = httpx.post(front.url, content=b"\x00broken", auth=auth, headers={"Content-Encoding": coding})
    assert code(broken) == 271


def test_clickhouses_own_compressed_blocks_work_both_ways(front: Front) -> None:
    front.text("CREATE TABLE blocks (n UInt64) ENGINE = MergeTree ORDER BY n")
    rows = "".join(f"{i}\n" for i in range(300_000)).encode()
    assert (
        front.post("INSERT INTO blocks FORMAT TSV", content=BlockEncoder().encode(rows), decompress=1).status_code
        == 200
    )
    # What the engine itself writes to disk is made of such blocks.
    front.text(
        "CREATE TABLE stored (n UInt8 CODEC(LZ4)) ENGINE = MergeTree ORDER BY tuple() "
        "SETTINGS min_bytes_for_wide_part = 0"
    )
    front.text("INSERT INTO stored SELECT number % 7 FROM numbers(1000)")
    [part] = front.text("SELECT path FROM system.parts WHERE table = 'stored' AND active").splitlines()
    assert b"".join(BlockDecoder().decode((Path(part) / "n.bin").read_bytes())) == bytes(i % 7 for i in range(1000))
    packed = front.post("SELECT n FROM blocks ORDER BY n", compress=1).content
    assert b"".join(BlockDecoder().decode(packed)) == rows


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


def test_clickhouse_connect_is_told_of_a_violated_constraint(client: Client) -> None:
    client.command("CREATE TABLE small (a Int64, CONSTRAINT small CHECK a < 10) ENGINE = MergeTree ORDER BY a")
    with pytest.raises(DatabaseError, match="VIOLATED_CONSTRAINT") as failure:
        client.insert("small", [[1], [10]], column_names=["a"])
    assert failure.value.code == 469
    assert client.query("SELECT count() FROM small").first_row == (0,)


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


@pytest.mark.parametrize(
    ("sql", "content"),
    [
        ("INSERT INTO secrets VALUES", "(file('{path}'))"),
        ("INSERT INTO secrets FORMAT values", "('x'), (concat('', `file`('{path}')))"),
        ("INSERT INTO secrets SELECT * FROM input('s String') FORMAT Values", "(file('{path}'))"),
        ("INSERT INTO secrets SELECT b FROM input('a String, b String DEFAULT file(''{path}'')') FORMAT TSKV", "a=1\n"),
        ("INSERT INTO secrets SELECT * FROM format(Values, 's String', '(file(''{path}''))')", ""),
    ],
)
def test_an_insert_reaches_no_file(front: Front, tmp_path: Path, sql: str, content: str) -> None:
    (tmp_path / "secret").write_text("secret")
    path = str(tmp_path / "secret")
    front.text("CREATE OR REPLACE TABLE secrets (s String) ENGINE = Memory")
    response = front.post(sql.replace("{path}", path), content=content.replace("{path}", path).encode())
    assert code(response) == 497
    assert front.text("SELECT count() FROM secrets") == "0\n"


def test_external_data_reaches_no_file(front: Front, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    call = f"file('{tmp_path / 'secret'}')"
    with front.client("analyst") as analyst:
        for fmt, structure, data in (
            ("Values", "s String", f"({call})"),
            ("JSONEachRow", f"a String, s String DEFAULT {call}", '{"a": "1"}'),
        ):
            external = ExternalData(file_name="stolen", fmt=fmt, structure=[structure], data=data.encode())
            with pytest.raises(DatabaseError) as failure:
                analyst.query("SELECT s FROM stolen", external_data=external)
            assert failure.value.code == 497


def test_an_insert_whose_client_goes_away_writes_nothing(front: Front) -> None:
    front.text("CREATE TABLE half (a Int64) ENGINE = MergeTree ORDER BY a")

    def half() -> Iterator[bytes]:
        yield b"1\n2\n"
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        front.post("INSERT INTO half FORMAT TSV", content=half(), query_id="half")
    wait_until(lambda: front.post("SELECT 1", query_id="half").status_code == 200)
    assert front.text("SELECT count() FROM half") == "0\n"


def test_settings_come_as_parameters_and_reach_the_output(front: Front) -> None:
    sql = "SELECT toUInt64(1) AS n FORMAT JSONEachRow"
    assert front.text(sql, output_format_json_quote_64bit_integers=1) == '{"n":"1"}\n'
    assert front.text(sql, output_format_json_quote_64bit_integers=0) == '{"n":1}\n'
    assert code(front.post("SELECT 1", no_such_setting=1)) == 115
    assert code(front.post("SELECT sleepEachRow(0.1) FROM numbers(100)", max_execution_time=1)) in (159, 160)


def test_the_database_is_chosen_by_parameter_or_header(front: Front) -> None:
    front.text("CREATE DATABASE IF NOT EXISTS other")
    assert front.text("SELECT currentDatabase()", database="other") == "other\n"
    by_header = httpx.post(
        front.url,
        content="SELECT currentDatabase()",
        auth=("gyre", PASSWORDS["gyre"]),
        headers={"X-ClickHouse-Database": "other"},
    )
    assert by_header.text == "other\n"
    assert code(front.post("SELECT 1", database="nope")) == 81


@pytest.mark.parametrize(
    "output_format",
    [
        "JSON",
        "JSONCompact",
        "CSVWithNames",
        "TabSeparatedWithNamesAndTypes",
        "RowBinaryWithNamesAndTypes",
        "XML",
        "ArrowStream",
        "Parquet",
    ],
)
def test_a_large_answer_is_one_document_in_every_format(front: Front, output_format: str) -> None:
    response = front.post(f"SELECT number AS n FROM numbers(300000) FORMAT {output_format}")
    assert response.status_code == 200
    content = response.content
    if output_format.startswith("JSON"):
        assert len(response.json()["data"]) == response.json()["rows"] == 300_000
    elif output_format == "CSVWithNames":
        assert content.startswith(b'"n"\n0\n')
        assert content.count(b'"n"') == 1
        assert content.count(b"\n") == 300_001
    elif output_format == "TabSeparatedWithNamesAndTypes":
        assert content.startswith(b"n\nUInt64\n0\n")
        assert content.count(b"\n") == 300_002
    elif output_format == "RowBinaryWithNamesAndTypes":
        assert len(content) == len(b"\x01\x01n\x06UInt64") + 8 * 300_000
    elif output_format == "XML":
        assert content.count(b"<row>") == 300_000
        assert content.rstrip().endswith(b"</result>")
    elif output_format == "ArrowStream":
        assert pyarrow.ipc.open_stream(content).read_all().num_rows == 300_000
    else:
        assert pyarrow.parquet.read_table(io.BytesIO(content)).num_rows == 300_000


def test_a_failure_in_mid_answer_is_marked_and_the_answer_is_cut_off(front: Front) -> None:
    sql = "SELECT number, throwIf(number = 3000000, 'late') FROM numbers(5000000)"
    body = bytearray()
    with httpx.stream("POST", front.url, content=sql, auth=("gyre", PASSWORDS["gyre"])) as response:
        assert response.status_code == 200
        tag = response.headers["X-ClickHouse-Exception-Tag"].encode()
        with pytest.raises(httpx.RemoteProtocolError):  # the pieces until then are looked at
            for piece in response.iter_bytes():
                body += piece
    found = re.search(
        rb"\r\n__exception__\r\n(\w+)\r\n(.+)\n(\d+) \1\r\n__exception__\r\n$", bytes(body[-2000:]), re.DOTALL
    )
    assert found is not None
    assert found[1] == tag
    assert found[2].startswith(b"Code: 395. DB::Exception: late")
    assert int(found[3]) == len(found[2])


def test_wait_end_of_query_turns_a_late_failure_into_a_status(front: Front) -> None:
    sql = "SELECT number, throwIf(number = 3000000, 'late') FROM numbers(5000000)"
    response = front.post(sql, wait_end_of_query=1)
    assert (response.status_code, code(response)) == (500, 395)
    whole = front.post("SELECT number FROM numbers(3000000)", wait_end_of_query=1)
    assert whole.text.count("\n") == 3_000_000
    assert json.loads(whole.headers["X-ClickHouse-Summary"])["read_rows"] == "3000000"


def test_a_large_answer_is_streamed_with_bounded_memory(front: Front) -> None:
    process = psutil.Process(front.process.pid)
    front.text("SELECT count() FROM numbers(1000000)")
    before = process.memory_info().rss
    most = received = 0
    sql = "SELECT number, repeat('x', 200) FROM numbers(4000000) FORMAT JSONEachRow"
    with httpx.stream("POST", front.url, content=sql, auth=("gyre", PASSWORDS["gyre"]), timeout=120) as response:
        for piece in response.iter_bytes(4 << 20):
            received += len(piece)
            most = max(most, process.memory_info().rss)
    assert received > 900 << 20
    assert most - before < 250 << 20


def test_a_short_query_returns_while_long_ones_run(front: Front) -> None:
    sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"
    outcomes: list[httpx.Response] = []

    def run_long(name: str) -> None:
        outcomes.append(front.post(sql, query_id=name, max_threads=1))

    names = ["long 0", "long 1", "long 2"]
    threads = [threading.Thread(target=run_long, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: int(front.text("SELECT count() FROM system.processes WHERE query LIKE '%1000000000000)%ignore%'")) >= 4
    )
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert front.text("SELECT 1") == "1\n"
        took.append(time.monotonic() - started)
    assert min(took) < 1.0
    assert not outcomes
    assert code(front.post("SELECT 1", query_id="long 0")) == 216
    for name in names:
        assert "finished\n" not in front.text(f"KILL QUERY WHERE query_id = '{name}' SYNC").split("\t")
    for thread in threads:
        thread.join(timeout=30)
    assert [code(response) for response in outcomes] == [394] * 3


def test_a_client_that_goes_away_takes_its_query_with_it(front: Front) -> None:
    sql = "SELECT count() FROM numbers(2000000000000) WHERE NOT ignore(sipHash64(number))"
    probe = "SELECT count() FROM system.processes WHERE position(query, concat('20000000', '00000)')) > 0"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(front.url, content=sql, auth=("gyre", PASSWORDS["gyre"]), timeout=1.0)
    wait_until(lambda: front.text(probe) == "0\n")


def test_a_session_is_locked_while_used_and_must_exist_where_that_is_asked(front: Front) -> None:
    assert code(front.post("SELECT 1", session_id="absent", session_check=1)) == 372
    assert code(front.post("SELECT 1", session_id="x", session_timeout="soon")) == 374
    assert code(front.post("SELECT 1", session_id="x", session_timeout="100000")) == 374
    slow = threading.Thread(target=front.post, args=("SELECT sleep(2)",), kwargs={"session_id": "locked"})
    slow.start()
    wait_until(lambda: front.text("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep%'") == "1\n")
    assert code(front.post("SELECT 1", session_id="locked")) == 373
    slow.join()
    assert front.post("SELECT 1", session_id="locked", session_check=1, close_session=1).status_code == 200
    assert code(front.post("SELECT 1", session_id="locked", session_check=1)) == 372


def test_a_session_ends_when_left_alone(front: Front) -> None:
    assert front.post("SELECT 1", session_id="brief", session_timeout=1).status_code == 200
    wait_until(
        lambda: (
            "X-ClickHouse-Exception-Code"
            in front.post("SELECT 1", session_id="brief", session_check=1, session_timeout=0).headers
        )
    )


def test_a_query_of_half_a_megabyte_fits_in_a_url(front: Front) -> None:
    sql = "SELECT length('" + "x" * 500_000 + "')"
    query = urllib.parse.urlencode({"query": sql, "max_query_size": 1_000_000})
    request = urllib.request.Request(
        f"{front.url}?{query}", headers={"X-ClickHouse-User": "gyre", "X-ClickHouse-Key": PASSWORDS["gyre"]}
    )
    with urllib.request.urlopen(request) as response:
        assert response.read() == b"500000\n"


# The process


def test_what_was_acknowledged_survives_a_kill_and_what_was_stopped_survives_too(tmp_path: Path) -> None:
    front = start(tmp_path)
    front.text("CREATE TABLE kept (a Int64) ENGINE = MergeTree ORDER BY a")
    front.text("INSERT INTO kept SELECT number FROM numbers(1000)")
    assert front.post("INSERT INTO kept FORMAT TSV", content=b"5000\n").status_code == 200
    front.stop(signal.SIGKILL)
    front = start(tmp_path)
    assert front.text("SELECT count(), max(a) FROM kept") == "1001\t5000\n"
    front.text("CREATE TABLE later (a Int64) ENGINE = MergeTree ORDER BY a")
    front.text("INSERT INTO later VALUES (1)")
    assert front.stop() == 0
    front = start(tmp_path)
    assert front.text("SELECT (SELECT count() FROM kept), (SELECT count() FROM later)") == "1001\t1\n"
    assert front.stop() == 0


def test_a_query_in_flight_finishes_before_a_graceful_stop(tmp_path: Path) -> None:
    front = start(tmp_path)
    answers: list[httpx.Response] = []
    thread = threading.Thread(target=lambda: answers.append(front.post("SELECT sleep(2)")))
    thread.start()
    wait_until(lambda: front.text("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep%'") == "1\n")
    assert front.stop() == 0
    thread.join()
    assert answers[0].text == "0\n"


def test_a_start_that_cannot_succeed_says_why_in_one_sentence(front: Front, tmp_path: Path) -> None:
    def refusal(folder: Path, port: int) -> str:
        process = launch(folder, port)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait(timeout=30) == 2
        last = said.strip().splitlines()[-1]
        assert "Traceback" not in said
        return last

    assert f"the data folder {front.folder / 'data'} is in use by another process" in refusal(front.folder, free_port())
    assert "users file" in refusal(tmp_path, free_port())
    create_users_file(tmp_path / "users.json")
    assert f"port {front.port} on 127.0.0.1 is taken" in refusal(tmp_path, front.port)
    assert "GYRE_EMBEDDED_CLICKHOUSE_PORT" in refusal(tmp_path, 70000)
