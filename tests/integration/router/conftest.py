"""What the router's tests with real clients share."""

from collections.abc import AsyncIterator

import pytest

from tests.router_on_fakes import RouterOnFakes, router_on_fakes


@pytest.fixture
async def served() -> AsyncIterator[RouterOnFakes]:
    """A router on fakes, of its own for each test."""
    async with router_on_fakes() as router:
        yield router
