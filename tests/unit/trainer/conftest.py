"""A trainer on fakes of its ports."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.trainer import contest
from tests.unit.trainer.fakes import World


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(contest, "RETRY_SECONDS", 0)
    world = World(tmp_path)
    yield world
    await world.training.stop()
