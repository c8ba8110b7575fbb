"""The pages of how well experts judge and what came of it, rendered of a record that is a fake."""

from datetime import timedelta
from typing import Any

import pytest

from services.runtime.errors import PermissionDenied
from services.runtime.shares import Share
from services.triage import quality
from services.triage.domain.access import LOCAL, Person, Role
from services.triage.entrance import VISITOR
from services.triage.identity import Visitor
from services.triage.questions import SPANS
from tests.unit.triage.builders import NOW, TASK, TENANT, person
from tests.unit.triage.fakes import Told
from tests.unit.triage.test_overview import SPECIALIST, console, make_mocked_request, text

MONTH = SPANS["month"]
LEAD = person("lea", role=Role.LEAD)


def judged(expert: str = "ann", **changes: Any) -> dict[str, Any]:
    row = {"tenant": TENANT, "task": TASK, "expert": expert, "labels": 120}
    return {**row, "median_seconds": 14.0, "latest_seconds": 9.0, "before_seconds": 17.0, **changes}


def held(expert: str = "ann", before: int = 45, latest: int = 44, **changes: Any) -> dict[str, Any]:
    row = {"tenant": TENANT, "task": TASK, "expert": expert, "gold": 20, "gold_right": 19, "settled": 80}
    return {
        **row,
        **{"settled_right": 70, "before": 50, "before_right": before, "latest": 50, "latest_right": latest},
        **changes,
    }


def both(count: int = 30, task: str = TASK, **changes: Any) -> list[dict[str, Any]]:
    """Requests that ann and bob judged, of which they agree on two thirds."""
    found = ("confirmed", "corrected")
    return [
        {
            **{"tenant": TENANT, "task": task, "request_id": f"r{n}", "experts": ["ann", "bob"]},
            **{"outcomes": [found[n % 2], found[n % 2 if n % 3 else 1 - n % 2]], **changes},
        }
        for n in range(count)
    ]


GUIDELINE = {
    **{"tenant": TENANT, "task": TASK, "version": "0a1b2c3d4e5f", "first_at": NOW - timedelta(days=3), "last_at": NOW},
    **{"labels": 40, "experts": 2, "confirmed": 30, "text": "<b>Be short.</b>"},
}
CONTRIBUTION = {**SPECIALIST, "tenant": TENANT, "expert": "ann", "labels": 12, "learned_from": 389, "answers": 1_234}


async def page(record: Told, path: str, reader: Person) -> str:
    shown = console(record)
    request = make_mocked_request("GET", path)
    request[VISITOR] = Visitor(reader, None)
    return text(await (shown._mine(request) if path.startswith("/mine") else shown._quality(request)))


async def test_each_task_has_its_agreement_and_each_expert_what_they_got_right() -> None:
    bob = judged("bob", labels=9, before_seconds=None)
    record = Told(experts=[judged(), bob], checks=[held()], judged_by_several=both())
    (task,) = await quality.quality(record, LEAD, MONTH, NOW)
    ann, new = task.experts
    assert (ann.expert, ann.labels, ann.seconds, ann.before_seconds, ann.latest_seconds) == ("ann", 120, 14, 17, 9)
    assert (ann.checked.gold, ann.checked.settled) == (Share(19, 20), Share(70, 80))
    assert (new.before_seconds, new.checked) == (None, quality.NOTHING)
    assert task.agreement == ann.agreement == new.agreement
    assert task.agreement.value == pytest.approx(1 / 3, abs=0.02)
    assert [pair[:2] for pair in task.pairs] == [("ann", "bob")]


async def test_who_was_only_asked_gold_is_there_too() -> None:
    (task,) = await quality.quality(Told(checks=[held("new", settled=0, settled_right=0)]), LEAD, MONTH, NOW)
    assert [(each.expert, each.labels, each.checked.gold.of) for each in task.experts] == [("new", 0, 20)]


@pytest.mark.parametrize(("latest", "fallen"), [(44, False), (38, False), (33, True), (10, True)])
async def test_a_fall_is_pointed_out_where_chance_hardly_brings_it(latest: int, fallen: bool) -> None:
    shown = await page(Told(experts=[judged()], checks=[held(latest=latest)]), "/quality", LEAD)
    assert ("has fallen" in shown) is fallen
    assert ("no fall beyond chance" in shown) is not fallen


async def test_of_too_few_no_fall_is_told() -> None:
    few = {**held(before=3), "before": 3}
    shown = await page(Told(experts=[judged()], checks=[few]), "/quality", LEAD)
    assert "20 so far" in shown


async def test_a_lead_sees_the_tenants_that_are_theirs_and_no_query_of_all_tenants() -> None:
    record = Told(experts=[judged(), judged(tenant="other", task="secrets")], guidelines=[GUIDELINE])
    shown = await page(record, "/quality", LEAD)
    assert "secrets" not in shown
    assert "/overview/queries/" not in shown
    assert "&lt;b&gt;Be short.&lt;/b&gt;" in shown
    shown = await page(record, "/quality?span=week", LOCAL)
    assert "secrets" in shown
    for name in quality.QUERIES:
        assert f'href="/overview/queries/{name}?span=week"' in shown, name


async def test_experts_do_not_see_how_well_others_judge() -> None:
    record = Told(experts=[judged()])
    with pytest.raises(PermissionDenied, match="for leads and admins"):
        await page(record, "/quality", person())
    assert record.asked == []


async def test_where_nobody_has_judged_the_page_says_so() -> None:
    assert "Nobody has judged anything" in await page(Told(), "/quality", LEAD)


async def test_an_expert_sees_what_came_of_their_own_labels_alone() -> None:
    other = {**CONTRIBUTION, "expert": "bob", "candidate_id": "0199-of-bob-1"}
    once = {**CONTRIBUTION, "tenant": "other", "candidate_id": "0199-elsewhere"}  # when that tenant was theirs
    told = {"checks": [held()], "contributions": [CONTRIBUTION, other, once]}
    record = Told(experts=[judged(), judged("bob", labels=7)], **told)
    shown = await page(record, "/mine", person())
    assert '<span class="figure">120</span>' in shown
    assert "89 of 100 that others judged as well" in shown
    assert '12 <span class="quiet">of 389</span>' in shown
    assert "+57.0" in shown
    assert "1,234" in shown
    assert "of-bob-1" not in shown
    assert "elsewhere" not in shown
    assert "/overview/queries/" not in shown


async def test_before_anything_was_learned_the_page_says_when_it_will_be() -> None:
    shown = await page(Told(), "/mine", person())
    assert "None yet" in shown
    assert "nobody else has judged the same yet" in shown
