import asyncio

import pytest

from schemas.events import Deployment
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Rejected, Retryable
from services.serving import handlers, placement
from services.serving.domain.deployments import KEPT_PREVIOUS, Placed, Trial
from tests.unit.serving.fakes import KEY, MODEL, TASK, TENANT, World, sample_bundle


@pytest.fixture
def world() -> World:
    return World()


async def test_a_deployment_says_what_the_gate_measured(world: World) -> None:
    (live,) = await world.decide(world.candidate("a"))
    assert (live.gate_items, live.gate_accuracy) == (4, 0.75)
    assert (live.incumbent, live.incumbent_accuracy) == ("small", 0.25)
    assert [answer.right for answer in live.candidate_answers] == [True, True, True, False]
    assert [answer.sum_logprob for answer in live.incumbent_answers] == [-4.0] * 4


async def test_the_bundles_models_are_loaded(world: World) -> None:
    world.publish(sample_bundle(small="base.Q8_0.gguf"))
    await world.serving.reconcile()
    assert world.server.models == {"small": {1}}


async def test_other_weights_of_a_model_are_another_version(world: World) -> None:
    world.repository.weights.add("better.gguf")
    world.publish(sample_bundle(small="base.Q8_0.gguf"))
    await world.serving.reconcile()
    world.publish(sample_bundle(small="better.gguf"))
    await world.serving.reconcile()
    assert world.server.models == {"small": {2}}


async def test_weights_that_are_not_there_keep_no_other_model_from_being_loaded(world: World) -> None:
    world.publish(sample_bundle(large="missing.gguf", small="base.Q8_0.gguf"))
    await world.serving.reconcile()
    assert world.server.models == {"small": {1}}


async def test_a_model_that_left_the_bundle_is_unloaded_and_one_that_others_loaded_is_left_alone(world: World) -> None:
    world.server.models["theirs"] = frozenset({1})
    world.publish(sample_bundle(small="base.Q8_0.gguf"))
    await world.serving.reconcile()
    world.publish(sample_bundle(elsewhere=""))
    await world.serving.reconcile()
    assert world.server.models == {"theirs": {1}}


async def test_nothing_is_unloaded_before_it_is_known_what_is_wanted(world: World) -> None:
    known = asyncio.Event()

    async def state_is_known() -> None:
        await known.wait()

    await world.promote("a")
    world.serving._state_is_known = state_is_known
    reconciling = asyncio.create_task(world.serving.reconcile())
    world.state.deployments.clear()
    await asyncio.sleep(0)
    assert world.loaded == {"a"}
    known.set()
    await reconciling
    assert world.loaded == set()


async def test_a_trial_is_loaded_beside_what_is_live_and_changes_nothing(world: World) -> None:
    await world.promote("a")
    world.candidate("b")
    assert await world.serving.try_out(TENANT, TASK, "b", "b/adapter") == Placed(MODEL, 2)
    assert world.loaded == {"a", "b"}
    assert world.live == "a"
    found = [(type(what), what.candidate_id, complaint) for what, complaint in world.serving.status()]
    assert found == [(Deployment, "a", ""), (Trial, "b", "")]


async def test_a_new_trial_takes_the_place_of_the_one_before(world: World) -> None:
    for candidate_id in ("a", "b"):
        world.candidate(candidate_id)
        await world.serving.try_out(TENANT, TASK, candidate_id, f"{candidate_id}/adapter")
    assert world.loaded == {"b"}


async def test_a_candidate_that_does_not_load_is_rejected_and_leaves_the_live_one_loaded(world: World) -> None:
    await world.promote("a")
    world.server.unloadable.add("b")
    with pytest.raises(Rejected, match=r"candidate b cannot be loaded: .* version 2"):
        await world.serving.decide(world.candidate("b"))
    assert (world.live, world.loaded) == ("a", {"a"})
    assert world.repository.chosen[MODEL] == {1}
    assert [what.candidate_id for what, _ in world.serving.status()] == ["a"]


async def test_a_candidate_that_does_not_answer_is_tried_again(world: World) -> None:
    candidate = world.candidate("a")
    world.server.dead.add(Placed(MODEL, 1))
    world.server.models[MODEL] = frozenset()
    with pytest.raises(Retryable, match="candidate a does not answer"):
        await world.serving.decide(candidate)
    world.server.dead.clear()
    assert len(await world.decide(candidate)) == 1


async def test_while_triton_is_away_decisions_wait(world: World) -> None:
    candidate = world.candidate("a")
    world.server.away = True
    with pytest.raises(Retryable):
        await world.serving.decide(candidate)
    world.server.away = False
    assert len(await world.decide(candidate)) == 1


async def test_a_promoted_candidate_takes_its_terms_along(world: World) -> None:
    candidate = world.candidate("a")
    (deployment,) = await world.decide(candidate)
    assert (deployment.state, deployment.task_key, deployment.candidate_id) == ("live", KEY, "a")
    assert (deployment.model, deployment.model_version) == (MODEL, "1")
    assert (deployment.system_prompt, deployment.sensitivity) == (candidate.system_prompt, candidate.sensitivity)
    assert deployment.reason == "better; no slower"


async def test_the_one_before_stays_loaded_and_older_ones_go(world: World) -> None:
    await world.promote("a", "b", "c")
    assert world.loaded == {"b", "c"}
    assert world.state.deployments[KEY].previous == ("a", "b")


async def test_history_is_bounded(world: World) -> None:
    await world.promote(*(f"c{n}" for n in range(KEPT_PREVIOUS + 3)))
    previous = world.state.deployments[KEY].previous
    assert len(previous) == KEPT_PREVIOUS
    assert previous[-1] == f"c{KEPT_PREVIOUS + 1}"


async def test_a_refused_trial_is_unloaded_and_a_refusal_of_the_live_one_changes_nothing(world: World) -> None:
    await world.promote("a")
    world.candidate("b")
    await world.serving.try_out(TENANT, TASK, "b", "b/adapter")
    assert await world.decide(world.candidate("b", "refuse")) == []
    assert world.loaded == {"a"}
    assert await world.decide(world.candidate("a", "refuse")) == []
    assert (world.live, world.loaded) == ("a", {"a"})


async def test_an_unknown_verdict_is_rejected_by_name(world: World) -> None:
    with pytest.raises(InvalidArgument, match="verdict: 'perhaps'; wanted promote or refuse"):
        await world.serving.decide(world.candidate("a", "perhaps"))


async def test_a_record_that_comes_again_is_not_promoted_again_even_after_a_rollback(world: World) -> None:
    await world.promote("a", "b")
    assert await world.decide(world.candidate("a")) == []
    await world.serving.roll_back(TENANT, TASK, "worse")
    assert await world.decide(world.candidate("b")) == []
    assert world.live == "a"


async def test_a_decision_whose_transaction_was_aborted_is_told_again_as_it_was(world: World) -> None:
    candidate = world.candidate("a")
    first = await world.serving.decide(candidate)
    again = await world.serving.decide(candidate)
    assert first == again != []


async def test_a_decision_waits_until_the_one_before_is_read_back(world: World) -> None:
    (a,) = await world.serving.decide(world.candidate("a"))
    deciding = asyncio.create_task(world.serving.decide(world.candidate("b")))
    rolling_back = asyncio.create_task(world.serving.roll_back(TENANT, TASK, "worse"))
    while not world.serving._deciding.locked():
        await asyncio.sleep(0)
    assert not deciding.done()
    world.state.take_deployment(a.event)  # type: ignore[arg-type] # it is a Deployment
    (b,) = await deciding
    assert b.event.previous == ("a",)  # type: ignore[attr-defined] # it is a Deployment
    assert not rolling_back.done()
    world.state.take_deployment(b.event)  # type: ignore[arg-type] # it is a Deployment
    assert (await rolling_back).candidate_id == "a"


async def test_a_decision_that_never_comes_back_is_not_waited_for_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers, "READ_BACK_SECONDS", 0.01)
    await world.serving.decide(world.candidate("a"))
    with pytest.raises(Retryable, match="has not come back"):
        await world.serving.decide(world.candidate("b"))
    (deployment,) = await world.decide(world.candidate("b"))
    assert deployment.previous == ()


async def test_rollbacks_go_back_one_by_one_to_no_specialist(world: World) -> None:
    await world.promote("a", "b", "c")
    assert (await world.serving.roll_back(TENANT, TASK, "worse")).candidate_id == "b"
    await world.serving.reconcile()
    assert world.loaded == {"a", "b"}
    assert (await world.serving.roll_back(TENANT, TASK, "worse")).candidate_id == "a"
    last = await world.serving.roll_back(TENANT, TASK, "worse", asked_by="ann")
    assert last.asked_by == "ann"
    assert (last.state, last.candidate_id, last.model, last.reason) == ("none", "", "", "worse")
    await world.serving.reconcile()
    assert world.loaded == set()
    with pytest.raises(FailedPrecondition, match="no specialist is live"):
        await world.serving.roll_back(TENANT, TASK, "worse")


async def test_a_rollback_loads_what_it_goes_back_to_before_it_is_told(world: World) -> None:
    await world.promote("a", "b")
    del world.repository.versions[MODEL][1]  # lost
    world.server.models[MODEL] = frozenset({2})
    deployment = await world.serving.roll_back(TENANT, TASK, "worse")
    assert (deployment.candidate_id, deployment.model_version) == ("a", "3")
    assert world.loaded == {"a", "b"}


async def test_a_rollback_passes_over_what_cannot_be_loaded_any_more(world: World) -> None:
    await world.promote("a", "b", "c")
    world.server.models.clear()
    world.server.unloadable.add("b")
    assert (await world.serving.roll_back(TENANT, TASK, "worse")).candidate_id == "a"


async def test_a_rollback_that_kafka_does_not_take_is_not_in_force(world: World) -> None:
    await world.promote("a", "b")
    world.announcer.lost = True
    with pytest.raises(Retryable):
        await world.serving.roll_back(TENANT, TASK, "worse")
    world.announcer.lost = False
    assert world.serving.status()[0][0].candidate_id == "b"
    assert (await world.serving.roll_back(TENANT, TASK, "worse")).candidate_id == "a"


async def test_after_a_restart_the_topics_alone_bring_everything_back(world: World) -> None:
    await world.promote("a", "b")
    world.candidate("c")
    await world.serving.try_out(TENANT, TASK, "c", "c/adapter")
    world.restart()
    await world.serving.reconcile()
    assert world.loaded == {"a", "b"}


async def test_a_lost_repository_is_written_again_under_the_number_that_requests_ask_for(world: World) -> None:
    await world.promote("a", "b")
    world.repository.versions.clear()
    world.server.models.clear()
    world.restart()
    world.candidate("c")
    assert await world.serving.try_out(TENANT, TASK, "c", "c/adapter") == Placed(MODEL, 3)
    assert world.repository.versions[MODEL] == {2: "b", 3: "c"}
    assert world.loaded == {"b", "c"}


async def test_a_restarted_triton_is_given_everything_that_it_takes(world: World) -> None:
    world.publish(sample_bundle(small="base.Q8_0.gguf"))
    await world.promote("a", "b")
    world.server.models.clear()
    world.server.unloadable.add("a")
    await world.serving.reconcile()
    assert world.loaded == {"base.Q8_0.gguf", "b"}


async def test_what_triton_refuses_is_tried_again_after_a_while_and_not_at_every_look(world: World) -> None:
    await world.promote("a")
    world.server.models.clear()
    world.server.unloadable.add("a")
    for _ in range(3):
        await world.serving.reconcile()
    loads = len(world.server.loads)
    await world.serving.reconcile()
    assert len(world.server.loads) == loads
    ((_, complaint),) = world.serving.status()
    assert "cannot be loaded" in complaint
    world.server.unloadable.clear()
    world.seconds += placement.REFUSED_SECONDS
    await world.serving.reconcile()
    assert world.loaded == {"a"}
    assert world.serving.status()[0][1] == ""


async def test_a_version_that_is_loaded_and_answers_nothing_is_loaded_anew(world: World) -> None:
    await world.promote("a")
    world.server.dead.add(Placed(MODEL, 1))
    for _ in range(placement.FAILURES_BEFORE_RELOAD):
        await world.serving.reconcile()
        assert world.serving.status()[0][1] == f"{MODEL} 1 does not answer"
    await world.serving.reconcile()
    assert world.serving.status()[0][1] == ""


async def test_a_deployment_without_its_adapter_is_told_and_keeps_no_other_from_being_served(world: World) -> None:
    world.publish(sample_bundle(small="base.Q8_0.gguf"))
    await world.promote("a")
    world.repository.versions.clear()
    world.server.models.clear()
    world.repository.adapters.clear()
    world.restart()
    await world.serving.reconcile()
    assert world.loaded == {"base.Q8_0.gguf"}
    assert world.serving.status()[0][1] == "adapter_path: there is no PEFT adapter in 'a/adapter'"


async def test_only_what_is_live_and_on_record_is_exported(world: World) -> None:
    with pytest.raises(NotFound, match=f"no specialist is live for {KEY}"):
        await world.serving.export(TENANT, TASK)
    await world.promote("a")
    assert await world.serving.export(TENANT, TASK) == ("exports/a", ["manifest.json"])
    world.state.candidates.clear()
    with pytest.raises(FailedPrecondition, match="candidate a is not kept"):
        await world.serving.export(TENANT, TASK)
    await world.serving.roll_back(TENANT, TASK, "worse")
    with pytest.raises(NotFound):
        await world.serving.export(TENANT, TASK)
