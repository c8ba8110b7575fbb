"""The files for a ClickHouse server are what the engine reads: settings, quotas and grants that it has."""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "deploy" / "clickhouse"
ENGINE = """
import sys
from chdb.state import sqlitelike
connection = sqlitelike.Connection(sys.argv[1] + "/data?config-file=" + sys.argv[1] + "/config.xml")
print(connection.query("SELECT name, storage FROM system.users WHERE name = 'analyst'", "TabSeparated"))
print(connection.query("SHOW GRANTS FOR analyst", "TabSeparated"))
print(connection.query("SELECT max_queries, max_execution_time FROM system.quota_limits WHERE quota_name = 'analyst'"))
"""


def test_the_engine_takes_the_analyst(tmp_path: Path) -> None:
    (tmp_path / "users.xml").write_text(_users())
    (tmp_path / "config.xml").write_text(
        f"<clickhouse><users_config>{tmp_path / 'users.xml'}</users_config></clickhouse>"
    )
    result = subprocess.run(
        [sys.executable, "-c", ENGINE, str(tmp_path)],
        env={"GYRE_CLICKHOUSE_ANALYST_PASSWORD": "secret"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    user, grants, limits = (line for line in result.stdout.splitlines() if line)
    assert user == "analyst\tusers_xml"
    assert grants == "GRANT SHOW, SELECT ON gyre.* TO analyst"
    assert limits == "5000,3600"


def test_what_a_server_logs_of_itself_is_off_or_goes() -> None:
    logs = [each for each in ElementTree.parse(FOLDER / "gyre.xml").getroot() if each.tag.endswith("_log")]
    assert len(logs) > 15
    for log in logs:
        assert log.get("remove") == "1" or (log.findtext("ttl") or "").startswith("event_date + INTERVAL "), log.tag


def _users() -> str:
    """The analyst beside the user that the engine runs as, without the one thing that only a server takes."""
    root = ElementTree.parse(FOLDER / "analyst.xml").getroot()
    profile = root.find("profiles/analyst")
    allowed = root.find("profiles/analyst/constraints/max_execution_time")
    assert profile is not None
    assert allowed is not None
    only_on_a_server = allowed.find("changeable_in_readonly")
    assert only_on_a_server is not None
    allowed.remove(only_on_a_server)
    for section in ("profiles", "quotas"):
        parent = root.find(section)
        assert parent is not None
        ElementTree.SubElement(parent, "default")
    users = root.find("users")
    assert users is not None
    users.append(
        ElementTree.fromstring(
            "<default><password/><networks><ip>::/0</ip></networks><profile>default</profile>"
            "<quota>default</quota><grants><query>GRANT ALL ON *.*</query></grants></default>"
        )
    )
    return ElementTree.tostring(root, encoding="unicode")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.xml")), ids=lambda path: path.name)
def test_each_file_says_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("<!-- ")
