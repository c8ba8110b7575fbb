"""Every query of the console's pages, as the read-only analyst, on a record that a story is in."""

from datetime import timedelta

import pytest

from services.runtime.clickhouse import ClickHouse
from services.triage import contributions, quality
from services.triage.domain.access import LOCAL, Person, Role
from services.triage.overview import QUERIES, overview
from services.triage.questions import SPANS
from tests.integration.audit.story import BEGIN

# When somebody looks who comes an hour after the story began.
NOW = BEGIN + timedelta(hours=1)
EVERY = {**QUERIES, **quality.QUERIES, **contributions.QUERIES}
DAY = SPANS["day"]


@pytest.mark.parametrize("name", EVERY)
async def test_every_query_runs_for_every_span(analyst: ClickHouse, told: dict[str, str], name: str) -> None:
    found = [await analyst.rows(EVERY[name].statement(span, NOW)) for span in SPANS.values()]
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


async def test_the_pages_about_experts_say_what_is_on_record(analyst: ClickHouse, told: dict[str, str]) -> None:
    span = SPANS["week"]
    tasks = {(each.tenant, each.task): each for each in await quality.quality(analyst, LOCAL, span, NOW)}
    story = tasks["customer-care", "consumer-services"]
    assert {each.expert for each in story.experts} >= {"e-1", "e-2"}
    assert all(each.checked.settled.of == each.checked.settled.right > 0 for each in story.experts[:2])
    assert story.agreement.items > 0
    expert = Person("e-1", Role.EXPERT, LOCAL.clearance, None)
    own = await contributions.contributions(analyst, expert, span, NOW)
    assert own.labels > 0
    assert any(each["is_live"] and each["labels"] == 1 for each in own.specialists)
