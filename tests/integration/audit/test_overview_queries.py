"""Every query of the console's overview, as the read-only analyst, on a record that a story is in."""

from datetime import timedelta

import pytest

from services.runtime.clickhouse import ClickHouse
from services.triage.overview import QUERIES, SPANS, overview
from tests.integration.audit.story import BEGIN

# When somebody looks who comes an hour after the story began.
NOW = BEGIN + timedelta(hours=1)
DAY = SPANS["day"]


@pytest.mark.parametrize("name", QUERIES)
async def test_every_query_runs_for_every_span(analyst: ClickHouse, told: dict[str, str], name: str) -> None:
    found = [await analyst.rows(QUERIES[name].statement(span, NOW)) for span in SPANS.values()]
    assert all(found) or name == "incidents", name  # of which, but for drift, the story has none


async def test_the_overview_says_what_is_on_record(analyst: ClickHouse, told: dict[str, str]) -> None:
    (totals,) = await analyst.rows(QUERIES["totals"].statement(DAY, NOW))
    hours = DAY.beginnings(NOW)
    within = "BETWEEN {since:DateTime('UTC')} AND {until:DateTime('UTC')}"
    (recorded,) = await analyst.rows(
        "SELECT count() AS requests, countIf(tier = 'specialist') AS by_specialists, "
        f"(SELECT uniqExact(request_id) FROM gyre.edge_cases WHERE flagged_at {within}) AS edge_cases, "
        f"(SELECT uniqExact(request_id) FROM gyre.judgements WHERE labelled_at {within}) AS labels "
        f"FROM gyre.interactions WHERE state = 'finished' AND received_at {within}",
        {"since": hours[0], "until": hours[-1] + timedelta(minutes=59, seconds=59)},
    )
    assert recorded["requests"] >= 2
    assert {name: totals[name] for name in recorded} == recorded
    shown = await overview(analyst, DAY, NOW)
    assert shown.tiles[0].value == f"{recorded['requests']:,}"
    assert any(each["is_live"] and each["verdict"] == "promote" for each in shown.specialists)


async def test_a_chart_adds_up_to_the_number_above_it(analyst: ClickHouse, told: dict[str, str]) -> None:
    shown = await overview(analyst, DAY, NOW)
    edge_cases, _ = shown.charts["learning"].series
    tile = next(tile for tile in shown.tiles if tile.title == "edge cases")
    assert tile.value == f"{sum(edge_cases.values):,.0f}"
