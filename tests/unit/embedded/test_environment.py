"""What the parts of the stack are told, and which secrets."""

from pathlib import Path

from embedded.environment import (
    REPLAYED_EXPERT,
    clickhouse_password,
    console_password_file,
    part_environment,
    person,
    replayed_expert_token,
)
from embedded.settings import SERVICES, Settings
from services.triage.accounts import load_accounts, matches


def test_audit_alone_is_given_the_password_of_the_user_who_may_write_the_record(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    password = clickhouse_password(settings, "audit")
    told = {name: part_environment(settings, name) for name in ("router", "context", "audit", "triage")}
    assert [name for name, environment in told.items() if password in environment.values()] == ["audit"]


def test_the_console_reads_the_record_as_one_who_may_only_read(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    told = part_environment(settings, "triage")
    assert told["GYRE_CLICKHOUSE_USER"] == "triage"
    assert told["GYRE_CLICKHOUSE_PASSWORD"] == clickhouse_password(settings, "triage")


def test_whoever_starts_the_stack_and_the_demos_expert_have_accounts_and_keep_them(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    for _ in range(2):
        path = Path(part_environment(settings, "triage")["GYRE_TRIAGE_ACCOUNTS"])
        accounts = load_accounts(path)
        password = accounts.root[person()].password
        assert password is not None
        assert matches(password, console_password_file(settings).read_text())
        assert accounts.of_token(replayed_expert_token(settings)) == REPLAYED_EXPERT
        assert {each.stat().st_mode & 0o777 for each in (path, console_password_file(settings))} == {0o600}


def test_triage_alone_is_told_what_sessions_are_signed_with_and_where_the_accounts_are(tmp_path: Path) -> None:
    settings = Settings(tmp_path)
    told = {name: part_environment(settings, name) for name in SERVICES}
    for variable in ("GYRE_TRIAGE_SESSION_SECRET", "GYRE_TRIAGE_ACCOUNTS"):
        assert [name for name, environment in told.items() if variable in environment] == ["triage"]
