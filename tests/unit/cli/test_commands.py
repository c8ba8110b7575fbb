import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from gyre.cli import main
from gyre.cli.logs import readable


def test_help_lists_every_command_without_importing_what_they_need() -> None:
    listed = CliRunner().invoke(main, ["--help"]).output
    commands = (
        "up status doctor logs down demo policy experts labels export audit dlq kafka certificates capacity backup "
        "restore schemas"
    )
    for command in commands.split():
        assert f"\n  {command} " in listed
    script = (
        "import sys\nfrom gyre.cli import main\nmain(['--help'], standalone_mode=False)\n"
        "print(sorted({'torch', 'chdb', 'rich', 'grpc', 'supervisor', 'pydantic'} & set(sys.modules)), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == "[]"


@pytest.mark.parametrize("command", ["up", "status", "doctor", "logs", "down"])
def test_each_command_explains_itself(command: str) -> None:
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert "GYRE_STATE_DIR" in result.output


def test_a_bad_setting_is_one_sentence_and_no_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["up"], env={"GYRE_ROUTER_HTTP_PORT": "http", "GYRE_STATE_DIR": str(tmp_path)})
    assert result.exit_code == 1
    assert result.output == "Error: GYRE_ROUTER_HTTP_PORT is 'http'; wanted a port between 1 and 65535.\n"


def test_an_unknown_part_is_named_beside_those_that_there_are(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["up", "--only", "kafak", "--state-dir", str(tmp_path)])
    assert result.exit_code == 1
    assert "There is no part 'kafak'; the parts are kafka, clickhouse" in result.output


@pytest.mark.parametrize("command", ["status", "down"])
def test_looking_at_a_stack_that_was_never_started_says_so_and_writes_nothing(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [command, "--state-dir", str(tmp_path / "never")])
    assert "Nothing runs in" in result.output
    assert not (tmp_path / "never").exists()


def test_a_logged_record_is_spelled_out() -> None:
    record = {"event": "serving", "level": "info", "timestamp": "2026-05-04T03:02:01.5Z", "service": "audit", "port": 1}
    assert readable(json.dumps(record)) == ["03:02:01 INFO    serving  port=1"]
    assert readable(json.dumps({**record, "exception": "a\nb"}))[1:] == ["  a", "  b"]


@pytest.mark.parametrize("line", ["plain", "{not json", '{"event": 1}', "[1]", '"text"', ""])
def test_any_other_line_is_left_as_it_is(line: str) -> None:
    assert readable(line) == [line]
