from datetime import timedelta
from random import Random

import pytest
from msgspec.structs import replace

from schemas.events import Drift
from services.runtime.clock import Clock
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.handlers import Picker
from services.triage.state import FollowedDrift
from tests.unit.triage.builders import NOW, TASK, TENANT, bundle, experience, interaction

LANGUAGE = Drift(
    task_key=f"{TENANT}/{TASK}",
    tenant=TENANT,
    task=TASK,
    model="",
    measure="language",
    aspect="input",
    method="conformal e-detector",
    statistic=2e6,
    threshold=1e6,
    window_start=NOW,
    detected_at=NOW,
)


@pytest.fixture
def drift() -> FollowedDrift:
    return FollowedDrift(hours=24, exploration=0.5)


def test_more_is_picked_at_random_for_a_while_after_a_change(drift: FollowedDrift) -> None:
    assert drift.exploration(TENANT, TASK, NOW) == 0
    drift.apply(LANGUAGE)
    assert drift.exploration(TENANT, TASK, NOW + timedelta(hours=23)) == 0.5
    assert drift.exploration(TENANT, TASK, NOW + timedelta(hours=25)) == 0
    assert drift.exploration(TENANT, "other", NOW) == 0


def test_an_earlier_change_that_is_read_later_shortens_nothing(drift: FollowedDrift) -> None:
    drift.apply(LANGUAGE)
    drift.apply(replace(LANGUAGE, detected_at=NOW - timedelta(hours=20)))
    assert drift.exploration(TENANT, TASK, NOW + timedelta(hours=10)) == 0.5


@pytest.mark.parametrize("changed", [{"aspect": "service"}, {"aspect": "objective"}, {"task": ""}])
def test_what_says_nothing_of_a_task_s_answers_changes_nothing(drift: FollowedDrift, changed: dict[str, str]) -> None:
    drift.apply(replace(LANGUAGE, **changed))
    assert drift.exploration(TENANT, TASK, NOW) == 0


def test_the_share_is_held_and_half_of_it_is_random_with_the_propensity_that_it_had() -> None:
    selector, random, wanted = Selector(), Random(1), bundle(share=0.2)
    picker = Picker(experience(), Clock(now=lambda: NOW, chance=random.random), partitions=1)
    picked, explored, weights = 0, 0, 0.0
    for number in range(3000):
        asked = interaction(str(number), mean_logprob=-random.random())
        considered = picker.consider(asked, b"record", Remembered(partition=0), selector, wanted, drift=0.5)
        assert considered is not None
        assert considered.selector is not None
        selector = considered.selector
        if considered.edge_case is not None:
            picked += 1
            explored += considered.edge_case.explored
            weights += 1 / considered.edge_case.propensity
    assert picked == pytest.approx(600, abs=20)
    assert explored == pytest.approx(300, abs=60)
    assert weights == pytest.approx(3000, rel=0.15)  # Horvitz and Thompson: each picked one stands for so many
