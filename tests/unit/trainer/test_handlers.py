"""Runs on fakes of the ports: started, judged, told, cancelled, taken up again."""

import asyncio
import math
from datetime import timedelta

import pytest

from schemas.events import Erasure, GateAnswer, Sensitivity
from services.runtime.errors import FailedPrecondition, NotFound, Retryable
from services.trainer import contest
from services.trainer.dataset import read_manifest
from tests.unit.trainer.fakes import NOW, OTHER_TASK, TASK, TENANT, World, edge_case, label, until

LATER = NOW + timedelta(days=1)


async def test_a_run_goes_from_labels_to_a_candidate_that_is_told_with_its_lineage(world: World) -> None:
    world.label(*range(40))
    world.knowledge.take_edge_case(edge_case(40, sensitivity=Sensitivity.RESTRICTED))  # nobody labels it
    run = await world.run()
    assert (run.state, run.candidate_id) == ("promoted", run.run_id)
    assert run.gated == run.gate_items == 2 * run.holdout_rows
    assert run.progress.step == run.progress.steps == 2
    (told,) = world.announcer.told
    assert (told.candidate_id, told.run_id, told.tenant, told.task) == (run.run_id, run.run_id, TENANT, TASK)
    assert told.verdict == "promote"
    assert all(reason.startswith("met: ") for reason in told.reasons)
    assert told.dataset_id == read_manifest(world.artifacts / run.dataset).dataset_id
    assert set(told.training_request_ids) == world.learner.shown[0]
    assert len(told.training_request_ids) == run.training_rows
    assert len(told.holdout_request_ids) == run.holdout_rows
    assert {*told.training_request_ids, *told.holdout_request_ids} == {f"request-{n:03}" for n in range(40)}
    assert not set(told.training_request_ids) & set(told.holdout_request_ids)
    assert told.adapter_path == f"{TENANT}/{TASK}/runs/{run.run_id}/adapter"
    assert (told.base_model, told.incumbent, told.bundle_version) == ("tiny", "small", "b1")
    assert (told.candidate_accuracy, told.incumbent_accuracy, told.gain) == (1.0, 0.0, 1.0)
    assert told.gain_low <= told.gain <= told.gain_high
    assert told.candidate_answers == (GateAnswer(right=True, sum_logprob=0.0),) * run.holdout_rows
    assert told.incumbent_answers == (GateAnswer(right=False, sum_logprob=0.0),) * run.holdout_rows
    assert told.confidence == pytest.approx(1 - 0.05 * 6 / math.pi**2)  # the first of all that may be held against it
    assert (told.training_tokens, told.training_seconds) == (1200, 34.5)
    assert told.sensitivity == "internal"
    assert '"const":"track"' in told.response_schema
    assert told.system_prompt == "You route store requests. Reply with one JSON function call."


async def test_lineage_leaves_out_what_was_too_long_to_be_learned(world: World) -> None:
    world.label(*range(40))
    whole = await world.run()
    (before,) = world.announcer.told
    left_out = before.training_request_ids[0]
    world.learner.too_long = [left_out.replace("request", "label")]
    again = await world.run()
    assert again.dataset == whole.dataset
    assert set(world.announcer.told[1].training_request_ids) == {*before.training_request_ids} - {left_out}


@pytest.mark.parametrize("count", [0, 5])
async def test_too_few_labels_say_how_many_more(world: World, count: int) -> None:
    world.label(*range(count))
    with pytest.raises(FailedPrecondition, match=r"about \d+ more labels of new requests are needed"):
        await world.training.start(TENANT, TASK)
    assert world.training.runs() == []


async def test_an_unknown_task_is_refused_by_name(world: World) -> None:
    with pytest.raises(NotFound, match="nobody/nothing is not in bundle b1"):
        await world.training.start("nobody", "nothing")


async def test_a_damaged_dataset_is_refused_and_ends_nothing_else(world: World) -> None:
    world.label(*range(40))
    run = await world.run()
    (world.artifacts / run.dataset / "manifest.json").write_text("{}")
    with pytest.raises(FailedPrecondition, match=rf"{TENANT}/{TASK}: .*manifest\.json"):
        await world.training.start(TENANT, TASK)
    world.label(*range(40, 80))
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 1
    world.restart()
    world.training.resume()
    assert [each.state for each in world.training.runs()] == ["promoted"]


async def test_a_second_run_of_a_task_is_refused_while_one_is_under_way(world: World) -> None:
    world.label(*range(40))
    world.learner.may_end.clear()
    both = await asyncio.gather(
        world.training.start(TENANT, TASK), world.training.start(TENANT, TASK), return_exceptions=True
    )
    (refusal,) = [each for each in both if isinstance(each, BaseException)]
    assert isinstance(refusal, FailedPrecondition)
    assert str(refusal) == f"a run of {TENANT}/{TASK} is under way"
    assert len(world.training.runs()) == 1


async def test_runs_of_two_tasks_take_turns(world: World) -> None:
    world.label(*range(40))
    for number in range(100, 140):
        world.knowledge.take_edge_case(edge_case(number, task=OTHER_TASK))
        world.knowledge.take_label(label(number, task=OTHER_TASK))
    world.learner.may_end.clear()
    first = await world.training.start(TENANT, TASK)
    second = await world.training.start(TENANT, OTHER_TASK)
    await until(lambda: first.progress.step == 1 and second.detail)
    assert second.detail == "waits for the run before it"
    assert world.learner.started == [first.run_id]
    world.learner.may_end.set()
    await world.ended(second.run_id)
    assert world.learner.started == [first.run_id, second.run_id]
    assert first.state == "promoted"


async def test_a_candidate_that_is_no_better_is_told_as_refused(world: World) -> None:
    world.label(*range(40))
    world.models.wrong = set()
    run = await world.run()
    (told,) = world.announcer.told
    assert (run.state, told.verdict, told.gain) == ("refused", "refuse", 0.0)
    assert "not met: accuracy changed by +0.0 points" in run.detail


async def test_each_refusal_beside_the_same_incumbent_makes_the_next_candidate_show_more(world: World) -> None:
    world.label(*range(40))
    told = []
    for wrong in (set(), set(), world.models.wrong, set()):
        world.models.wrong = set(wrong)
        await world.run()
        told.append(world.announcer.told[-1])
    assert [each.verdict for each in told] == ["refuse", "refuse", "promote", "refuse"]
    alphas = [1 - each.confidence for each in told]
    # The last one, too: nothing has gone live, so it is held against the same.
    assert alphas == pytest.approx([0.05 * 6 / (math.pi * attempt) ** 2 for attempt in (1, 2, 3, 3)])


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_candidate_that_learned_from_what_was_erased_meanwhile_does_not_go_live(
    world: World, restarted: bool
) -> None:
    world.label(*range(40))
    world.learner.may_end.clear()
    run = await world.training.start(TENANT, TASK)
    await until(lambda: run.progress.step)
    learned = world.learner.shown[0]
    forgotten = min(learned)
    world.knowledge.take_erasure(Erasure(request_id=forgotten, erasure_id="e", tenant=TENANT, asked_at=NOW))
    if restarted:
        await world.training.stop()
        world.restart()
    await world.training.erase_what_is_asked()
    if restarted:
        world.training.resume()
    world.learner.may_end.set()
    run = await world.ended(run.run_id)
    assert run.state == "refused"
    assert "not met: it learned from 1 requests that were erased meanwhile; none is allowed" in run.detail
    (told,) = world.announcer.told
    assert told.verdict == "refuse"
    assert set(told.training_request_ids) == learned


async def test_what_was_erased_before_a_run_began_does_not_count_against_it(world: World) -> None:
    world.label(*range(40))
    asked = Erasure(request_id="request-000", erasure_id="e", tenant=TENANT, asked_at=NOW)
    world.knowledge.take_erasure(asked)
    assert (await world.run()).state == "promoted"


async def test_the_live_specialist_is_the_one_to_beat(world: World) -> None:
    world.label(*range(40))
    await world.run()
    world.go_live(world.announcer.told[0])
    world.label(*range(40, 80))
    run = await world.run()
    told = world.announcer.told[1]
    assert (run.state, told.incumbent, told.incumbent_accuracy) == ("refused", world.announcer.told[0].run_id, 1.0)
    specialist = f"specialist-{TENANT}-{TASK}"
    assert world.models.asked[specialist, "2"] == run.holdout_rows
    assert world.models.asked[specialist, "1"] > run.holdout_rows, "once as candidate, now as incumbent"


async def test_what_is_away_for_a_while_is_asked_again(world: World) -> None:
    world.label(*range(40))
    world.trial.away, world.models.away, world.announcer.away = 2, 7, 2
    run = await world.run()
    assert run.state == "promoted"
    assert len(world.announcer.told) == 1
    assert run.gated == run.gate_items == sum(world.models.asked.values())
    assert world.models.most_at_once == 3


async def test_a_model_that_stays_away_fails_the_run_and_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contest, "PATIENCE_SECONDS", 0)
    world.label(*range(40))
    world.models.away = 1
    run = await world.run()
    assert (run.state, run.detail) == ("failed", "away")
    asked = len(world.models.questions)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(world.models.questions) == asked
    assert world.announcer.told == []


async def test_a_training_that_fails_says_why_and_is_not_begun_again_by_itself(world: World) -> None:
    world.label(*range(40))
    world.learner.reason = "training ended without an adapter: out of memory"
    run = await world.run()
    assert (run.state, run.detail) == ("failed", world.learner.reason)
    await world.training.start_what_is_due()
    assert len(world.training.runs()) == 1
    world.learner.reason = ""
    assert (await world.run()).state == "promoted"


async def test_a_cancelled_run_ends_its_training_and_stays_cancelled(world: World) -> None:
    world.label(*range(40))
    world.learner.may_end.clear()
    run = await world.training.start(TENANT, TASK)
    await until(lambda: run.progress.step == 1)
    await world.training.cancel(run.run_id)
    assert world.learner.cancelled == [run.run_id]
    assert (run.state, run.detail) == ("cancelled", "cancelled on request")
    assert world.announcer.told == []
    with pytest.raises(FailedPrecondition, match=f"run {run.run_id} has ended: cancelled"):
        await world.training.cancel(run.run_id)
    with pytest.raises(NotFound, match="there is no run 'none'"):
        await world.training.cancel("none")
    world.restart()
    world.training.resume()
    assert [each.state for each in world.training.runs()] == ["cancelled"]
    world.learner.may_end.set()
    assert (await world.run()).state == "promoted", "the machine is free again"


async def test_a_run_is_cancelled_though_its_caller_goes_away(world: World) -> None:
    world.label(*range(40))
    world.learner.may_end.clear()
    run = await world.training.start(TENANT, TASK)
    await until(lambda: run.progress.step == 1)
    call = asyncio.create_task(world.training.cancel(run.run_id))
    await asyncio.sleep(0)
    call.cancel()
    await until(lambda: world.learner.cancelled)
    assert run.state == world.saved(run.run_id).state == "cancelled"


async def test_a_run_that_has_been_judged_cannot_be_cancelled(world: World) -> None:
    world.label(*range(40))
    world.announcer.acknowledges.clear()
    run = await world.training.start(TENANT, TASK)
    await until(lambda: world.announcer.told)
    with pytest.raises(FailedPrecondition, match="has been judged"):
        await world.training.cancel(run.run_id)
    world.announcer.acknowledges.set()
    assert (await world.ended(run.run_id)).state == "promoted"


async def test_a_restart_goes_on_with_an_unfinished_run_and_repeats_no_ended_one(world: World) -> None:
    world.label(*range(40))
    ended = await world.run()
    world.label(*range(40, 80))
    world.learner.may_end.clear()
    broken_off = await world.training.start(TENANT, TASK)
    await until(lambda: broken_off.progress.step == 1)
    await world.training.stop()
    assert world.learner.cancelled == [broken_off.run_id]
    world.learner.may_end.set()
    world.restart()
    world.training.resume()
    assert [run.run_id for run in world.training.runs()] == [ended.run_id, broken_off.run_id]
    assert (await world.ended(broken_off.run_id)).state == "promoted"
    assert world.learner.started == [ended.run_id, broken_off.run_id, broken_off.run_id]
    assert [told.run_id for told in world.announcer.told] == [ended.run_id, broken_off.run_id]


async def test_a_candidate_told_just_before_a_crash_is_told_again_as_it_was(world: World) -> None:
    world.label(*range(40))
    world.announcer.acknowledges.clear()
    run = await world.training.start(TENANT, TASK)
    await until(lambda: world.announcer.told)
    await world.training.stop()
    assert world.saved(run.run_id).state == "gating"
    # Serving has made it live meanwhile: judged once more, it would be held against itself.
    world.go_live(world.announcer.told[0])
    asked = sum(world.models.asked.values())
    world.announcer.acknowledges.set()
    world.restart()
    world.training.resume()
    assert (await world.ended(run.run_id)).state == "promoted"
    assert world.announcer.told[0] == world.announcer.told[1]
    assert sum(world.models.asked.values()) == asked
    assert world.learner.started == [run.run_id]


async def test_calls_before_the_runs_are_known_may_be_tried_again(world: World) -> None:
    world.label(*range(40))
    world.restart()
    with pytest.raises(Retryable, match="starting"):
        await world.training.start(TENANT, TASK)
    with pytest.raises(Retryable, match="starting"):
        world.training.runs()
    world.training.resume()
    assert (await world.run()).state == "promoted"


async def test_a_run_that_cannot_be_read_does_not_keep_the_others(world: World) -> None:
    world.label(*range(40))
    run = await world.run()
    broken = world.artifacts / TENANT / TASK / "runs" / "broken"
    broken.mkdir()
    (broken / "run-state.json").write_text('{"run_id": 7}')
    world.restart()
    world.training.resume()
    assert [each.run_id for each in world.training.runs()] == [run.run_id]


async def test_without_a_bundle_nothing_is_due(world: World) -> None:
    world.knowledge.bundle = None
    assert world.training.label_counts() == []
    with pytest.raises(FailedPrecondition, match="gyre policy push"):
        await world.training.start(TENANT, TASK)
