"""What labels come to, as analysts see it: the same as the trainer, and without what says nothing of a model."""

import random
import uuid
from collections import defaultdict
from datetime import timedelta
from typing import Any

from msgspec.structs import replace

from schemas.events import Candidate, Label, Outcome
from schemas.labels import JUDGEMENTS, Kind, standing
from schemas.labels import Outcome as Said
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from tests.integration.audit.record import eventually
from tests.integration.audit.story import interaction, story

LABEL = next(event for _, event in story()[1] if isinstance(event, Label))
OUTCOME = next(event for _, event in story()[1] if isinstance(event, Outcome))
CANDIDATE = next(event for _, event in story()[1] if isinstance(event, Candidate))
# In groups of what is the same.
ANSWERS = (
    *("yes", " YES ", "ye\ns"),
    *("ﬁne Straße", "fine STRASSE"),
    *(
        '{"name": "f", "arguments": {"x": 1, "y": [1, "A  b"]}}',
        '{"arguments": {"y": [1.0, "a B"], "x": 1.0}, "name": "f"}',
    ),
    '{"name": "F", "arguments": {"x": 1, "y": [1, "A  b"]}}',
    '{"name": "f", "arguments": {"x": true, "y": [1, "A  b"]}}',
    '{"name": "f", "arguments": {"x": "1", "y": [1, "A  b"]}}',
    '{"name": "f", "arguments": {"x": 1, "x": 1}}',
    *("", "null", "[1]", "{"),
)


def make(tenant: str, **changes: Any) -> Label:
    return replace(LABEL, tenant=tenant, **{"label_id": str(uuid.uuid4()), **changes})


def some_labels(tenant: str, chance: random.Random, request_id: str) -> list[Label]:
    """Labels of one request, some of them taken back, some told twice."""
    labels = [
        make(
            tenant,
            request_id=request_id,
            expert=chance.choice(["ana", "bo", "cy"]),
            labelled_at=LABEL.labelled_at + timedelta(minutes=chance.randint(0, 9)),
            outcome=chance.choices([*Said], [4, 8, 1, 1, 1, 0])[0],
            kind=chance.choices([*Kind], [5, 5, 1, 1, 1])[0],
            answer=chance.choice(ANSWERS),
        )
        for _ in range(chance.randint(1, 4))
    ]
    back = [replace(each, outcome="retracted", answer="") for each in labels if chance.random() < 0.15]
    return [*labels, *back, *chance.sample(labels, 1)]


async def test_analysts_see_the_states_that_the_trainer_goes_by(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant, chance = f"judged-{uuid.uuid4().hex[:8]}", random.Random(6)
    by_request = {each: some_labels(tenant, chance, each) for each in (str(uuid.uuid4()) for _ in range(400))}
    # Nearly the same answer by two, where what is the same is hard to say.
    for one in ANSWERS:
        for other in ANSWERS:
            request_id = str(uuid.uuid4())
            by_request[request_id] = [
                make(tenant, request_id=request_id, expert=expert, outcome="corrected", answer=answer)
                for expert, answer in (("ana", one), ("bo", other))
            ]
    for label in chance.sample(records := [label for labels in by_request.values() for label in labels], len(records)):
        await producer.send(Topic.LABELS, label)
    of_tenant = {"tenant": tenant}

    async def on_record() -> bool:
        (row,) = await analyst.rows("SELECT count() AS n FROM gyre.labels WHERE tenant = {tenant:String}", of_tenant)
        return bool(row["n"] == len(records))

    await eventually(on_record)
    seen = {
        row["request_id"]: (row["state"], row["label_id"], row["outcome"], tuple(row["experts"]))
        for row in await analyst.rows("SELECT * FROM gyre.label_states WHERE tenant = {tenant:String}", of_tenant)
    }
    wanted = {}
    for request_id, labels in by_request.items():
        said = standing(labels)
        counts = (said.label.label_id, said.label.outcome) if said.label else ("", "")
        if any(label.kind != "gold" for label in labels):
            wanted[request_id] = (said.state.value, *counts, said.experts)
    assert seen == wanted
    assert {state for state, *_ in seen.values()} == {
        *("open", "provisional", "agreed", "disputed", "adjudicated", "escalated")
    }
    rows = await analyst.rows("SELECT label_id, kind FROM gyre.judgements WHERE tenant = {tenant:String}", of_tenant)
    assert len({row["label_id"] for row in rows}) == len(rows)
    taken_back = {each.label_id for each in records if each.outcome == "retracted"}
    assert {row["label_id"] for row in rows} == {
        each.label_id
        for each in records
        if each.outcome in JUDGEMENTS and each.kind != Kind.GOLD and each.label_id not in taken_back
    }


async def test_agreement_leaves_out_gold_questions_decisions_and_what_was_taken_back(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant = f"agreeing-{uuid.uuid4().hex[:8]}"
    requests: defaultdict[str, list[Label]] = defaultdict(list)
    for number, (expert, changes) in enumerate(
        [
            *[("ana", {}), ("bo", {"kind": "overlap"})],
            *[("ana", {"kind": "gold"}), ("bo", {"kind": "gold", "outcome": "confirmed"})],
            *[("ana", {}), ("bo", {"kind": "adjudication", "outcome": "unsafe"})],
            *[("ana", {}), ("bo", {"kind": "overlap", "outcome": "confirmed", "label_id": f"back-{tenant}"})],
        ]
    ):
        requests[f"{tenant}-{number // 2}"].append(
            make(tenant, **{"request_id": f"{tenant}-{number // 2}", "expert": expert, **changes})
        )
    taken_back = requests[f"{tenant}-3"][1]
    for label in [*(each for labels in requests.values() for each in labels), replace(taken_back, outcome="retracted")]:
        await producer.send(Topic.LABELS, label)
    where = {"tenant": tenant}

    async def only_one() -> bool:
        (row,) = await analyst.rows("SELECT count() AS n FROM gyre.labels WHERE tenant = {tenant:String}", where)
        return bool(row["n"] == 9)

    await eventually(only_one)
    rows = await analyst.rows(
        "SELECT expert, other, requests, agreement FROM gyre.agreement WHERE tenant = {tenant:String}", where
    )
    assert rows == [{"expert": "ana", "other": "bo", "requests": 1, "agreement": 1.0}]
    (day,) = await analyst.rows("SELECT labelled FROM gyre.days WHERE tenant = {tenant:String}", where)
    assert day["labelled"] == 3  # the gold question is none


async def test_what_was_taken_back_judges_no_model_and_has_taught_those_before(
    analyst: ClickHouse, told: dict[str, str], producer: Producer
) -> None:
    tenant, back_at = f"sorry-{uuid.uuid4().hex[:8]}", LABEL.labelled_at + timedelta(hours=1)
    stands, wrong = (
        make(tenant, request_id=f"{tenant}-{name}", labelled_at=LABEL.labelled_at + timedelta(minutes=minutes))
        for minutes, name in enumerate(("stands", "wrong"))
    )
    for label, success in ((stands, 1.0), (wrong, 0.0)):
        asked = replace(interaction(label.request_id), tenant=tenant)
        await producer.send(Topic.INTERACTIONS, asked)
        await producer.send(Topic.LABELS, label)
        told_of = replace(OUTCOME, request_id=label.request_id, tenant=tenant, tier="small", success=success)
        await producer.send(Topic.OUTCOMES, replace(told_of, found_at=label.labelled_at))
    await producer.send(Topic.LABELS, replace(wrong, outcome="retracted", labelled_at=back_at))
    for name, created_at in (("before", back_at - timedelta(minutes=1)), ("after", back_at + timedelta(minutes=1))):
        candidate = f"{tenant}-{name}"
        learned = (stands.request_id, wrong.request_id)
        made = replace(CANDIDATE, candidate_id=candidate, tenant=tenant, created_at=created_at)
        await producer.send(Topic.CANDIDATES, replace(made, training_request_ids=learned))
        answer = replace(interaction(str(uuid.uuid4()), candidate_id=candidate), tenant=tenant)
        await producer.send(Topic.INTERACTIONS, answer)
    where = {"tenant": tenant, "prefix": f"{tenant}-%"}

    async def counted() -> bool:
        for view in ("models", "flywheel"):
            rows = await analyst.rows(
                f"SELECT labelled, accuracy FROM gyre.{view} WHERE tenant = {{tenant:String}} AND tier = 'small'", where
            )
            if rows != [{"labelled": 1, "accuracy": 1.0}]:
                return False
        return True

    await eventually(counted)

    async def taught() -> bool:
        rows = await analyst.rows(
            "SELECT label_id, candidate_id FROM gyre.taught WHERE candidate_id LIKE {prefix:String}", where
        )
        return {(row["label_id"], row["candidate_id"]) for row in rows} == {
            (stands.label_id, f"{tenant}-before"),
            (stands.label_id, f"{tenant}-after"),
            (wrong.label_id, f"{tenant}-before"),
        }

    await eventually(taught)
