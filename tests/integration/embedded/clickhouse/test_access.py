"""Who may do what: users, methods, and what no query may reach."""

import socket
from pathlib import Path

import httpx
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError
from clickhouse_connect.driver.external import ExternalData

from embedded.clickhouse.limits import READ_ONLY_SETTINGS
from tests.integration.embedded.clickhouse.front import PASSWORDS, Front, code, start


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


def test_the_read_only_user_has_limits_and_may_only_lower_its_time(front: Front) -> None:
    for name, value in READ_ONLY_SETTINGS.items():
        assert front.text(f"SELECT getSetting('{name}')", user="analyst") == f"{value}\n"
    too_many = front.post("SELECT number FROM numbers(1000001)", user="analyst", wait_end_of_query="1")
    assert code(too_many) == 396
    assert front.post("SELECT number FROM numbers(1000001) FORMAT Null").status_code == 200
    for seconds, expected in (("61", 452), ("0", 452), ("soon", 27)):
        assert code(front.post("SELECT 1", user="analyst", max_execution_time=seconds)) == expected
    for params in ({}, {"session_id": "hurried"}):
        endless = front.post("SELECT count() FROM system.numbers", user="analyst", max_execution_time="1", **params)
        assert code(endless) == 159


def test_the_read_only_user_has_a_quota(tmp_path: Path) -> None:
    front = start(tmp_path, READ_ONLY_QUERIES="3")
    for _ in range(3):
        assert front.text("SELECT 1", user="analyst") == "1\n"
    refused = front.post("SELECT 1", user="analyst")
    assert code(refused) == 201
    assert "Quota for user `analyst` for 3600s has been exceeded: queries = 4/3." in refused.text
    assert front.text("SELECT 1") == "1\n"
    assert front.stop() == 0


def test_every_way_to_authenticate_works_and_wrong_ones_do_not(front: Front) -> None:
    params = {"query": "SELECT 1"}
    password = PASSWORDS["audit"]
    accepted = (
        httpx.get(front.url, params=params, auth=("audit", password)),
        httpx.get(front.url, params=params, headers={"X-ClickHouse-User": "audit", "X-ClickHouse-Key": password}),
        httpx.get(front.url, params=params | {"user": "audit", "password": password}),
    )
    assert [response.text for response in accepted] == ["1\n"] * 3
    refused = (
        httpx.get(front.url, params=params),
        httpx.get(front.url, params=params, auth=("audit", "wrong")),
        httpx.get(front.url, params=params, auth=("nobody", password)),
        httpx.get(front.url, params=params, auth=("audit", password), headers={"X-ClickHouse-User": "audit"}),
        httpx.get(front.url, params=params, headers={"Authorization": "Basic %%%"}),
        httpx.get(front.url, params=params, headers={"Authorization": "Bearer abc"}),
    )
    for response in refused:
        assert (response.status_code, code(response)) == (403, 516), response.text
        assert password not in response.text


def test_get_is_read_only(front: Front) -> None:
    for sql in ("CREATE TABLE by_get (a Int8) ENGINE = Memory", "INSERT INTO by_get VALUES (1)", "DROP TABLE by_get"):
        response = httpx.get(front.url, params={"query": sql}, auth=("audit", PASSWORDS["audit"]))
        assert code(response) == 164
        assert "POST" in response.text


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
