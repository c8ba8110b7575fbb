"""Every SQL example of the docs runs, as the read-only analyst, and finds what is on record."""

import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.events import BundlePublished, Deployment, Drift, Erasure, Outcome, ReviewAction
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from tests.integration.audit.record import eventually
from tests.integration.audit.story import interaction, story

# The examples that find nothing when all is well.
NOTHING = "_prev_hash != before"


def examples(rootpath: Any, language: str, document: str = "analysts.md") -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (rootpath / "docs" / document).read_text(), re.DOTALL)


async def test_every_sql_example_runs_and_finds_something(
    analyst: ClickHouse, told: dict[str, str], request: pytest.FixtureRequest
) -> None:
    rootpath = request.config.rootpath
    found = [*examples(rootpath, "sql"), *examples(rootpath, "sql", "applications.md")]
    assert len(found) >= 14
    for example in found:
        rows = await analyst.rows(example, told)
        assert bool(rows) is (NOTHING not in example), example


async def test_every_query_of_the_runbooks_runs(
    analyst: ClickHouse, told: dict[str, str], request: pytest.FixtureRequest
) -> None:
    queries = re.findall(r'    ask "(.*?)"', (request.config.rootpath / "docs/runbooks.md").read_text(), re.DOTALL)
    assert len(queries) >= 4
    for query in queries:
        await analyst.rows(query)


async def test_every_view_has_an_example(
    analyst: ClickHouse, told: dict[str, str], request: pytest.FixtureRequest
) -> None:
    views = await analyst.rows("SELECT name FROM system.tables WHERE database = 'gyre' AND engine = 'View'")
    text = "\n".join(examples(request.config.rootpath, "sql"))
    assert {view["name"] for view in views} <= set(re.findall(r"gyre\.(\w+)", text))


async def test_every_table_view_and_column_says_what_it_is(analyst: ClickHouse, told: dict[str, str]) -> None:
    assert await analyst.rows("SELECT name FROM system.tables WHERE database = 'gyre' AND comment = ''") == []
    # What fills a rollup has the columns of the rollup, and nobody reads it.
    undescribed = "SELECT table, name FROM system.columns WHERE database = 'gyre' AND NOT endsWith(table, '_feed')"
    assert await analyst.rows(f"{undescribed} AND comment = ''") == []


async def test_an_objective_that_is_missed_is_an_incident_from_when_its_alert_began(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant = f"missing-{uuid.uuid4().hex[:8]}"
    changed = next(event for _, event in story()[1] if isinstance(event, Drift))
    alert = replace(changed, tenant=tenant, task="", application="concierge", aspect="objective", state="firing")
    for each in (alert, replace(alert, state="cleared"), replace(changed, tenant=tenant, model="small")):
        await producer.send(Topic.DRIFT, each)
    where = "FROM gyre.{view:Identifier} WHERE tenant = {tenant:String}"

    async def on_record() -> bool:
        rows = await analyst.rows(f"SELECT 1 {where}", {"view": "drift", "tenant": tenant})
        return len(rows) == 3

    await eventually(on_record)
    rows = await analyst.rows(f"SELECT kind, subject {where} ORDER BY kind", {"view": "incidents", "tenant": tenant})
    assert rows == [{"kind": "drift", "subject": "small"}, {"kind": "objective", "subject": "concierge"}]


async def test_operations_say_who_did_what(analyst: ClickHouse, told: dict[str, str], producer: Producer) -> None:
    mark, at = uuid.uuid4().hex[:8], datetime.now(UTC)
    events = [event for _, event in story()[1]]
    bundle = next(event for event in events if isinstance(event, BundlePublished))
    live = next(event for event in events if isinstance(event, Deployment))
    erasure = Erasure(
        request_id=str(uuid.uuid4()), erasure_id=f"{mark}-e", tenant=mark, asked_at=at, asked_by="ann as operator"
    )
    back = replace(live, task_key=f"{mark}/chat", tenant=mark, task="chat", candidate_id="c1", reason="worse")
    changed = ReviewAction(action_id=f"{mark}-a", at=at, expert=f"{mark}-x", action="accounts-changed", detail="added")
    for topic, event in (
        (Topic.BUNDLES, replace(bundle, version=f"{mark}-b", published_by="ann as operator")),
        (Topic.ERASURES, erasure),
        (Topic.ERASURES, replace(erasure, request_id=str(uuid.uuid4()))),
        (Topic.DEPLOYMENTS, replace(back, deployment_id=f"{mark}-d", asked_by="ann")),
        (Topic.DEPLOYMENTS, replace(back, deployment_id=f"{mark}-by-itself")),
        (Topic.ACTIONS, changed),
    ):
        await producer.send(topic, event)
    found: dict[str, tuple[str, str]] = {}

    async def on_record() -> bool:
        rows = await analyst.rows(
            "SELECT operation, who, subject, summary FROM gyre.operations WHERE startsWith(subject, {mark:String})",
            {"mark": mark},
        )
        found.update({row["operation"]: (row["who"], row["subject"]) for row in rows})
        return len(rows) == 4 and any(row["summary"] == "2 requests" for row in rows)

    await eventually(on_record)
    assert found == {
        "bundle published": ("ann as operator", f"{mark}-b"),
        "person erased": ("ann as operator", f"{mark}-e"),
        "specialist rolled back": ("ann", f"{mark}-d"),
        "accounts changed": ("", f"{mark}-x"),
    }


async def test_of_several_judgements_of_an_answer_the_last_counts_and_by_tier(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant = f"judged-{uuid.uuid4().hex[:8]}"
    outcome = next(event for _, event in story()[1] if isinstance(event, Outcome))
    for tier in ("small", "large"):
        request = replace(interaction(str(uuid.uuid4())), tenant=tenant, tier=tier)
        await producer.send(Topic.INTERACTIONS, request)
        for minutes, success in ((1, float(tier == "small")), (2, float(tier == "large"))):
            found_at = outcome.found_at + timedelta(minutes=minutes)
            judged = replace(outcome, request_id=request.request_id, tenant=tenant, tier=tier)
            await producer.send(Topic.OUTCOMES, replace(judged, found_at=found_at, success=success))
    rows: list[dict[str, Any]] = []

    async def counted() -> bool:
        for view in ("models", "flywheel"):
            rows[:] = await analyst.rows(
                f"SELECT tier, labelled, accuracy FROM gyre.{view} WHERE tenant = {{tenant:String}} ORDER BY tier",
                {"tenant": tenant},
            )
            if rows != [
                {"tier": "large", "labelled": 1, "accuracy": 1.0},
                {"tier": "small", "labelled": 1, "accuracy": 0.0},
            ]:
                return False
        return True

    await eventually(counted)


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
        "hex(_hash) AS _hash "
        "FROM gyre.triage_labels_v1 WHERE _partition = (SELECT min(_partition) FROM gyre.triage_labels_v1) "
        "ORDER BY _offset"
    )
    exported = [{name: bytes.fromhex(value) if name in HEX else value for name, value in row.items()} for row in rows]
    assert exported
    exec(example, {"rows": exported})
    exported[0]["_payload"] += b"!"
    with pytest.raises(AssertionError):
        exec(example, {"rows": exported})


HEX = {"_key", "_salt", "_payload", "_digest", "_prev_hash", "_hash"}
