"""How well experts judge and what came of it, as analysts see it."""

import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from schemas.bundle import Task, load_bundle
from schemas.events import BundlePublished, Candidate, Deployment
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from tests.integration.audit.record import eventually
from tests.integration.audit.story import story
from tests.integration.audit.test_label_states import CANDIDATE, LABEL, make

CALL = '{"name": "f", "arguments": {"x": 1, "y": "A b"}}'
SAME_CALL = '{"arguments": {"y": "a  B", "x": 1.0}, "name": "f"}'
OTHER_CALL = CALL.replace("1", "2")


async def _told(analyst: ClickHouse, view: str, count: int, tenant: str) -> list[dict[str, Any]]:
    """Wait until a view has so many rows of a tenant, and return them."""
    rows: list[dict[str, Any]] = []

    async def there() -> bool:
        rows[:] = await analyst.rows(f"SELECT * FROM gyre.{view} WHERE tenant = {{tenant:String}}", {"tenant": tenant})
        return len(rows) == count

    await eventually(there)
    return rows


async def test_judgements_are_held_to_what_their_request_comes_to_where_that_is_settled(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant, minutes = f"checked-{uuid.uuid4().hex[:8]}", iter(range(100))
    wrong, right = {"outcome": "corrected", "answer": CALL}, {"outcome": "confirmed", "answer": CALL}
    text = {"outcome": "corrected", "answer": "It is on its way."}
    said: list[tuple[str, str, dict[str, Any]]] = [
        # Two agree; of those who are asked it as gold, two are right.
        *[("agreed", "ana", wrong), ("agreed", "bo", {**wrong, "answer": SAME_CALL, "kind": "overlap"})],
        *[("agreed", "cy", {**wrong, "kind": "gold"}), ("agreed", "di", {**right, "kind": "gold"})],
        ("agreed", "ed", {**wrong, "answer": OTHER_CALL, "kind": "gold"}),
        ("agreed", "flo", {"outcome": "skipped", "kind": "gold"}),
        # The first word counts, though it was taken back: by then it may be known what is gold.
        ("agreed", "gil", {**right, "kind": "gold", "label_id": f"back-{tenant}"}),
        ("agreed", "gil", {"outcome": "retracted", "answer": "", "kind": "gold", "label_id": f"back-{tenant}"}),
        ("agreed", "gil", {**wrong, "kind": "gold"}),
        # A lead decides between two.
        *[("decided", "ana", wrong), ("decided", "bo", {**right, "kind": "overlap"})],
        ("decided", "lea", {**wrong, "answer": SAME_CALL, "kind": "adjudication"}),
        # Of texts the finding is held to what was decided, not its words.
        *[("worded", "ana", text), ("worded", "bo", {**text, "answer": "It left.", "kind": "overlap"})],
        ("worded", "lea", {**text, "answer": "It left on Monday.", "kind": "adjudication"}),
        # Nobody knows.
        *[("disputed", "ana", wrong), ("disputed", "bo", right), ("alone", "ana", wrong)],
    ]
    for name, expert, changes in said:
        labelled_at = LABEL.labelled_at + timedelta(minutes=next(minutes))
        label = make(tenant, request_id=f"{tenant}-{name}", expert=expert, labelled_at=labelled_at, **changes)
        await producer.send(Topic.LABELS, label)
    rows = await _told(analyst, "checks", 10, tenant)
    found = {(row["request_id"].removeprefix(f"{tenant}-"), row["expert"]): row for row in rows}
    assert {key for key, row in found.items() if row["is_gold"]} == {
        ("agreed", each) for each in ("cy", "di", "ed", "gil")
    }
    assert {key: row["is_right"] for key, row in found.items()} == {
        **{("agreed", expert): expert in ("ana", "bo", "cy") for expert in ("ana", "bo", "cy", "di", "ed", "gil")},
        **{("decided", "ana"): True, ("decided", "bo"): False},
        **{("worded", "ana"): True, ("worded", "bo"): True},
    }


async def test_guidelines_are_known_by_the_version_that_labels_name(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant = f"guided-{uuid.uuid4().hex[:8]}"
    sample = load_bundle(Path("deploy/bundle"))
    texts = ('Say "no"\nwhere it is so.', "Straße: façade", "")
    tasks = [Task(tenant=tenant, generic_prompt="", specialist_prompt="", guideline=text) for text in texts]
    for task in tasks:
        tenants = {**sample.tenants, tenant: sample.tenants["customer-care"]}
        bundle = sample.model_copy(update={"tenants": tenants, "tasks": {**sample.tasks, "letters": task}})
        content = bundle.model_dump_json()
        event = BundlePublished(version=bundle.version, published_at=LABEL.labelled_at, content=content)
        await producer.send(Topic.BUNDLES, event)
    rows = await _told(analyst, "guidelines", 2, tenant)
    assert {(row["task"], row["version"], row["text"]) for row in rows} == {
        ("letters", task.guideline_version, task.guideline) for task in tasks[:2]
    }


async def test_experts_are_told_which_specialists_learned_from_their_judgements(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant = f"taught-{uuid.uuid4().hex[:8]}"
    made_at = LABEL.labelled_at + timedelta(hours=1)
    labels = [
        make(tenant, request_id=f"{tenant}-1", expert="ana"),
        make(tenant, request_id=f"{tenant}-1", expert="bo", kind="overlap"),
        make(tenant, request_id=f"{tenant}-2", expert="ana"),
        make(tenant, request_id=f"{tenant}-2", expert="cy", kind="gold"),
        make(tenant, request_id=f"{tenant}-2", expert="di", labelled_at=made_at + timedelta(hours=1)),
        make(tenant, request_id=f"{tenant}-3", expert="ed"),
    ]
    for label in labels:
        await producer.send(Topic.LABELS, label)
    candidate: Candidate = replace(
        CANDIDATE,
        candidate_id=f"{tenant}-candidate",
        tenant=tenant,
        created_at=made_at,
        training_request_ids=(f"{tenant}-1", f"{tenant}-2"),
    )
    await producer.send(Topic.CANDIDATES, candidate)
    deployment = next(event for _, event in story()[1] if isinstance(event, Deployment))
    await producer.send(
        Topic.DEPLOYMENTS,
        replace(deployment, tenant=tenant, task_key=f"{tenant}/x", candidate_id=candidate.candidate_id, state="live"),
    )
    await _told(analyst, "labels", len(labels), tenant)
    await _told(analyst, "deployments", 1, tenant)
    rows = await _told(analyst, "contributions", 2, tenant)
    assert {(row["expert"], row["labels"], row["learned_from"]) for row in rows} == {("ana", 2, 2), ("bo", 1, 2)}
    assert {(row["candidate_id"], row["gain"], row["live_at"] is not None) for row in rows} == {
        (candidate.candidate_id, candidate.gain, True)
    }
