"""A specialist that nobody asks is unloaded, and comes back when somebody does."""

from datetime import timedelta

import pytest

from schemas.events import Attempt, Interaction, Message, Sensitivity
from services.serving.idleness import Idleness
from services.serving.servicer import ServingServicer
from services.serving.state import WATCHED
from tests.unit.serving.fakes import IDLE_HOURS, KEY, MODEL, NOW, TASK, TENANT, World

HOUR = 3600.0
WATCHED_HOURS = WATCHED / timedelta(hours=1)


@pytest.fixture
def world() -> World:
    return World()


def asked(world: World, tier: str = "specialist", outcome: str = "failed") -> Interaction:
    """A request of now, and who was asked first."""
    return Interaction(
        request_id="r",
        phase="finished",
        tenant=TENANT,
        application="web",
        task=TASK,
        received_at=world.now(),
        finished_at=world.now(),
        messages=(Message(role="user", content="Where?"),),
        attempts=(Attempt(model=MODEL, tier=tier, outcome=outcome, start_us=0, duration_us=1),),
        bundle_version="b1",
        sensitivity=Sensitivity.INTERNAL,
    )


async def passes(world: World, hours: float) -> None:
    world.seconds += hours * HOUR
    await world.serving.reconcile()


async def states(world: World) -> dict[str, tuple[str, bool]]:
    status = await ServingServicer(world.serving).Status(None, None)  # type: ignore[arg-type] # it looks at neither
    return {each.candidate_id: (each.state, each.healthy) for each in status.deployments}


async def test_it_is_unloaded_once_nobody_has_asked_it_for_so_long(world: World) -> None:
    await world.promote("a")
    await passes(world, WATCHED_HOURS + IDLE_HOURS - 1)
    assert world.loaded == {"a"}
    await passes(world, 1)
    assert world.loaded == set()
    assert await states(world) == {"a": ("idle", True)}
    assert world.live == "a"


@pytest.mark.parametrize("outcome", ["failed", "skipped", "answered"])
async def test_a_request_that_would_have_been_its_own_loads_it_again(world: World, outcome: str) -> None:
    await world.promote("a")
    await passes(world, WATCHED_HOURS + IDLE_HOURS)
    world.idleness.take_interaction(asked(world, outcome=outcome))
    await world.serving.reconcile()
    assert world.loaded == {"a"}
    assert await states(world) == {"a": ("live", True)}


async def test_requests_that_others_are_asked_keep_nothing_loaded(world: World) -> None:
    await world.promote("a")
    await passes(world, WATCHED_HOURS + IDLE_HOURS - 1)
    world.idleness.take_interaction(asked(world, tier="small"))
    await passes(world, 1)
    assert world.loaded == set()


async def test_with_it_goes_what_a_rollback_would_go_back_to(world: World) -> None:
    await world.promote("a", "b")
    await passes(world, WATCHED_HOURS + IDLE_HOURS)
    assert world.loaded == set()
    await world.serving.roll_back(TENANT, TASK, "worse")
    assert world.live == "a"
    await world.serving.reconcile()
    assert world.loaded == {"a"}


async def test_a_trial_loads_what_it_is_compared_with(world: World) -> None:
    await world.promote("a")
    await passes(world, WATCHED_HOURS + IDLE_HOURS)
    world.candidate("b")
    await world.serving.try_out(TENANT, TASK, "b", "b/adapter")
    assert world.loaded == {"a", "b"}


async def test_a_new_process_does_not_know_who_was_asked_before_it_and_waits(world: World) -> None:
    await world.promote("a")
    await passes(world, WATCHED_HOURS + IDLE_HOURS - 1)
    world.restart()
    await passes(world, IDLE_HOURS - 1)
    assert world.loaded == {"a"}
    await passes(world, 1)
    assert world.loaded == set()


async def test_by_itself_nothing_is_ever_idle(world: World) -> None:
    await world.promote("a")
    world.seconds = 10_000 * HOUR
    assert not Idleness(0.0, lambda: NOW).is_idle(world.state.deployments[KEY])
