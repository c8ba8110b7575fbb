"""The process: what survives a kill, a graceful stop, a start that cannot succeed."""

import signal
import threading
from pathlib import Path

import httpx

from embedded.clickhouse.users import create_users_file
from embedded.ports import free_ports
from tests.integration.embedded.clickhouse.front import Front, launch, start, wait_until


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

    (port,) = free_ports(1)
    assert f"the data folder {front.folder / 'data'} is in use by another process" in refusal(front.folder, port)
    assert "users file" in refusal(tmp_path, port)
    create_users_file(tmp_path / "users.json")
    assert f"port {front.port} on 127.0.0.1 is taken" in refusal(tmp_path, front.port)
    assert "GYRE_EMBEDDED_CLICKHOUSE_PORT" in refusal(tmp_path, 70000)
