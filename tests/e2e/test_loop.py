"""The loop, once round and small: traffic, the replayed expert, a specialist, the gate, live, and back."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from gyre.api.serving.v1 import serving_pb2, serving_pb2_grpc
from gyre.api.trainer.v1 import training_pb2, training_pb2_grpc
from gyre.demo.expert import EXPERT, answer_queue
from gyre.demo.play import Played, play
from gyre.demo.story import ENDED, TENANT
from gyre.demo.story import TASK as CALLS
from gyre.demo.traffic import TrafficRequest, traffic
from tests.whole_stack import (
    CALL_SECONDS,
    HOLDOUT_MINIMUM,
    LABELS_NEEDED,
    SMALL,
    WholeStack,
    wait_for,
)

pytestmark = pytest.mark.timeout(900)  # one round takes minutes, on a busy machine several times as many

REQUESTS = 24
SPECIALIST = f"specialist-{TENANT}-{CALLS}"
TASK = {"tenant": TENANT, "task": CALLS}


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
    labelled = await answer_queue(gyre.address("triage"), asked, lambda: None)

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
    assert EXPERT in steps["label"]["summary"]
    assert "learned from it" in steps["adapter"]["summary"]
    assert {steps[kind]["id"] for kind in ("adapter", "gate", "later answers")} == {candidate_id}
    assert SPECIALIST in steps["deployment"]["summary"]


def _complete(rows: list[dict[str, Any]], kinds: list[str]) -> dict[str, dict[str, Any]]:
    found = {row["kind"]: row for row in rows}
    return found if set(kinds) <= set(found) else {}


def test_what_is_live_is_exported_with_all_that_it_takes_to_run_elsewhere(gyre: WholeStack, once_round: Round) -> None:
    export = call_serving(gyre, "Export", serving_pb2.ExportRequest(**TASK))
    folder = gyre.stack.settings.artifacts_dir / export.directory
    assert once_round.run.candidate_id in export.directory
    assert set(export.files) >= {
        "adapter.gguf",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "manifest.json",
        "model.Q8_0.gguf",
        "tokenizer/tokenizer.json",
    }
    assert all((folder / file).stat().st_size > 0 for file in export.files)


async def test_a_rollback_brings_the_generic_model_back(gyre: WholeStack, once_round: Round) -> None:
    response = call_serving(gyre, "Rollback", serving_pb2.RollbackRequest(**TASK, reason="a test"))
    assert response.candidate_id == ""
    await answered_by(gyre, SMALL, once_round.requests[0])
    query = "SELECT argMax(state, offset) AS state FROM gyre.deployments WHERE task_key = {key:String}"
    wait_for(lambda: gyre.rows(query, key=f"{TENANT}/{CALLS}") == [{"state": "none"}], seconds=10)
    gyre.assert_every_chain_is_intact()
