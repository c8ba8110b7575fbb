"""The overview's pages, rendered of a record that is a fake."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import HTTPBadRequest, HTTPNotFound, Response

from services.runtime.clock import Clock
from services.runtime.errors import PermissionDenied, Rejected, Retryable, ServiceError
from services.triage.console import Console
from services.triage.domain.access import LOCAL, Person, Role
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import VISITOR, Entrance
from services.triage.identity import Identity, Visitor
from services.triage.overview import QUERIES, overview
from services.triage.ports import Record
from services.triage.questions import SPANS, Recent, cell
from services.triage.rendering import Pages
from services.triage.settings import Settings
from tests.unit.triage.builders import TENANT, person
from tests.unit.triage.fakes import Actions

NOW = datetime(2026, 11, 28, 9, 30, tzinfo=UTC)
TOTALS = {
    "requests": 41_000,
    "by_specialists": 10_250,
    "refused": 12,
    "failed": 3,
    "cost": 12.3456,
    "saved": 4.5,
    "edge_cases": 820,
    "labels": 640,
    "gone_live": 1,
    "drift": 1,
    "incidents": 2,
}
SPECIALIST = {
    "tenant": "care",
    "task": "<b>films</b>",
    "candidate_id": "0199-candidate",
    "decided_at": NOW,
    "verdict": "promote",
    "live_at": NOW,
    "is_live": True,
    "items": 60,
    "incumbent": "small",
    "incumbent_accuracy": 0.05,
    "candidate_accuracy": 0.62,
    "gain": 0.57,
    "gain_low": 0.44,
    "gain_high": 0.69,
}
INCIDENT = {"at": NOW, "kind": "rollback", "tenant": "care", "task": "films", "subject": "c", "summary": "<script>"}
DRIFT = {"at": NOW, "tenant": "care", "task": "films", "model": "small", "summary": "language by psi"}


class Recorded:
    """A record that answers each query as it is told, and remembers what it was asked."""

    def __init__(self, error: ServiceError | None = None) -> None:
        self.asked: list[str] = []
        self._error = error

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        self.asked.append(statement)
        if self._error:
            raise self._error
        if "by_specialists" in statement:
            return [TOTALS]
        if "gyre.gates" in statement:
            return [SPECIALIST]
        if "kind = 'drift'" in statement:
            return [DRIFT]
        if "gyre.incidents" in statement:
            return [INCIDENT]
        midnight = NOW.replace(hour=0, minute=0)
        row = {"specialists": 9.0, "generic_models": 30.0, "unanswered": 1.0, "edge_cases": 8.0, "labels": 5.0}
        return [{"at": midnight, "cost": 1.5, "saved": 0.5, **row}]


def console(record: Record) -> Console:
    settings, pages = Settings(), Pages()
    sessions = Sessions(b"secret", Patience(timedelta(hours=1), timedelta(hours=12)))
    identity = Identity(None, sessions, Actions(), 600, Clock())
    entrance = Entrance(settings, identity, pages, None)
    return Console(settings, None, record, entrance, pages)  # type: ignore[arg-type] # these pages ask nothing of the desk


async def page(record: Recorded, path: str, reader: Person = LOCAL, **match: str) -> Response:
    """Return a page as somebody sees it who is signed in."""
    shown = console(record)
    request = make_mocked_request("GET", path, match_info=match)
    request[VISITOR] = Visitor(reader, None)
    return await (shown._query(request) if match else shown._overview(request))


def text(response: Response) -> str:
    assert response.text is not None
    return response.text


async def test_every_number_links_to_the_query_that_it_comes_from() -> None:
    shown = text(await page(Recorded(), "/overview?span=month"))
    assert '<a class="figure" href="/overview/queries/totals?span=month">41,000</a>' in shown
    assert "25.0% of requests" in shown
    assert "12.3" in shown
    for name in QUERIES:
        assert f'href="/overview/queries/{name}?span=month"' in shown, name


async def test_what_the_record_holds_is_text_and_never_markup() -> None:
    shown = text(await page(Recorded(), "/overview"))
    assert "&lt;b&gt;films&lt;/b&gt;" in shown
    assert "&lt;script&gt;" in shown
    assert "<b>films" not in shown
    assert " style=" not in shown  # which the page's own policy would not let a browser heed


async def test_a_chart_has_its_numbers_beneath_it_as_a_table() -> None:
    shown = text(await page(Recorded(), "/overview?span=week"))
    assert "Sat 28: 30 by generic models" in shown
    assert '<td>Sat 28</td><td class="number">9</td><td class="number">30</td><td class="number">1</td>' in shown


async def test_a_query_is_shown_as_it_was_run_with_its_answer() -> None:
    record = Recorded()
    shown = text(await page(record, "/overview/queries/incidents?span=day", name="incidents"))
    (asked,) = record.asked
    assert asked.replace("'", "&#39;").replace(">", "&gt;").replace("<", "&lt;") in shown
    assert "<th>summary</th>" in shown
    assert "&lt;script&gt;" in shown


@pytest.mark.parametrize("error", [Retryable("connection refused"), Rejected("no such view")])
@pytest.mark.parametrize("name", ["", "traffic"])
async def test_without_the_record_a_page_says_so_and_keeps_its_way_to_the_others(error: Any, name: str) -> None:
    response = await page(Recorded(error), "/overview", **({"name": name} if name else {}))
    assert response.status == 503
    assert "cannot be read now" in text(response)
    assert 'href="/"' in text(response)


@pytest.mark.parametrize(
    "reader", [person(tenants=None), person(role=Role.LEAD), person(role=Role.ADMIN, tenants=frozenset({TENANT}))]
)
async def test_nobody_but_leads_and_admins_of_all_tenants_sees_a_number(reader: Person) -> None:
    record = Recorded()
    for match in ({}, {"name": "totals"}):
        with pytest.raises(PermissionDenied, match="of all tenants"):
            await page(record, "/overview", reader, **match)
    assert record.asked == []
    lead = person(role=Role.LEAD, tenants=None)
    assert "41,000" in text(await page(record, "/overview", lead))


async def test_whoever_asks_the_same_within_a_minute_is_told_the_same() -> None:
    record, times = Recorded(), [0.0]
    recent = Recent(record, Clock(monotonic=lambda: times[-1]))
    for seconds, asked in ((0.0, 1), (59.0, 1), (60.0, 2)):
        times.append(seconds)
        await overview(recent, SPANS["week"], NOW)
        assert len(record.asked) == asked * len(QUERIES)
    await overview(recent, SPANS["month"], NOW)
    assert len(record.asked) == 3 * len(QUERIES)


async def test_what_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(HTTPBadRequest) as bad:
        await page(Recorded(), "/overview?span=year")
    assert bad.value.text == "span: must be one of day, week, month"
    with pytest.raises(HTTPNotFound):
        await page(Recorded(), "/overview/queries/users", name="users")


def test_a_span_ends_with_the_step_that_is_not_over_yet() -> None:
    hours, days = SPANS["day"].beginnings(NOW), SPANS["month"].beginnings(NOW)
    assert (len(hours), hours[-1]) == (24, NOW.replace(minute=0))
    assert (len(days), days[-1]) == (30, NOW.replace(hour=0, minute=0))


async def test_all_that_is_asked_begins_where_the_span_does() -> None:
    record = Recorded()
    await overview(record, SPANS["week"], NOW)
    assert len(record.asked) == len(QUERIES)
    assert all("toDateTime('2026-11-22 00:00:00', 'UTC')" in statement for statement in record.asked)
    assert not any("{" in statement for statement in record.asked)


def test_values_are_written_for_people() -> None:
    assert [cell(each) for each in (None, True, 0.1234567, NOW, ["a", "b"], 7)] == [
        "null",
        "yes",
        "0.123457",
        "2026-11-28 09:30:00",
        "a, b",
        "7",
    ]
