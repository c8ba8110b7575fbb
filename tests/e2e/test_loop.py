"""The loop, once round and small: traffic, the replayed expert, a specialist, the gate, live, and back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from click.testing import CliRunner

from embedded.environment import REPLAYED_EXPERT, audit_signing_keys, clickhouse_password, replayed_expert_token
from gyre.api.audit.v1 import audit_pb2, audit_pb2_grpc
from gyre.api.context.v1 import context_pb2, context_pb2_grpc
from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.api.trainer.v1 import training_pb2, training_pb2_grpc
from gyre.api.triage.v1 import review_pb2, review_pb2_grpc
from gyre.api.types.v1 import types_pb2
from gyre.auditor.export import export
from gyre.auditor.verify import Finding, verify
from gyre.cli import main
from gyre.demo.expert import answer_queue
from gyre.demo.play import Played, play
from gyre.demo.story import ENDED, TENANT
from gyre.demo.story import TASK as CALLS
from gyre.demo.traffic import TrafficRequest, traffic
from schemas import clickhouse as ddl
from schemas.ledger.notes import SigningKey
from schemas.ledger.proofs import Proof
from schemas.topics import Topic
from services.trainer.dataset import read_rows
from tests.whole_stack import (
    CALL_SECONDS,
    HOLDOUT_MINIMUM,
    LABELS_NEEDED,
    SMALL,
    TEXT,
    WholeStack,
    wait_for,
)

pytestmark = pytest.mark.timeout(900)  # one round takes minutes, on a busy machine several times as many

REQUESTS = 24
SPECIALIST = f"specialist-{TENANT}-{CALLS}"
TASK = {"tenant": TENANT, "task": CALLS}
CONVERSATION = "lost-property"
REMEMBERED = "Where did I leave my tartan umbrella with the brass handle?"


@dataclass(frozen=True)
class Round:
    """What happened on the way round."""

    requests: Sequence[TrafficRequest]
    before: Sequence[Played]
    labelled: int
    run: training_pb2.Run
    deployment: serving_pb2.DeploymentStatus


async def answered_by(gyre: WholeStack, model: str, request: TrafficRequest) -> Played:
    """Ask until a model answers: the router is told at the same time as everybody else."""
    deadline = time.monotonic() + CALL_SECONDS
    while True:
        (played,) = await play(gyre.router_url, [request], lambda: None)
        if played.model == model:
            return played
        assert time.monotonic() < deadline, f"{played.model} goes on answering, not {model}"


@pytest.fixture(scope="module")
async def once_round(gyre: WholeStack) -> Round:
    """Nobody starts anything here but the application and the expert."""
    requests = [each for each in traffic() if each.task == CALLS and each.split == "traffic"][:REQUESTS]
    before = await play(gyre.router_url, requests, lambda: None)
    by_id = {request.id: request for request in requests}
    asked = {each.request_id: by_id[each.traffic_id] for each in before}
    labelled = await answer_queue(
        gyre.address("triage"), replayed_expert_token(gyre.stack.settings), asked, lambda: None
    )

    with gyre.channel("trainer") as trainer, gyre.channel("serving") as serving:
        training = training_pb2_grpc.TrainingStub(trainer)

        def ended() -> list[training_pb2.Run]:
            runs = training.Status(training_pb2.StatusRequest(), timeout=CALL_SECONDS).runs
            return [run for run in runs if run.state in ENDED]

        (run,) = wait_for(ended, seconds=500)
        assert run.state == training_pb2.RUN_STATE_PROMOTED, run.detail

        def live() -> list[serving_pb2.DeploymentStatus]:
            stub = serving_pb2_grpc.ServingStub(serving)
            status = stub.Status(serving_pb2.StatusRequest(), timeout=CALL_SECONDS)
            return [each for each in status.deployments if each.state == "live" and each.healthy]

        (deployment,) = wait_for(live)
    return Round(requests, before, labelled, run, deployment)


def call_serving(gyre: WholeStack, method: str, request: Any) -> Any:
    with gyre.channel("serving") as channel:
        return getattr(serving_pb2_grpc.ServingStub(channel), method)(request, timeout=90)


def test_training_starts_by_itself_and_what_passes_the_gate_goes_live(once_round: Round) -> None:
    assert {each.model for each in once_round.before} == {SMALL}
    assert once_round.labelled == REQUESTS
    run = once_round.run
    assert run.training_rows + run.holdout_rows >= LABELS_NEEDED
    assert run.holdout_rows >= HOLDOUT_MINIMUM
    assert once_round.deployment.model == SPECIALIST
    assert once_round.deployment.candidate_id == run.candidate_id


async def test_the_specialist_answers_the_same_request_with_fewer_prompt_tokens(
    gyre: WholeStack, once_round: Round
) -> None:
    after = await answered_by(gyre, SPECIALIST, once_round.requests[0])
    assert 0 < after.prompt_tokens < once_round.before[0].prompt_tokens
    row = gyre.interaction(after.request_id)
    assert (row["candidate_id"], row["tier"]) == (once_round.run.candidate_id, "specialist")


def test_one_query_leads_from_an_answer_to_the_specialist_that_learned_from_it(
    gyre: WholeStack, once_round: Round
) -> None:
    candidate_id = once_round.run.candidate_id
    learned_from = "SELECT training_request_ids AS ids FROM gyre.candidates WHERE candidate_id = {id:String}"
    (candidate,) = wait_for(lambda: gyre.rows(learned_from, id=candidate_id), seconds=10)
    first = next(each for each in once_round.before if each.request_id in candidate["ids"])

    lineage = "SELECT kind, id, summary FROM gyre.lineage WHERE request_id = {id:String} ORDER BY at"
    wanted = ["interaction", "edge case", "label", "dataset", "adapter", "gate", "deployment", "later answers"]
    steps = wait_for(lambda: _complete(gyre.rows(lineage, id=first.request_id), wanted), seconds=10)
    assert steps["interaction"]["id"] == steps["edge case"]["id"] == first.request_id
    assert REPLAYED_EXPERT in steps["label"]["summary"]
    assert "learned from it" in steps["adapter"]["summary"]
    assert {steps[kind]["id"] for kind in ("adapter", "gate", "later answers")} == {candidate_id}
    assert SPECIALIST in steps["deployment"]["summary"]


def _complete(rows: list[dict[str, Any]], kinds: list[str]) -> dict[str, dict[str, Any]]:
    found = {row["kind"]: row for row in rows}
    return found if set(kinds) <= set(found) else {}


def test_the_record_says_whose_labels_the_specialist_learned_from_and_by_which_guideline(
    gyre: WholeStack, once_round: Round
) -> None:
    candidate_id = once_round.run.candidate_id
    contributed = (
        "SELECT expert, labels, learned_from, live_at FROM gyre.contributions WHERE candidate_id = {id:String}"
    )
    rows = wait_for(lambda: [row for row in gyre.rows(contributed, id=candidate_id) if row["live_at"]], seconds=10)
    assert [(row["expert"], row["labels"]) for row in rows] == [(REPLAYED_EXPERT, once_round.run.training_rows)]
    versions = gyre.rows(
        "SELECT DISTINCT guideline_version AS version FROM gyre.labels WHERE task = {task:String}", task=CALLS
    )
    (guideline,) = gyre.rows("SELECT version, text FROM gyre.guidelines WHERE task = {task:String}", task=CALLS)
    assert versions == [{"version": guideline["version"]}]
    assert guideline["text"]


def test_what_is_live_is_carried_away_in_one_folder_that_anyone_can_check(
    gyre: WholeStack, once_round: Round, tmp_path: Path
) -> None:
    candidate_id, folder = once_round.run.candidate_id, tmp_path / "export"

    def are_signed() -> bool:
        with gyre.channel("audit") as channel:
            request = audit_pb2.ProveRequest(request_id=candidate_id)
            try:
                found = audit_pb2_grpc.AuditStub(channel).Prove(request, timeout=CALL_SECONDS)
            except grpc.RpcError:
                return False
        proof = Proof.parse(found.proof_json.encode())
        return {row.topic for row in proof.rows} == {Topic.CANDIDATES, Topic.DEPLOYMENTS} and not proof.unsigned

    wait_for(are_signed, seconds=120)
    exported = command(gyre, "export", TENANT, CALLS, str(folder))
    assert f"Wrote candidate {candidate_id} to {folder}" in exported
    assert "Not all of it is proven" not in exported
    verified = command(gyre, "export", "verify", str(folder), "--key", command(gyre, "audit", "key").strip())
    assert "What the gate found and what went live are on record, as signed." in verified
    (folder / "gate.json").write_text((folder / "gate.json").read_text().replace(candidate_id, "another"))
    assert "gate.json: is not as it was exported" in command(gyre, "export", "verify", str(folder), exit_code=1)


def command(gyre: WholeStack, *arguments: str, exit_code: int = 0) -> str:
    """What the `gyre` command says."""
    result = CliRunner().invoke(main, arguments, env=gyre.stack.settings.to_environment())
    assert result.exit_code == exit_code, result.output
    return result.output


async def test_a_person_who_asks_to_be_forgotten_is_found_in_no_store(
    gyre: WholeStack, once_round: Round, tmp_path: Path
) -> None:
    candidate_id = once_round.run.candidate_id
    (candidate,) = gyre.rows(
        "SELECT training_request_ids AS ids FROM gyre.candidates WHERE candidate_id = {id:String}", id=candidate_id
    )
    teachers = {each.traffic_id for each in once_round.before if each.request_id in candidate["ids"]}
    person, learned = next(
        (each.id, question)
        for each in once_round.requests
        # As ClickHouse writes it too: without what it would escape.
        if each.id in teachers and not set(question := each.messages[-1]["content"]) & {"'", '"', "\n", "\\"}
    )
    asked = talk(gyre, REMEMBERED, person)
    wait_for(lambda: gyre.rows("SELECT 1 FROM gyre.edge_cases WHERE request_id = {id:String}", id=asked))
    wait_for(lambda: is_remembered(gyre, REMEMBERED))
    assert stores_with(gyre, REMEMBERED) >= {"router_interactions_v1", "triage_edge_cases_v1"}
    assert stores_with(gyre, learned) >= {"router_interactions_v1", "triage_edge_cases_v1", "datasets"}

    with gyre.channel("audit") as channel:
        erased = audit_pb2_grpc.AuditStub(channel).Erase(
            audit_pb2.EraseRequest(tenant=TENANT, subject=person), timeout=120
        )

    assert (erased.requests, list(erased.candidate_ids)) == (2, [candidate_id])
    wait_for(lambda: not stores_with(gyre, REMEMBERED) | stores_with(gyre, learned))
    wait_for(lambda: not is_remembered(gyre, REMEMBERED))
    assert asked not in await queue(gyre)
    retraining = gyre.rows("SELECT candidate_id FROM gyre.retraining")
    assert candidate_id in [each["candidate_id"] for each in retraining]
    findings = verified_export(gyre, tmp_path / "record")
    assert any(finding.erased for finding in findings)
    assert not [finding for finding in findings if finding.bad]


def talk(gyre: WholeStack, text: str, person: str) -> str:
    """Say something in a conversation, and return the request's id."""
    with gyre.openai() as client:
        completion = client.chat.completions.create(
            model="auto",
            messages=[{"role": "user", "content": text}],
            metadata={"task": TEXT, "conversation_id": CONVERSATION},
            user=person,
            max_tokens=8,
        )
    return str(completion.id)


def is_remembered(gyre: WholeStack, text: str) -> bool:
    """Whether a model would be shown it in the conversation."""
    request = context_pb2.StitchRequest(
        tenant=TENANT,
        task=TEXT,
        query="Is it found?",
        conversation_id=CONVERSATION,
        budget_tokens=1000,
        max_sensitivity=types_pb2.SENSITIVITY_RESTRICTED,
    )
    with gyre.channel("context") as channel:
        turns = context_pb2_grpc.ContextStub(channel).Stitch(request, timeout=CALL_SECONDS).turns
    return text in [turn.message.content for turn in turns]


def stores_with(gyre: WholeStack, text: str) -> set[str]:
    """The tables of ClickHouse, the datasets, and the files beside Kafka's and ClickHouse's, that hold a text."""
    tables = [ddl.table(topic) for topic in Topic]
    found = {
        table
        for table in tables
        if gyre.rows(
            "SELECT 1 FROM gyre.{table:Identifier} WHERE position(toString(tuple(*)), {text:String}) > 0 LIMIT 1",
            table=table,
            text=text,
        )
    }
    settings = gyre.stack.settings
    for manifest in settings.artifacts_dir.glob("*/*/datasets/*/manifest.json"):
        if any(text in message.content for row in read_rows(manifest.parent) for message in row.messages):
            found.add("datasets")
    files = (path for path in settings.state_dir.rglob("*") if path.is_file())
    kept_by_others = {settings.state_dir / "kafka", settings.state_dir / "clickhouse"}
    found |= {
        str(path.relative_to(settings.state_dir))
        for path in files
        if not kept_by_others & {*path.parents} and text.encode() in path.read_bytes()
    }
    return found


async def queue(gyre: WholeStack) -> list[str]:
    """The requests that wait for experts, each of which is claimed for that."""
    claimed: list[str] = []
    async with grpc.aio.insecure_channel(gyre.address("triage")) as channel:
        review = review_pb2_grpc.ReviewStub(channel)
        while True:
            try:
                claim = await review.Claim(review_pb2.ClaimRequest(), metadata=gyre.expert, timeout=CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                return claimed
            claimed.append(claim.item.request_id)


def verified_export(gyre: WholeStack, folder: Path) -> list[Finding]:
    """What an auditor finds in the record as it is now."""
    settings = gyre.stack.settings
    url = f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}"
    list(export(folder, url, "audit", clickhouse_password(settings, "audit")))
    keys = [SigningKey.parse(text).verifying for text in audit_signing_keys(settings).split()]
    return list(verify(folder, keys))


async def test_a_rollback_brings_the_generic_model_back(gyre: WholeStack, once_round: Round) -> None:
    response = call_serving(gyre, "Rollback", serving_pb2.RollbackRequest(**TASK, reason="a test"))
    assert response.candidate_id == ""
    await answered_by(gyre, SMALL, once_round.requests[0])
    query = "SELECT argMax(state, offset) AS state FROM gyre.deployments WHERE task_key = {key:String}"
    wait_for(lambda: gyre.rows(query, key=f"{TENANT}/{CALLS}") == [{"state": "none"}], seconds=10)
    gyre.assert_every_chain_is_intact()
