"""Queries side by side, sessions, clients that go away."""

import threading
import time

import httpx
import pytest

from tests.integration.embedded.clickhouse.front import PASSWORDS, Front, code, wait_until


def test_a_short_query_returns_while_long_ones_run(front: Front) -> None:
    sql = "SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))"
    outcomes: list[httpx.Response] = []

    def run_long(name: str) -> None:
        outcomes.append(front.post(sql, query_id=name, max_threads=1))

    names = ["long 0", "long 1", "long 2"]
    threads = [threading.Thread(target=run_long, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    wait_until(
        lambda: int(front.text("SELECT count() FROM system.processes WHERE query LIKE '%1000000000000)%ignore%'")) >= 4
    )
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert front.text("SELECT 1") == "1\n"
        took.append(time.monotonic() - started)
    assert min(took) < 1.0
    assert not outcomes
    assert code(front.post("SELECT 1", query_id="long 0")) == 216
    for name in names:
        assert "finished\n" not in front.text(f"KILL QUERY WHERE query_id = '{name}' SYNC").split("\t")
    for thread in threads:
        thread.join(timeout=30)
    assert [code(response) for response in outcomes] == [394] * 3


def test_a_client_that_goes_away_takes_its_query_with_it(front: Front) -> None:
    sql = "SELECT count() FROM numbers(2000000000000) WHERE NOT ignore(sipHash64(number))"
    probe = "SELECT count() FROM system.processes WHERE position(query, concat('20000000', '00000)')) > 0"
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(front.url, content=sql, auth=("audit", PASSWORDS["audit"]), timeout=1.0)
    wait_until(lambda: front.text(probe) == "0\n")


def test_a_session_is_locked_while_used_and_must_exist_where_that_is_asked(front: Front) -> None:
    assert code(front.post("SELECT 1", session_id="absent", session_check=1)) == 372
    assert code(front.post("SELECT 1", session_id="x", session_timeout="soon")) == 374
    assert code(front.post("SELECT 1", session_id="x", session_timeout="100000")) == 374
    slow = threading.Thread(target=front.post, args=("SELECT sleep(2)",), kwargs={"session_id": "locked"})
    slow.start()
    wait_until(lambda: front.text("SELECT count() FROM system.processes WHERE query LIKE 'SELECT sleep%'") == "1\n")
    assert code(front.post("SELECT 1", session_id="locked")) == 373
    slow.join()
    assert front.post("SELECT 1", session_id="locked", session_check=1, close_session=1).status_code == 200
    assert code(front.post("SELECT 1", session_id="locked", session_check=1)) == 372


def test_a_session_ends_when_left_alone(front: Front) -> None:
    assert front.post("SELECT 1", session_id="brief", session_timeout=1).status_code == 200
    wait_until(
        lambda: (
            "X-ClickHouse-Exception-Code"
            in front.post("SELECT 1", session_id="brief", session_check=1, session_timeout=0).headers
        )
    )
