"""What most tests of deploy/kubernetes begin with."""

import pytest

from tests.contract.deploy.rendered import OVERLAYS, Object, everything


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def objects(overlay: str) -> list[Object]:
    return everything(overlay)
