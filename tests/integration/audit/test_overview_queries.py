"""Every query of the console's overview, as the read-only analyst, on a record that a story is in."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.stack import Stack
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.settings import ClickHouseSettings
from services.triage.overview import QUERIES, SPANS, overview
from tests.integration.audit.record import eventually
from tests.integration.audit.story import BEGIN, story

# When somebody looks who comes an hour after the story began.
NOW = BEGIN + timedelta(hours=1)
DAY = SPANS["day"]


@pytest.fixture(scope="module")
async def reader(stack: Stack, clickhouse: ClickHouseSettings) -> AsyncIterator[ClickHouse]:
    password = SecretStr(clickhouse_password(stack.settings, "analyst"))
    client = ClickHouse(clickhouse.model_copy(update={"user": "analyst", "password": password}))
    yield client
    await client.close()


@pytest.fixture(scope="module")
async def request_id(audit_process: Any, database: ClickHouse, producer: Producer) -> str:
    """The id of a request whose way through the loop is on record."""
    await audit_process.serving()
    found, records = story()
    for topic, event in records:
        await producer.send(topic, event)

    async def complete() -> bool:
        rows = await database.rows("SELECT 1 FROM gyre.lineage WHERE request_id = {id:String}", {"id": found})
        return len(rows) == 9

    await eventually(complete)
    return found


@pytest.mark.parametrize("name", QUERIES)
async def test_every_query_runs_for_every_span(reader: ClickHouse, request_id: str, name: str) -> None:
    found = [await reader.rows(QUERIES[name].statement(span, NOW)) for span in SPANS.values()]
    if name not in ("drift", "incidents"):  # of which the story has none
        assert all(found), name


async def test_the_overview_says_what_is_on_record(reader: ClickHouse, request_id: str) -> None:
    (totals,) = await reader.rows(QUERIES["totals"].statement(DAY, NOW))
    (recorded,) = await reader.rows(
        "SELECT count() AS requests, countIf(tier = 'specialist') AS by_specialists, "
        "(SELECT uniqExact(request_id) FROM gyre.edge_cases) AS edge_cases, "
        "(SELECT uniqExact(request_id) FROM gyre.labels) AS labels FROM gyre.interactions WHERE state = 'finished'"
    )
    assert recorded["requests"] >= 2
    assert {name: totals[name] for name in recorded} == recorded
    shown = await overview(reader, DAY, NOW)
    assert shown.tiles[0].value == f"{recorded['requests']:,}"
    assert any(each["is_live"] and each["verdict"] == "promote" for each in shown.specialists)


async def test_a_chart_adds_up_to_the_number_above_it(reader: ClickHouse, request_id: str) -> None:
    shown = await overview(reader, DAY, NOW)
    edge_cases, _ = shown.charts["learning"].series
    tile = next(tile for tile in shown.tiles if tile.title == "edge cases")
    assert tile.value == f"{sum(edge_cases.values):,.0f}"
