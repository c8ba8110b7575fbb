"""Answers by plain HTTP: headers, errors, compression, settings, large results."""

import gzip
import hashlib
import io
import json
import re
import socket
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from pathlib import Path

import httpx
import lz4.frame
import psutil
import pyarrow
import pyarrow.parquet
import pytest
from backports import zstd

from embedded.clickhouse.compression import BlockDecoder, BlockEncoder
from tests.integration.embedded.clickhouse.front import (
    PASSWORDS,
    Front,
    code,
)


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
    auth = ("audit", PASSWORDS["audit"])
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
        auth=("audit", PASSWORDS["audit"]),
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
    with httpx.stream("POST", front.url, content=sql, auth=("audit", PASSWORDS["audit"])) as response:
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
    # What the first one takes stays taken.
    front.text("SELECT number, repeat('x', 200) FROM numbers(100000) FORMAT JSONEachRow")
    before = process.memory_info().rss
    most = received = 0
    sql = "SELECT number, repeat('x', 200) FROM numbers(4000000) FORMAT JSONEachRow"
    with httpx.stream("POST", front.url, content=sql, auth=("audit", PASSWORDS["audit"]), timeout=120) as response:
        for piece in response.iter_bytes(4 << 20):
            received += len(piece)
            most = max(most, process.memory_info().rss)
    assert received > 900 << 20
    assert most - before < 250 << 20


def test_a_query_of_half_a_megabyte_fits_in_a_url(front: Front) -> None:
    sql = "SELECT length('" + "x" * 500_000 + "')"
    query = urllib.parse.urlencode({"query": sql, "max_query_size": 1_000_000})
    request = urllib.request.Request(
        f"{front.url}?{query}", headers={"X-ClickHouse-User": "audit", "X-ClickHouse-Key": PASSWORDS["audit"]}
    )
    with urllib.request.urlopen(request) as response:
        assert response.read() == b"500000\n"
