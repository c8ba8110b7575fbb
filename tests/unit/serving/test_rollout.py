"""How a specialist goes live, and is taken back by itself."""

import pytest

from schemas.bundle import Rollout
from schemas.events import Deployment
from services.runtime.errors import FailedPrecondition, Retryable
from services.serving.servicer import ServingServicer
from tests.unit.serving.fakes import KEY, MODEL, TASK, TENANT, World, sample_bundle

CANARY = Rollout(canary_share=0.1, canary_requests=200, false_rollbacks=0.02)


@pytest.fixture
def world() -> World:
    return World()


def live(world: World) -> Deployment:
    return world.state.deployments[KEY]


async def state_of(world: World, candidate_id: str) -> str:
    status = await ServingServicer(world.serving).Status(None, None)  # type: ignore[arg-type] # it looks at neither
    return next(each.state for each in status.deployments if each.candidate_id == candidate_id)


async def test_unless_the_bundle_says_otherwise_a_candidate_goes_live_for_all_and_is_watched(world: World) -> None:
    await world.promote("a")
    assert (live(world).share, live(world).false_rollbacks, live(world).before) == (1.0, 0.01, ())
    assert live(world).proven == live(world)


async def test_a_canary_leaves_the_other_callers_to_what_was_live(world: World) -> None:
    await world.promote("a")
    world.publish(sample_bundle(CANARY, elsewhere=""))
    await world.promote("b")
    canary = live(world)
    assert (canary.candidate_id, canary.share, canary.false_rollbacks) == ("b", 0.1, 0.02)
    others = canary.proven
    assert others is not None
    assert (others.candidate_id, others.model, others.model_version, others.share) == ("a", MODEL, "1", 1.0)
    assert world.loaded == {"a", "b"}
    assert await state_of(world, "b") == "canary"


async def test_beside_the_first_canary_of_a_task_no_specialist_is_live(world: World) -> None:
    world.publish(sample_bundle(CANARY, elsewhere=""))
    await world.promote("a")
    assert live(world).proven is None


async def test_a_canary_that_has_passed_answers_all_and_the_record_says_why(world: World) -> None:
    await world.promote("a")
    world.publish(sample_bundle(CANARY, elsewhere=""))
    await world.promote("b")
    await world.serving.widen(live(world), 200)
    widened = live(world)
    assert (widened.candidate_id, widened.share, widened.previous) == ("b", 1.0, ("a",))
    assert widened.false_rollbacks == 0.02
    assert widened.reason == "a canary for 10% of the callers: no worse in 200 answers than what was before"
    assert await state_of(world, "b") == "live"


@pytest.mark.parametrize("canary_share", [0.1, 1.0])
async def test_a_shadow_answers_nobody_then_goes_on_as_the_bundle_says_by_then(
    world: World, canary_share: float
) -> None:
    await world.promote("a")
    rollout = Rollout(shadow_requests=50, canary_share=canary_share, canary_requests=200 if canary_share < 1 else 0)
    world.publish(sample_bundle(rollout, elsewhere=""))
    await world.promote("b")
    shadow = live(world)
    assert (shadow.candidate_id, shadow.share, [each.candidate_id for each in shadow.before]) == ("b", 0.0, ["a"])
    assert shadow.proven is not None
    assert (shadow.proven.candidate_id, shadow.proven.share) == ("a", 1.0)
    assert world.loaded == {"a", "b"}
    assert await state_of(world, "b") == "shadow"
    await world.serving.widen(shadow, 50)
    assert (live(world).share, live(world).candidate_id, live(world).before) == (canary_share, "b", shadow.before)
    assert live(world).reason == "in the shadow: no worse in 50 answers than what was before"


async def test_a_shadow_that_is_taken_back_leaves_what_was_live(world: World) -> None:
    await world.promote("a")
    world.publish(sample_bundle(Rollout(shadow_requests=50), elsewhere=""))
    await world.promote("b")
    back = await world.serving.roll_back(TENANT, TASK, "worse", live(world).deployment_id)
    assert (back.candidate_id, back.share, back.state) == ("a", 1.0, "live")


async def test_a_canary_that_another_replaces_is_nothing_to_go_back_to(world: World) -> None:
    await world.promote("a")
    world.publish(sample_bundle(CANARY, elsewhere=""))
    await world.promote("b", "c")
    assert (live(world).previous, [each.candidate_id for each in live(world).before]) == (("a",), ["a"])
    back = await world.serving.roll_back(TENANT, TASK, "worse")
    assert (back.candidate_id, back.share, back.false_rollbacks) == ("a", 1.0, 0.0)


async def test_what_is_rolled_back_by_itself_is_what_was_found_bad_and_nothing_that_came_since(world: World) -> None:
    await world.promote("a", "b")
    bad = live(world)
    await world.promote("c")
    for act in (
        world.serving.roll_back(TENANT, TASK, "worse", bad.deployment_id),
        world.serving.widen(bad, 200),
    ):
        with pytest.raises(FailedPrecondition, match=f"deployment {bad.deployment_id} is not live any more"):
            await act
    assert live(world).candidate_id == "c"
    back = await world.serving.roll_back(TENANT, TASK, "worse", live(world).deployment_id)
    assert (back.candidate_id, back.reason) == ("b", "worse")


async def test_what_kafka_does_not_take_is_not_in_force_and_is_done_later(world: World) -> None:
    world.publish(sample_bundle(CANARY, elsewhere=""))
    await world.promote("a")
    world.announcer.lost = True
    with pytest.raises(Retryable):
        await world.serving.widen(live(world), 200)
    assert await state_of(world, "a") == "canary"
    world.announcer.lost = False
    await world.serving.widen(live(world), 200)
    assert await state_of(world, "a") == "live"


async def test_a_lost_repository_is_written_again_with_what_a_canary_leaves_callers_to(world: World) -> None:
    await world.promote("a")
    world.publish(sample_bundle(CANARY, elsewhere=""))
    await world.promote("b")
    world.repository.versions.clear()
    world.server.models.clear()
    world.restart()
    await world.serving.reconcile()
    assert world.repository.versions[MODEL] == {1: "a", 2: "b"}
    assert world.loaded == {"a", "b"}
