from datetime import timedelta

import pytest
from msgspec.structs import replace

from schemas.events import Deployment, Drift
from services.runtime import telemetry
from tests.unit.serving.fakes import TASK, TENANT, World


def drift(of: Deployment, hours: float, **changed: str) -> Drift:
    at = of.deployed_at + timedelta(hours=hours)
    made = Drift(
        task_key=of.task_key,
        tenant=of.tenant,
        task=of.task,
        model=of.model,
        model_version=of.model_version,
        measure="confidence",
        aspect="output",
        method="conformal e-detector",
        statistic=2e6,
        threshold=1e6,
        window_start=at,
        detected_at=at,
    )
    return replace(made, **changed)


async def counted(world: World, *drifts: Drift) -> float:
    for each in drifts:
        world.state.take_drift(each)
    await world.serving.reconcile()
    (deployment,) = world.state.deployments.values()
    gauge = telemetry.DEPLOYMENT_DRIFTS.labels(TENANT, TASK, deployment.candidate_id)
    return float(gauge._value.get())


@pytest.fixture
async def live() -> tuple[World, Deployment]:
    world = World()
    (deployment,) = await world.decide(world.candidate("a"))
    return world, deployment


async def test_what_changed_soon_after_it_went_live_counts_against_a_specialist_once(
    live: tuple[World, Deployment],
) -> None:
    world, deployment = live
    assert await counted(world) == 0
    latency = drift(deployment, 3, measure="latency", aspect="service")
    assert await counted(world, drift(deployment, 1), drift(deployment, 2), latency) == 2
    assert world.state.deployments[deployment.task_key] == deployment, "nothing is rolled back for it"


async def test_a_change_long_after_does_not_take_the_place_of_one_soon_after(live: tuple[World, Deployment]) -> None:
    world, deployment = live
    assert await counted(world, drift(deployment, 1), drift(deployment, 30)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"aspect": "input", "measure": "language"},
        {"model_version": "9"},
        {"model": ""},
        {"task_key": f"{TENANT}/another", "task": "another"},
    ],
)
async def test_what_is_asked_and_what_others_answer_do_not_count(
    live: tuple[World, Deployment], changed: dict[str, str]
) -> None:
    world, deployment = live
    assert await counted(world, drift(deployment, 1, **changed)) == 0


@pytest.mark.parametrize("hours", [-1, 30])
async def test_what_changed_before_or_long_after_does_not_count(live: tuple[World, Deployment], hours: float) -> None:
    world, deployment = live
    assert await counted(world, drift(deployment, hours)) == 0
