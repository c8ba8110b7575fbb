"""One front for all tests of it."""

from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client

from tests.integration.embedded.clickhouse.front import Front, start


@pytest.fixture(scope="package")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = start(tmp_path_factory.mktemp("front"))
    yield front
    assert front.stop() == 0


@pytest.fixture(scope="package")
def client(front: Front) -> Iterator[Client]:
    with front.client() as client:
        yield client
