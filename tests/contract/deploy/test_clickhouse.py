"""The files for a ClickHouse server are what the engine reads: settings, quotas and grants that it has and holds to.

The engine answers as the one user `default`. So each user is tried under that name: with its own profile and grants.
"""

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import clickhouse
from schemas.topics import Topic
from services.triage import contributions, quality
from services.triage.overview import QUERIES
from services.triage.questions import SPANS

FOLDER = Path(__file__).parents[3] / "deploy" / "clickhouse"
USERS = ("analyst", "audit", "triage")
ENGINE = """
import json, sys
from chdb.state import sqlitelike
connection = sqlitelike.Connection(sys.argv[1] + "/data?config-file=" + sys.argv[2])
answers = []
for statement in json.load(sys.stdin):
    try:
        answers.append(str(connection.query(statement, "TabSeparated")).strip())
    except Exception as error:
        answers.append("refused: " + str(error))
print(json.dumps(answers))
"""
OWNER = """<default><password/><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<grants><query>GRANT ALL ON *.*</query></grants></default>"""
# One that holds to the table's constraint.
ROW = r"""INSERT INTO gyre.router_interactions_v1 (_topic, _offset, _timestamp, _hash)
SELECT 'router.interactions.v1', 1, toDateTime64('2026-01-01 00:00:00', 3, 'UTC'), SHA256(concat('gyre.record.v1\n',
'router.interactions.v1\n0\n1\n', toString(toUnixTimestamp64Milli(toDateTime64('2026-01-01 00:00:00', 3, 'UTC'))), '\n',
lower(hex(toFixedString('', 32))), '\n', lower(hex(toFixedString('', 32))), '\n'))"""
DENIED = "(ACCESS_DENIED)"
READ_ONLY = "(READONLY)"
TABLES = [clickhouse.table(topic) for topic in Topic]


def asked(folder: Path, user: str, statements: Sequence[str]) -> list[str]:
    """What the engine, with its data in a folder, answers to a user."""
    users, config = folder / f"{user}-users.xml", folder / f"{user}.xml"
    users.write_text(_as_default(user))
    config.write_text(f"<clickhouse><users_config>{users}</users_config></clickhouse>")
    result = subprocess.run(
        [sys.executable, "-c", ENGINE, str(folder), str(config)],
        input=json.dumps(statements),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    answers: list[str] = json.loads(result.stdout)
    return answers


def _as_default(user: str) -> str:
    """The users that there are, with one, or one who may do everything, under the name that the engine runs as."""
    root = ElementTree.Element("clickhouse")
    for section in ("profiles", "quotas", "users"):
        merged = ElementTree.SubElement(root, section)
        for name in USERS:
            found = ElementTree.parse(FOLDER / f"{name}.xml").getroot().find(section)
            merged.extend(found if found is not None else [])
        if section != "users":
            ElementTree.SubElement(merged, "default")
    allowed = root.find("profiles/analyst/constraints/max_execution_time")
    assert allowed is not None
    only_on_a_server = allowed.find("changeable_in_readonly")
    assert only_on_a_server is not None
    allowed.remove(only_on_a_server)
    for password in root.iterfind("users/*/password"):
        del password.attrib["from_env"]
    one = root.find(f"users/{user}")
    if one is not None:
        one.tag = "default"
    else:
        merged.append(ElementTree.fromstring(OWNER))
    return ElementTree.tostring(root, encoding="unicode")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where audit has made the tables and views, from nothing."""
    folder = tmp_path_factory.mktemp("record")
    statements = [statement for file in clickhouse.migrations() for statement in file.statements]
    assert asked(folder, "audit", statements) == [""] * len(statements)
    return folder


def test_audit_applies_its_statements_again(record: Path) -> None:
    statements = [statement for file in clickhouse.migrations() for statement in file.statements]
    assert asked(record, "audit", statements) == [""] * len(statements)


def test_audit_keeps_erases_and_counts_anew(record: Path) -> None:
    statements = [
        ROW,
        "SELECT count() > 0 FROM system.columns WHERE database = 'gyre' AND table = 'router_interactions_v1'",
        "ALTER TABLE gyre.router_interactions_v1 UPDATE _payload = '' WHERE (_partition, _offset) IN ((0, 1)) "
        "SETTINGS mutations_sync = 2",
        *(f"DELETE FROM gyre.{rollup.name} WHERE month = '2020-01-01'" for rollup in clickhouse.rollups()),
        *(f"INSERT INTO gyre.{rollup.name} SELECT * FROM ({rollup.query})" for rollup in clickhouse.rollups()),
        "SELECT count() FROM gyre.lineage",
    ]
    assert [each for each in asked(record, "audit", statements) if each.startswith("refused")] == []


@pytest.mark.parametrize(
    "statement",
    [
        *(f"{verb} gyre.{table}" for verb in ("DROP TABLE", "TRUNCATE TABLE") for table in TABLES),
        *(f"DELETE FROM gyre.{table} WHERE 1" for table in TABLES),
    ],
)
def test_audit_takes_no_row_of_the_record_away(refused_to_audit: dict[str, str], statement: str) -> None:
    assert refused_to_audit[statement].endswith(DENIED)


OUTSIDE = [
    "DROP DATABASE gyre",
    "ALTER TABLE gyre.router_interactions_v1 DROP COLUMN _hash",
    "ALTER TABLE gyre.router_interactions_v1 DROP PARTITION ID 'all'",
    "ALTER TABLE gyre.router_interactions_v1 MODIFY TTL _timestamp + INTERVAL 1 DAY",
    "RENAME TABLE gyre.router_interactions_v1 TO gyre.elsewhere",
    "CREATE DATABASE another",
    "CREATE USER another",
    "GRANT SELECT ON gyre.* TO default",
    "SYSTEM SHUTDOWN",
    "SELECT * FROM url('http://127.0.0.1:1/', CSV, 'a String')",
    "SELECT * FROM file('any', LineAsString)",
    "SELECT * FROM remote('127.0.0.1:1', system.one)",
]


@pytest.mark.parametrize("statement", OUTSIDE)
def test_audit_does_nothing_beside(refused_to_audit: dict[str, str], statement: str) -> None:
    assert refused_to_audit[statement].endswith(DENIED)


@pytest.fixture(scope="module")
def refused_to_audit(record: Path) -> dict[str, str]:
    statements = [
        *(f"{verb} gyre.{table}" for verb in ("DROP TABLE", "TRUNCATE TABLE") for table in TABLES),
        *(f"DELETE FROM gyre.{table} WHERE 1" for table in TABLES),
        *OUTSIDE,
    ]
    return dict(zip(statements, asked(record, "audit", statements), strict=True))


def test_the_console_has_an_answer_to_every_query_of_its_pages(record: Path) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    queries = {**QUERIES, **quality.QUERIES, **contributions.QUERIES}
    statements = [query.statement(SPANS["day"], now) for query in queries.values()]
    answers = dict(zip(queries, asked(record, "triage", statements), strict=True))
    assert {name: answer for name, answer in answers.items() if answer.startswith("refused")} == {}


def test_the_console_reads_no_other_table_and_the_analyst_reads_all(record: Path) -> None:
    others = [
        "audit_checkpoints_v1",
        "audit_erasures_v1",
        "context_documents_v1",
        "router_feedback_v1",
        "router_shadows_v1",
        "router_usage_v1",
        "triage_actions_v1",
        "triage_outcomes_v1",
    ]
    statements = [f"SELECT count() FROM gyre.{table}" for table in others]
    assert all(answer.endswith(DENIED) for answer in asked(record, "triage", statements))
    assert not any(answer.startswith("refused") for answer in asked(record, "analyst", statements))


@pytest.mark.parametrize("user", ["analyst", "triage"])
def test_who_reads_changes_nothing_and_reaches_nothing_outside(record: Path, user: str) -> None:
    statements = [
        "INSERT INTO gyre.router_interactions_v1 (_topic) SELECT 'x'",
        "ALTER TABLE gyre.router_interactions_v1 UPDATE _payload = '' WHERE 1",
        "CREATE TABLE gyre.another (a Int8) ENGINE = Memory",
        "SET max_memory_usage = 0",
        *OUTSIDE,
    ]
    for statement, answer in zip(statements, asked(record, user, statements), strict=True):
        assert answer.endswith((DENIED, READ_ONLY)), statement


def test_the_engine_takes_every_user_with_its_limits(record: Path) -> None:
    answers = asked(
        record,
        "owner",
        [
            "SELECT arraySort(groupArray(name)) FROM system.users",
            "SELECT quota_name, max_queries, max_execution_time FROM system.quota_limits "
            "WHERE quota_name IN ('analyst', 'triage') ORDER BY quota_name",
            "SHOW GRANTS FOR analyst",
        ],
    )
    assert answers == [
        "['analyst','audit','default','triage']",
        "analyst\t5000\t3600\ntriage\t5000\t3600",
        "GRANT SHOW, SELECT ON gyre.* TO analyst",
    ]


def test_what_a_server_logs_of_itself_is_off_or_goes() -> None:
    logs = [each for each in ElementTree.parse(FOLDER / "gyre.xml").getroot() if each.tag.endswith("_log")]
    assert len(logs) > 15
    for log in logs:
        assert log.get("remove") == "1" or (log.findtext("ttl") or "").startswith("event_date + INTERVAL "), log.tag


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.xml")), ids=lambda path: path.name)
def test_each_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("<!-- ")
