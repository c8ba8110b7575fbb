"""Every SQL example of the docs runs, as the read-only analyst, and finds what is on record."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.stack import Stack
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.settings import ClickHouseSettings
from tests.integration.audit.record import eventually
from tests.integration.audit.story import story

# The examples that find nothing when all is well.
NOTHING = "_prev_hash != before"


def examples(rootpath: Any, language: str, document: str = "analysts.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (rootpath / "docs" / document).read_text(), re.DOTALL)


@pytest.fixture(scope="session")
async def analyst(stack: Stack, clickhouse: ClickHouseSettings) -> AsyncIterator[ClickHouse]:
    password = SecretStr(clickhouse_password(stack.settings, "analyst"))
    client = ClickHouse(clickhouse.model_copy(update={"user": "analyst", "password": password}))
    yield client
    await client.close()


@pytest.fixture(scope="session")
async def told(audit_process: Any, database: ClickHouse, producer: Producer) -> dict[str, str]:
    """The ids of one request's way through the loop that is on record."""
    await audit_process.serving()
    request_id, records = story()
    for topic, event in records:
        await producer.send(topic, event)
    candidate_id = next(event.candidate_id for topic, event in records if topic is Topic.CANDIDATES)  # type: ignore[attr-defined]

    async def complete() -> bool:
        rows = await database.rows("SELECT 1 FROM gyre.lineage WHERE request_id = {id:String}", {"id": request_id})
        outcomes = await database.rows("SELECT 1 FROM gyre.outcomes WHERE request_id = {id:String}", {"id": request_id})
        drift = await database.rows("SELECT 1 FROM gyre.drift LIMIT 1")
        return len(rows) == 10 and len(outcomes) == 1 and bool(drift)

    await eventually(complete)
    label_id = next(event.label_id for topic, event in records if topic is Topic.LABELS)  # type: ignore[attr-defined]
    return {"request_id": request_id, "candidate_id": candidate_id, "label_id": label_id}


async def test_every_sql_example_runs_and_finds_something(
    analyst: ClickHouse, told: dict[str, str], request: pytest.FixtureRequest
) -> None:
    rootpath = request.config.rootpath
    found = [*examples(rootpath, "sql"), *examples(rootpath, "sql", "applications.md")]
    assert len(found) >= 14
    for example in found:
        rows = await analyst.rows(example, told)
        assert bool(rows) is (NOTHING not in example), example


async def test_every_view_has_an_example(
    analyst: ClickHouse, told: dict[str, str], request: pytest.FixtureRequest
) -> None:
    views = await analyst.rows("SELECT name FROM system.tables WHERE database = 'gyre' AND engine = 'View'")
    text = "\n".join(examples(request.config.rootpath, "sql"))
    assert {view["name"] for view in views} <= set(re.findall(r"gyre\.(\w+)", text))


async def test_every_table_view_and_column_says_what_it_is(analyst: ClickHouse, told: dict[str, str]) -> None:
    assert await analyst.rows("SELECT name FROM system.tables WHERE database = 'gyre' AND comment = ''") == []
    assert await analyst.rows("SELECT table, name FROM system.columns WHERE database = 'gyre' AND comment = ''") == []


async def test_the_shares_of_the_seven_functions_add_up(analyst: ClickHouse, told: dict[str, str]) -> None:
    rows = await analyst.rows(
        "SELECT sum(share_of_orchestration) AS total, count() AS stages FROM gyre.orchestration_breakdown "
        "WHERE tenant = 'customer-care' AND day = '2026-05-04' AND is_orchestration"
    )
    assert rows == [{"total": pytest.approx(1.0), "stages": 7}]


async def test_the_python_example_recomputes_a_chain(
    analyst: ClickHouse, told: dict[str, str], request: pytest.FixtureRequest
) -> None:
    (example,) = examples(request.config.rootpath, "python")
    rows = await analyst.rows(
        "SELECT _topic, _partition, _offset, toUnixTimestamp64Milli(_timestamp) AS timestamp_ms, hex(_key) AS _key, "
        "hex(_salt) AS _salt, hex(_payload) AS _payload, hex(_digest) AS _digest, hex(_prev_hash) AS _prev_hash, "
        "hex(_hash) AS _hash FROM gyre.triage_labels_v1 "
        "WHERE _partition = (SELECT min(_partition) FROM gyre.triage_labels_v1) ORDER BY _offset"
    )
    exported = [{name: bytes.fromhex(value) if name in HEX else value for name, value in row.items()} for row in rows]
    assert exported
    exec(example, {"rows": exported})
    exported[0]["_payload"] += b"!"
    with pytest.raises(AssertionError):
        exec(example, {"rows": exported})


HEX = {"_key", "_salt", "_payload", "_digest", "_prev_hash", "_hash"}
