"""What the parts of the stack are told, and which secrets."""

from pathlib import Path

from embedded.environment import clickhouse_password, part_environment
from embedded.settings import Settings


def test_audit_alone_is_given_the_password_of_the_user_who_may_write_the_record(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    password = clickhouse_password(settings, "gyre")
    told = {name: part_environment(settings, name) for name in ("router", "context", "audit", "triage")}
    assert [name for name, environment in told.items() if password in environment.values()] == ["audit"]


def test_the_console_reads_the_record_as_one_who_may_only_read(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    told = part_environment(settings, "triage")
    assert told["GYRE_CLICKHOUSE_USER"] == "analyst"
    assert told["GYRE_CLICKHOUSE_PASSWORD"] == clickhouse_password(settings, "analyst")
