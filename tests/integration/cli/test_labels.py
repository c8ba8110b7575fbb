"""`gyre labels` on a real broker and a real ClickHouse engine, with audit between them, all for these tests alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner, Result
from msgspec.structs import replace
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.cli import main
from gyre.cli.policy import publish
from gyre.labelling.form import LabelledRequest
from gyre.labelling.shapes import SHAPES, read
from schemas.bundle import Learning, load_bundle
from schemas.events import EdgeCase, Erasure, Event, Label, Message, Tool
from schemas.topics import Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.kafka import Producer
from services.runtime.settings import ClickHouseSettings, KafkaSettings
from services.trainer.consumer import follower
from services.trainer.state import Knowledge
from tests.integration.audit.record import eventually
from tests.integration.audit.story import story
from tests.integration.service_process import ServiceProcess

CASE = next(event for _, event in story()[1] if isinstance(event, EdgeCase))
LABEL = next(event for _, event in story()[1] if isinstance(event, Label))
BUNDLE = Path("deploy/bundle")
TRACK = Tool(name="track", parameters='{"type": "object", "properties": {"order": {"type": "integer"}}}')
CALL, SAME_CALL = '{"name": "track", "arguments": {"order": 7}}', '{"arguments": {"order": 7.0}, "name": "track"}'
OTHER_CALL = CALL.replace("7", "8")


def judged(request_id: str, expert: str, minutes: int, **changes: Any) -> Label:
    fields: dict[str, Any] = {
        "label_id": f"{request_id}-{expert}-{minutes}",
        "request_id": request_id,
        "expert": expert,
        "labelled_at": LABEL.labelled_at + timedelta(minutes=minutes, microseconds=1),
        "answer": CALL,
        "model_answer": "I do not know.",
        "comment": f'said <{expert}>, "quoted"\nand Zürich',
        "seconds_spent": 12.5,
        "guideline_version": "g-1",
    }
    return replace(LABEL, **{**fields, **changes})


def records() -> list[tuple[Topic, Event]]:
    """Requests in every state, told in an order that is not that of time."""
    labels = {
        "provisional": [judged("provisional", "ana", 1)],
        "agreed": [judged("agreed", "bo", 2, kind="overlap", answer=SAME_CALL), judged("agreed", "ana", 1)],
        "disputed": [judged("disputed", "ana", 1), judged("disputed", "bo", 2, answer=OTHER_CALL)],
        "escalated": [judged("escalated", "ana", 1, outcome="escalated", answer="")],
        "adjudicated": [
            judged("adjudicated", "lea", 3, kind="adjudication", answer=OTHER_CALL),
            judged("adjudicated", "ana", 1),
        ],
        "taken-back": [judged("taken-back", "ana", 2, outcome="retracted"), judged("taken-back", "ana", 2)],
        "gold": [judged("gold", "ana", 1, kind="gold")],
        "skipped": [judged("skipped", "ana", 1, outcome="skipped", answer="")],
    }
    messages = (Message(role="system", content="Be brief."), Message(role="user", content="Where is order 7?"))
    cases = [
        replace(CASE, request_id=each, messages=messages, tools=(TRACK,), answer="I do not know.", model="small")
        for each in labels
    ]
    told = [label for each in labels.values() for label in (*each, each[0])]
    return [*((Topic.EDGE_CASES, case) for case in cases), *((Topic.LABELS, label) for label in told)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a person who runs `gyre labels` beside a stack of its own."""
    folder = tmp_path_factory.mktemp("labels")
    stack = Stack(Settings(state_dir=folder, ports=stack_ports()))
    stack.start(("kafka", "clickhouse"))
    environment = {
        "GYRE_KAFKA_BOOTSTRAP_SERVERS": stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"),
        "GYRE_KAFKA_PARTITIONS": "2",
        "GYRE_CLICKHOUSE_URL": f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        "GYRE_CLICKHOUSE_USER": "audit",
        "GYRE_CLICKHOUSE_PASSWORD": clickhouse_password(stack.settings, "audit"),
    }
    with ServiceProcess("audit", folder / "log", environment):
        yield environment
    stack.stop()


@pytest.fixture(autouse=True)
def environment(installation: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in installation.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
async def database(installation: dict[str, str]) -> AsyncIterator[ClickHouse]:
    password = SecretStr(installation["GYRE_CLICKHOUSE_PASSWORD"])
    client = ClickHouse(ClickHouseSettings(url=installation["GYRE_CLICKHOUSE_URL"], user="audit", password=password))
    yield client
    await client.close()


@pytest.fixture(scope="module")
def kafka_settings(installation: dict[str, str]) -> KafkaSettings:
    return KafkaSettings(bootstrap_servers=installation["GYRE_KAFKA_BOOTSTRAP_SERVERS"], partitions=2)


@pytest.fixture(scope="module")
async def told(kafka_settings: KafkaSettings, database: ClickHouse) -> None:
    """Everything on record, and a bundle in force."""
    async with Producer(kafka_settings) as producer:
        for topic, event in records():
            await producer.send(topic, event)
    wanted = len([topic for topic, _ in records() if topic is Topic.LABELS])
    await on_record(database, "SELECT count() AS n FROM gyre.labels", wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GYRE_KAFKA_BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
        await asyncio.to_thread(publish, BUNDLE)


async def on_record(database: ClickHouse, query: str, wanted: int) -> None:
    async def there() -> bool:
        try:
            (row,) = await database.rows(query)
        except Exception:  # audit has not made its tables yet
            return False
        return bool(row["n"] == wanted)

    await eventually(there, 90)


async def gyre_labels(*arguments: object) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, main, ["labels", *map(str, arguments)], catch_exceptions=False)


async def exported(folder: Path, shape: str, *options: object) -> dict[str, LabelledRequest]:
    """What an export holds, by request."""
    path = folder / f"export.{shape}"
    result = await gyre_labels("export", path, "--format", shape, *options)
    assert result.exit_code == 0, result.output
    return requests_in(path, shape)


def requests_in(path: Path, shape: str) -> dict[str, LabelledRequest]:
    with path.open("rb") as file:
        found = dict(read(SHAPES[shape], file, {}))
    assert all(isinstance(each, LabelledRequest) for each in found.values()), found
    return {each.request_id: each for each in found.values() if isinstance(each, LabelledRequest)}


async def written(settings: KafkaSettings) -> dict[str, int]:
    """How many records there are of edge cases and of labels."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    await consumer.start()
    try:
        return {
            topic: sum((await consumer.end_offsets([TopicPartition(topic, n) for n in range(2)])).values())
            for topic in (Topic.EDGE_CASES, Topic.LABELS)
        }
    finally:
        await consumer.stop()


def of_labels(request: LabelledRequest) -> list[dict[str, Any]]:
    """Labels, but for what an import gives anew."""
    return [label.model_dump(exclude={"label_id", "kind"}) for label in request.labels]


@pytest.mark.parametrize("shape", SHAPES)
async def test_an_export_holds_the_labels_that_stand_with_their_requests(
    told: None, tmp_path: Path, shape: str
) -> None:
    found = await exported(tmp_path, shape, "--tenant", LABEL.tenant)
    assert {name: request.state for name, request in found.items() if "-" not in name} == {
        each: each for each in ("provisional", "agreed", "disputed", "escalated", "adjudicated")
    }
    provisional = found["provisional"]
    assert [turn.content for turn in provisional.messages] == ["Be brief.", "Where is order 7?"]
    assert (provisional.answer, provisional.model) == ("I do not know.", "small")
    assert provisional.tools[0].parameters == TRACK.parameters
    (label,) = provisional.labels
    assert (label.label_id, label.expert, label.answer) == ("provisional-ana-1", "ana", CALL)
    assert label.comment == judged("", "ana", 0).comment
    assert label.labelled_at == judged("", "", 1).labelled_at
    assert [(each.expert, each.kind) for each in found["agreed"].labels] == [("ana", "first"), ("bo", "overlap")]


async def test_an_export_is_of_what_is_asked_for(told: None, tmp_path: Path) -> None:
    states = await exported(tmp_path, "jsonl", "--state", "disputed", "--state", "escalated")
    assert {each.state for each in states.values()} == {"disputed", "escalated"}
    since = judged("", "", 3).labelled_at.strftime("%Y-%m-%dT%H:%M:%S%z")
    assert "adjudicated" in (recent := await exported(tmp_path, "jsonl", "--since", since))
    assert not {"provisional", "agreed"} & recent.keys()
    assert await exported(tmp_path, "jsonl", "--tenant", "nobody") == {}
    assert await exported(tmp_path, "argilla", "--task", "nothing") == {}
    result = await gyre_labels("export", "-", "--state", "disputed")
    assert [json.loads(line)["state"] for line in result.stdout.splitlines()] == ["disputed"]
    assert "Wrote 1 requests with their labels." in result.stderr


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_is_on_record_is_not_imported_again(
    told: None, kafka_settings: KafkaSettings, tmp_path: Path, shape: str
) -> None:
    await exported(tmp_path, shape, "--state", "agreed", "--state", "disputed")
    before = await written(kafka_settings)
    result = await gyre_labels("import", tmp_path / f"export.{shape}", "--format", shape)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1].startswith("Imported 0 labels of 0 requests, 0 of them new here. ")
    assert await written(kafka_settings) == before


@pytest.mark.parametrize("shape", SHAPES)
async def test_labels_that_go_through_a_file_are_the_same_in_another_record(
    told: None, kafka_settings: KafkaSettings, database: ClickHouse, tmp_path: Path, shape: str
) -> None:
    states = ("provisional", "agreed", "disputed", "escalated", "adjudicated")
    options = [option for state in states for option in ("--state", state)]
    original = {name: each for name, each in (await exported(tmp_path, shape, *options)).items() if name in states}
    # To this record they are requests that it does not know.
    elsewhere = {name: each.model_copy(update={"request_id": f"{shape}-{name}"}) for name, each in original.items()}
    path = tmp_path / "elsewhere"
    documents = [SHAPES[shape].dump(each) for each in elsewhere.values()]
    lines = "\n".join(json.dumps(each) for each in documents)
    path.write_text(lines if SHAPES[shape].LINES else json.dumps(documents))

    before = await written(kafka_settings)
    tried = await gyre_labels("import", path, "--format", shape, "--dry-run")
    assert tried.output.splitlines()[-1] == (
        "Would import 7 labels of 5 requests, 5 of them new here. 1 were left out, for a lead has decided about their "
        "requests."
    )
    assert await written(kafka_settings) == before
    result = await gyre_labels("import", path, "--format", shape)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-1] == tried.output.splitlines()[-1].replace("Would import", "Imported")
    after = await written(kafka_settings)
    assert after == {Topic.EDGE_CASES: before[Topic.EDGE_CASES] + 5, Topic.LABELS: before[Topic.LABELS] + 7}

    await on_record(database, f"SELECT count() AS n FROM gyre.labels WHERE request_id LIKE '{shape}-%'", 7)
    await on_record(database, f"SELECT count() AS n FROM gyre.edge_cases WHERE request_id LIKE '{shape}-%'", 5)
    again = {
        name.removeprefix(f"{shape}-"): each
        for name, each in (await exported(tmp_path, shape)).items()
        if name.startswith(f"{shape}-")
    }
    assert again.keys() == original.keys()
    for name, request in original.items():
        ignoring = {"request_id", "labels", "state"}
        assert again[name].model_dump(exclude=ignoring) == request.model_dump(exclude=ignoring)
        if name != "adjudicated":
            assert of_labels(again[name]) == of_labels(request)
            assert again[name].state == request.state
    assert of_labels(again["adjudicated"]) == of_labels(original["adjudicated"])[-1:]
    assert {label.kind for each in again.values() for label in each.labels} == {"imported"}

    twice = await gyre_labels("import", path, "--format", shape)
    assert twice.output.splitlines()[-1].startswith("Imported 0 labels of 0 requests, 0 of them new here. 7 labels are")
    assert await written(kafka_settings) == after


async def test_the_trainer_learns_what_was_imported(told: None, kafka_settings: KafkaSettings, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    document = {
        "tenant": LABEL.tenant,
        "task": LABEL.task,
        "sensitivity": "confidential",
        "messages": [{"role": "user", "content": "Where is order 7 of another shop?"}],
        "tools": [{"name": "track", "parameters": TRACK.parameters}],
        "labels": [{"expert": "somebody", "outcome": "corrected", "answer": CALL}],
    }
    path.write_text(json.dumps(document) + "\n")
    result = await gyre_labels("import", path)
    assert result.output.splitlines()[-1] == "Imported 1 labels of 1 requests, 1 of them new here."
    knowledge = Knowledge()
    following = follower(kafka_settings, knowledge)
    reading = asyncio.create_task(following.run())
    await following.caught_up()
    reading.cancel()
    rows = knowledge.rows(LABEL.tenant, LABEL.task, "Answer.", Learning(labels_needed=1).accepts)
    (row,) = [row for row in rows if row.source == "somebody"]
    assert row.messages[-1].content == "Where is order 7 of another shop?"
    assert (row.completion, row.sensitivity) == (CALL, "confidential")


async def test_nothing_is_written_while_anything_is_wrong(
    told: None, kafka_settings: KafkaSettings, tmp_path: Path
) -> None:
    path = tmp_path / "labels.jsonl"
    good = {
        "request_id": "of-a-bad-file",
        "tenant": LABEL.tenant,
        "task": LABEL.task,
        "sensitivity": "internal",
        "messages": [{"role": "user", "content": "Where is order 9?"}],
        "labels": [{"expert": "ana", "outcome": "unsafe"}],
    }
    bad = [
        {**good, "labels": [{"expert": "ana", "outcome": "wrong"}]},
        {**good, "task": "cooking"},
        {**good, "request_id": "provisional", "tenant": "nobody"},
    ]
    path.write_text("\n".join(json.dumps(each) for each in (good, *bad)))
    before = await written(kafka_settings)
    result = await gyre_labels("import", path)
    assert result.exit_code == 1
    version = load_bundle(BUNDLE).version
    assert result.stderr.splitlines()[-4:] == [
        f"{path}: line 2: labels[0].outcome: Input should be 'confirmed', 'corrected', 'unsafe' or 'escalated'",
        f"{path}: line 3: task: {LABEL.tenant}/cooking is not in bundle {version}",
        f"{path}: line 4: task: nobody/{LABEL.task} is not in bundle {version}",
        "Error: 3 items cannot be imported, so nothing was.",
    ]
    assert await written(kafka_settings) == before
    result = await gyre_labels("import", path, "--skip-invalid")
    assert result.exit_code == 0
    assert f"{path}: line 2: labels[0].outcome" in result.stderr
    assert result.stdout == "Imported 1 labels of 1 requests, 1 of them new here. 3 items were skipped.\n"


async def test_what_was_erased_does_not_come_back_by_a_file(
    told: None, kafka_settings: KafkaSettings, database: ClickHouse, tmp_path: Path
) -> None:
    async with Producer(kafka_settings) as producer:
        erasure = Erasure(request_id="forgotten", erasure_id="e", tenant=LABEL.tenant, asked_at=LABEL.labelled_at)
        await producer.send(Topic.ERASURES, erasure)
    await on_record(database, "SELECT count() AS n FROM gyre.erasures", 1)
    path = tmp_path / "labels.jsonl"
    line = (await gyre_labels("export", "-", "--state", "disputed")).stdout.splitlines()[0]
    path.write_text(json.dumps({**json.loads(line), "request_id": "forgotten"}))
    result = await gyre_labels("import", path)
    assert result.exit_code == 1
    assert f"{path}: line 1: request_id: forgotten was erased, and is not to come back" in result.stderr


async def test_who_does_not_answer_is_named(told: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("")
    monkeypatch.setenv("GYRE_CLICKHOUSE_URL", "http://127.0.0.1:9")
    for command in (("export", tmp_path / "out"), ("import", path)):
        result = await gyre_labels(*command)
        assert result.exit_code == 1
        assert "Error: ClickHouse: " in result.stderr
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("GYRE_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9")
    result = await gyre_labels("import", path)
    assert "Error: Kafka at 127.0.0.1:9 does not answer; start it (gyre up)" in result.stderr
