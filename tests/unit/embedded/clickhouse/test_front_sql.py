from __future__ import annotations

import re
import tempfile

import pytest

from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.sql import Kind, Statement, check_structure, check_values, parse


@pytest.mark.parametrize(
    ("text", "before", "output_format", "after"),
    [
        (b"SELECT 1", b"SELECT 1", None, b""),
        (b"SELECT 1 FORMAT JSON", b"SELECT 1 ", "JSON", b""),
        (b"select 1 format JSONEachRow ;", b"select 1 ", "JSONEachRow", b" "),
        (b"SELECT 1 FORMAT CSV SETTINGS max_threads = 1", b"SELECT 1 ", "CSV", b" SETTINGS max_threads = 1"),
        (b"SELECT * FROM t FORMAT Native", b"SELECT * FROM t ", "Native", b""),
        (b"SELECT format FROM t", b"SELECT format FROM t", None, b""),
        (b"SELECT format x", b"SELECT format x", None, b""),
        (b"SELECT a, format b", b"SELECT a, format b", None, b""),
        (b"SELECT 'x FORMAT JSON'", b"SELECT 'x FORMAT JSON'", None, b""),
        (b"SELECT 1 -- FORMAT JSON", b"SELECT 1 -- FORMAT JSON", None, b""),
        (b"SELECT 1 /* FORMAT JSON */ FORMAT XML", b"SELECT 1 /* FORMAT JSON */ ", "XML", b""),
        (b"SELECT (SELECT 1 FORMAT JSON)", b"SELECT (SELECT 1 FORMAT JSON)", None, b""),
    ],
)
def test_the_format_clause_is_found_where_it_is_one(
    text: bytes, before: bytes, output_format: str | None, after: bytes
) -> None:
    assert parse(text) == Statement(Kind.ROWS, before, after, output_format)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"", Kind.EMPTY),
        (b" -- nothing\n", Kind.EMPTY),
        (b"WITH 1 AS x SELECT x", Kind.ROWS),
        (b"(SELECT 1) UNION ALL (SELECT 2)", Kind.ROWS),
        (b"FROM t SELECT a", Kind.ROWS),
        (b"/* c */ show tables", Kind.ROWS),
        (b"EXPLAIN SELECT 1", Kind.ROWS),
        (b"WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", Kind.COMMAND),
        (b"CREATE TABLE t (a Int8) ENGINE = Memory", Kind.COMMAND),
        (b"INSERT INTO t SELECT 1", Kind.COMMAND),
        (b"INSERT INTO t (a, b) SELECT 1, 2", Kind.COMMAND),
        (b"INSERT INTO t (SELECT 1)", Kind.COMMAND),
        (b"INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x", Kind.COMMAND),
        (b"SET a = 1", Kind.SESSION),
        (b"use db", Kind.SESSION),
        (b"KILL QUERY WHERE 1", Kind.KILL),
        (b"nonsense", Kind.COMMAND),
    ],
)
def test_a_statement_is_told_by_what_it_does(text: bytes, kind: Kind) -> None:
    assert parse(text).kind is kind


@pytest.mark.parametrize(
    ("text", "before", "data_format", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", b"INSERT INTO t ", "CSV", b"1,2\n"),
        (b"INSERT INTO t FORMAT CSV 1,2\n", b"INSERT INTO t ", "CSV", b"1,2\n"),
        (b"INSERT INTO t FORMAT Native\r\n\x00\xff", b"INSERT INTO t ", "Native", b"\x00\xff"),
        (b"INSERT INTO t FORMAT TSV\n\n1", b"INSERT INTO t ", "TSV", b"\n1"),
        (b'insert into `d b`."t" (a, b) format Avro\nObj', b'insert into `d b`."t" (a, b) ', "Avro", b"Obj"),
        (
            b"INSERT INTO settings FORMAT TSV\nSETTINGS\n",
            b"INSERT INTO settings ",
            "TSV",
            b"SETTINGS\n",
        ),
        (b"INSERT INTO t VALUES (1, 'a;b')", b"INSERT INTO t ", "Values", b" (1, 'a;b')"),
        (b"INSERT INTO t(a)VALUES(1)", b"INSERT INTO t(a)", "Values", b"(1)"),
        (b"INSERT INTO values VALUES (1)", b"INSERT INTO values ", "Values", b" (1)"),
        (b"INSERT INTO db.format FORMAT CSV\n1", b"INSERT INTO db.format ", "CSV", b"1"),
        (b"INSERT INTO {t:Identifier} FORMAT CSV\n1", b"INSERT INTO {t:Identifier} ", "CSV", b"1"),
        (b"INSERT INTO FUNCTION null('a Int8') FORMAT CSV\n1", b"INSERT INTO FUNCTION null('a Int8') ", "CSV", b"1"),
        (b"INSERT INTO TABLE t (* EXCEPT(z)) FORMAT CSV\n1", b"INSERT INTO TABLE t (* EXCEPT(z)) ", "CSV", b"1"),
    ],
)
def test_the_data_of_an_insert_is_found(text: bytes, before: bytes, data_format: str, data: bytes) -> None:
    statement = parse(text)
    assert statement == Statement(Kind.INSERT, before, b"", data_format, statement.data_start)
    assert text[statement.data_start :] == data


def test_input_reads_from_a_table_in_its_place() -> None:
    text = b"INSERT INTO t SELECT a * 2 FROM input('a Int8, b String') WHERE b != '' FORMAT CSV\n1,x\n"
    statement = parse(text)
    assert statement.before_format == b"INSERT INTO t SELECT a * 2 FROM _input WHERE b != '' "
    assert (statement.input_structure, statement.format) == ("a Int8, b String", "CSV")
    assert text[statement.data_start :] == b"1,x\n"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SELECT 1; DROP TABLE t", 62),
        (b"SELECT 1 INTO OUTFILE '/tmp/x' FORMAT CSV", 358),
        ("SELECT \u2018'\u2019 INTO OUTFILE '/tmp/x' --'".encode(), 358),
        (b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", 78),
        (b"SELECT file('/etc/passwd')", 497),
        (b"SELECT FILE /* c */ ('/etc/passwd')", 497),
        (b"SELECT `\\x66ile`('/etc/passwd')", 497),
        (b"CREATE VIEW v AS SELECT file('/etc/passwd')", 497),
        (b"INSERT INTO t SELECT file('/etc/passwd')", 497),
        (b"SELECT * FROM (SELECT * FROM Python(x))", 497),
    ],
)
def test_what_a_server_does_not_do_is_refused(text: bytes, code: int) -> None:
    with pytest.raises(ClickHouseError) as failure:
        parse(text)
    assert failure.value.code == code


@pytest.mark.parametrize(
    "text", [b"SELECT 1;", b"SELECT 1 ; ;", b"SELECT ';' , file FROM t", b"SELECT $x$ ; file( $x$"]
)
def test_semicolons_and_names_that_mean_nothing_are_left_alone(text: bytes) -> None:
    assert parse(text).kind is Kind.ROWS


@pytest.mark.parametrize(
    "structure", ["a Int8", "a Decimal(9, 2), `b)` String DEFAULT ';)'", "a Tuple(x Int8, y Array(Int8))"]
)
def test_columns_may_hold_brackets_of_their_own(structure: str) -> None:
    check_structure(structure)


@pytest.mark.parametrize(
    "structure", ["a Int8); DROP TABLE t", "a Int8) ENGINE = Memory AS SELECT 1", "a Int8; b", "a ')"]
)
def test_columns_cannot_end_the_statement_they_stand_in(structure: str) -> None:
    with pytest.raises(ClickHouseError, match="not a list of columns"):
        check_structure(structure)


def test_the_settings_of_an_insert_are_taken_apart() -> None:
    for text, data_format in (
        (b"INSERT INTO t (a) SETTINGS async_insert=0, x='FORMAT' FORMAT TSV\nx", "TSV"),
        (b"INSERT INTO t (a) SETTINGS async_insert=0, x='FORMAT' VALUES (1)", "Values"),
    ):
        statement = parse(text)
        assert statement.before_format == b"INSERT INTO t (a) "
        assert statement.after_format == b"SETTINGS async_insert=0, x='FORMAT' "
        assert statement.format == data_format


def checked(values: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(values)
        file.flush()
        check_values(file)


@pytest.mark.parametrize(
    "values",
    [
        b"",
        b"(1, 'a'), (-2, 'it''s'), (3, 'it\\'s file('), (2 + 2, concat('file(', \"a\", `b`))",
        b"(profile, file_name, files('x')), (1 -- file it\n/2, /* comment */ [3, 4]), ('\xe2\x80\x98 \xff')",
        b"(1), ('never ended",
        b"(1), ('never ended\\",
        b"('it', 'python')" + b",(1)" * 100_000,
    ],
)
def test_harmless_values_pass(values: bytes) -> None:
    checked(values)


@pytest.mark.parametrize(
    ("values", "at"),
    [
        (b"(file('/etc/passwd'))", 2),
        (b"('x', File ('/etc/passwd'))", 7),
        (b"(`file`('/etc/passwd'))", 2),
        (b'("file"(1))', 2),
        (b"(`fil\\x65`(1))", 2),
        (b"(file/* */('/etc/passwd'))", 2),
        (b"(1 /* ' */, file('/etc/passwd') /* ' */)", 4),
        (b"(1 -- '\n, file('/etc/passwd'))", 4),
        (b"(1 $a$ ), (file(1)) $a$", 4),
        (b"(\xe2\x80\x98'\xe2\x80\x99, file('x'))", 2),
        (b"(1 # '\n, file(1))", 4),
        (b"(python(1))", 2),
        (b"('a'), " * 50_000 + b"(file(1))", 350_002),
    ],
)
def test_values_that_call_or_may_hide_a_local_function_are_refused(values: bytes, at: int) -> None:
    with pytest.raises(ClickHouseError, match=re.escape(f"at byte {at},")) as refusal:
        checked(values)
    assert refusal.value.code == 497


def test_a_structure_may_not_call_a_local_function() -> None:
    with pytest.raises(ClickHouseError) as refusal:
        check_structure("a String, b String DEFAULT file('/etc/passwd')")
    assert refusal.value.code == 497


@pytest.mark.parametrize(
    "sql",
    [
        b"SELECT * FROM format(Values, 'a String', '(1)')",
        b"SELECT * FROM `format`('JSONEachRow', 'a String', '{}')",
        b"SELECT * FROM format(concat('Val', 'ues'), '(1)')",
    ],
)
def test_the_table_function_format_is_refused_and_the_scalar_one_is_not(sql: bytes) -> None:
    with pytest.raises(ClickHouseError) as refusal:
        parse(sql)
    assert refusal.value.code == 497
    assert parse(b"SELECT format('{} is {}', a, b) FROM t").kind is Kind.ROWS
