"""The whole stack of these tests, and the table of how it recovered."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest

from schemas.bundle import Bundle
from tests.chaos.clocks import Clock
from tests.chaos.recovery import RECOVERIES, table
from tests.chaos.traffic import UNCHECKED
from tests.disks import own_disk
from tests.whole_stack import WholeStack, running, small_bundle

DISK_BYTES = 512 << 20


@pytest.fixture(scope="package")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    """The clock of the whole stack."""
    return Clock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(scope="package")
async def gyre(tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> AsyncIterator[WholeStack]:
    """The whole stack on a disk of its own, where that is allowed. It masks a common word in every answer.

    ClickHouse has another: the engine (26.9) may commit a merge that meets a full disk though its files are empty, and
    drops what was merged. What it does on a disk that is full from the beginning is another test's.
    """
    content = small_bundle().model_dump()
    mask = {"detect": ["denied"], "action": "mask", "directions": ["output"], "texts": [UNCHECKED]}
    content["guardrails"]["default"] = [*content["guardrails"]["default"], mask]
    folder = tmp_path_factory.mktemp("whole")
    clickhouse = folder / "clickhouse"
    with own_disk(folder, DISK_BYTES):
        clickhouse.mkdir()
        with own_disk(clickhouse, DISK_BYTES):
            async with running(folder, Bundle.model_validate(content), environment=clock.environment) as whole:
                yield whole
        shutil.copytree(folder / "logs", tmp_path_factory.mktemp("logs"), dirs_exist_ok=True)  # they outlive the disk


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RECOVERIES:
        terminalreporter.section("recoveries")
        terminalreporter.write_line(table(RECOVERIES))
