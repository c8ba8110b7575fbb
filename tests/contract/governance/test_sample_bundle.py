"""The sample bundle decides what its comments say."""

from pathlib import Path

import pytest

from schemas.bundle import load_bundle
from schemas.events import Sensitivity
from services.governance.handlers import Rules

BUNDLE = load_bundle(Path(__file__).parents[3] / "deploy" / "bundle")


@pytest.mark.parametrize(
    ("level", "models", "policies"),
    [
        (Sensitivity.PUBLIC, ("small", "specialist"), ("same-region",)),
        (Sensitivity.INTERNAL, ("small", "specialist"), ("same-region",)),
        (Sensitivity.CONFIDENTIAL, ("small", "specialist"), ("same-region",)),
        (Sensitivity.RESTRICTED, ("specialist",), ("restricted-stays-with-own-weights",)),
    ],
)
def test_models_are_cleared_at_each_level(
    level: Sensitivity, models: tuple[str, ...], policies: tuple[str, ...]
) -> None:
    clearances = Rules(BUNDLE.version, BUNDLE, space=None).clearances
    clearance, *above = clearances.from_level("concierge", "consumer-services", level)
    assert clearance.sensitivity is level
    assert clearance.models == models
    assert clearance.policies == policies
    assert [each.sensitivity for each in above] == list(Sensitivity)[level.level + 1 :]
