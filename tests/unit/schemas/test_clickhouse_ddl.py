"""The numbered ClickHouse statements, all of them, and that what is wrong with one is found."""

import re
import shutil
from pathlib import Path

import pytest

from schemas import clickhouse


def test_nothing_is_wrong_with_the_statements() -> None:
    assert clickhouse.problems() == []
    assert len(clickhouse.migrations()) > 10


def test_of_a_replicated_database_every_table_is_replicated_and_nothing_else_changes() -> None:
    engines = []
    for migration in clickhouse.migrations():
        for statement in migration.statements:
            changed = clickhouse.replicated(statement)
            assert changed.replace("ENGINE = Replicated", "ENGINE = ") == statement
            assert (changed != statement) == statement.startswith("CREATE TABLE")
            engines += re.findall(r"^ENGINE = (\w+)", changed, re.MULTILINE)
    assert set(engines) == {f"Replicated{each}" for each in clickhouse.ENGINES}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in clickhouse.FOLDER.glob("*.sql"):
        shutil.copy(path, tmp_path)
    assert clickhouse.problems(tmp_path) == []
    return tmp_path


def following(folder: Path) -> Path:
    return folder / f"{len(list(folder.glob('*.sql'))) + 1:04d}_more.sql"


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("CREATE TABLE gyre.a (b UInt8 COMMENT 'b') ENGINE = ReplacingMergeTree", "is not CREATE DATABASE or TABLE IF"),
        ("DROP TABLE IF EXISTS gyre.labels", "is not CREATE DATABASE or TABLE IF"),
        ("ALTER TABLE gyre.router_feedback_v1 ADD COLUMN a String COMMENT 'a'", "is not CREATE DATABASE or TABLE IF"),
        (
            "CREATE TABLE IF NOT EXISTS gyre.a\n(\n    b UInt8\n)\nENGINE = ReplacingMergeTree ORDER BY b\nCOMMENT 'a'",
            "`b UInt8` is not a column with a type and a COMMENT",
        ),
        (
            "CREATE TABLE IF NOT EXISTS gyre.a\n(\n    b UInt8 COMMENT 'b'\n)\nENGINE = ReplacingMergeTree ORDER BY b",
            "gyre.a has no COMMENT at its end",
        ),
        (
            "CREATE TABLE IF NOT EXISTS gyre.a\n(\n    b UInt8 COMMENT 'b'\n)\nENGINE = Memory\nCOMMENT 'a'",
            "the engine is not one of",
        ),
        (
            "CREATE OR REPLACE VIEW gyre.a\n(\n    tooLoud UInt8 COMMENT 'b'\n)\nAS SELECT 1 AS tooLoud\nCOMMENT 'a'",
            "gyre.a.tooLoud is not in snake case",
        ),
        (
            "CREATE OR REPLACE VIEW other.a\n(\n    b UInt8 COMMENT 'b'\n)\nAS SELECT 1 AS b\nCOMMENT 'a'",
            "other.a is not gyre.<snake_case>",
        ),
        (
            "ALTER TABLE gyre.router_feedback_v1 ADD COLUMN IF NOT EXISTS mood String COMMENT 'm'",
            "gyre.router_feedback_v1.mood is no field of the event",
        ),
        (
            "ALTER TABLE gyre.feedback MODIFY SETTING index_granularity = 1",
            "gyre.feedback has a setting and is no table",
        ),
    ],
)
def test_a_statement_that_breaks_a_rule_is_named(folder: Path, statement: str, complaint: str) -> None:
    following(folder).write_text(f"{statement};\n")
    (problem,) = clickhouse.problems(folder)
    assert complaint in problem


ROLLUP = """\
CREATE TABLE IF NOT EXISTS gyre.hours
(
    month Date COMMENT 'm',
    partition UInt32 COMMENT 'p',
    hour DateTime COMMENT 'h',
    records SimpleAggregateFunction(sum, UInt64) COMMENT 'r'
)
ENGINE = AggregatingMergeTree
PARTITION BY month
ORDER BY (hour, partition, month)
TTL month + INTERVAL 14 MONTH
COMMENT 'Records per hour';
CREATE MATERIALIZED VIEW IF NOT EXISTS gyre.hours_feed TO gyre.hours AS
SELECT toStartOfMonth(_timestamp) AS month, _partition AS partition, toStartOfHour(given_at) AS hour, count() AS records
FROM gyre.router_feedback_v1
GROUP BY month, partition, hour
COMMENT 'Counts each insert of feedback';
"""


def test_a_rollup_and_what_fills_it_are_in_order(folder: Path) -> None:
    following(folder).write_text(ROLLUP)
    assert clickhouse.problems(folder) == []
    rollup = clickhouse.rollups(folder)[-1]
    assert (rollup.name, rollup.source) == ("hours", "router_feedback_v1")
    assert rollup.query.startswith("SELECT toStartOfMonth")
    assert rollup.query.endswith("GROUP BY month, partition, hour")


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        (
            "count() AS records",
            "count() AS n",
            "selects month, partition, hour, n: wanted month, partition, hour, recor",
        ),
        ("gyre.hours_feed", "gyre.feed", "gyre.feed fills gyre.hours: its name is wanted to be gyre.hours_feed"),
        ("FROM gyre.router_feedback_v1", "FROM gyre.feedback", "reads gyre.feedback, which is no topic's table"),
        ("COMMENT 'Counts each insert of feedback'", "COMMENT feed", "has no COMMENT at its end"),
        (
            "hour DateTime COMMENT",
            "x Int8 COMMENT 'x',\n    hour DateTime COMMENT",
            "x is neither in ORDER BY nor an agg",
        ),
        ("ORDER BY (hour, partition, month)", "ORDER BY (hour, month)", "gyre.hours: ORDER BY lacks partition"),
        ("records SimpleAggregateFunction(sum, UInt64)", "records SimpleAggregateFunction(max, UInt64)", "sums up"),
        ("TTL month + INTERVAL 14 MONTH\n", "", "wanted TTL month + INTERVAL 14 MONTH"),
        ("MATERIALIZED VIEW IF NOT EXISTS", "MATERIALIZED VIEW", "CREATE MATERIALIZED VIEW IF NOT EXISTS TO a rollup"),
    ],
)
def test_a_rollup_that_breaks_a_rule_is_named(folder: Path, right: str, wrong: str, complaint: str) -> None:
    assert right in ROLLUP
    following(folder).write_text(ROLLUP.replace(right, wrong))
    found = clickhouse.problems(folder)
    assert any(complaint in problem for problem in found), found


def test_a_table_of_the_record_has_no_time_to_live(folder: Path) -> None:
    path = folder / "0003_router_feedback.sql"
    path.write_text(path.read_text().replace("SETTINGS non_", "TTL _timestamp + INTERVAL 1 YEAR\nSETTINGS non_"))
    assert clickhouse.problems(folder) == [
        "0003_router_feedback.sql: gyre.router_feedback_v1 has a TTL, and the record is for good"
    ]


def test_a_gap_in_the_numbers_is_named(folder: Path) -> None:
    (folder / "0099_late.sql").write_text("CREATE DATABASE IF NOT EXISTS gyre COMMENT 'the record';\n")
    assert "wanted 1 to" in clickhouse.problems(folder)[0]


def test_a_name_that_is_not_numbered_is_named(folder: Path) -> None:
    (folder / "views.sql").write_text("")
    assert clickhouse.problems(folder) == ["views.sql: is not named <four digits>_<snake_case>.sql"]


def test_a_topic_without_a_table_is_named(folder: Path) -> None:
    (folder / "0003_router_feedback.sql").write_text("CREATE DATABASE IF NOT EXISTS gyre COMMENT 'the record';\n")
    assert clickhouse.problems(folder) == ["router.feedback.v1 has no table gyre.router_feedback_v1"]


def test_a_field_without_a_column_and_one_of_another_type_are_named(folder: Path) -> None:
    path = folder / "0003_router_feedback.sql"
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("feedback_id")]
    path.write_text("\n".join(lines).replace("rating Nullable(Float64)", "rating Nullable(Float32)"))
    assert clickhouse.problems(folder) == [
        "gyre.router_feedback_v1.feedback_id is missing, wanted String",
        "gyre.router_feedback_v1.rating is Nullable(Float32), wanted Nullable(Float64)",
    ]


def test_a_changed_file_has_another_digest() -> None:
    one, other = clickhouse.migrations()[:2]
    assert one.digest != other.digest
    assert len(one.digest) == 64
