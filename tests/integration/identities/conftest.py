from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from gyre.cli import main
from tests.integration.identities.broker import ADMIN, Broker, broker_with_identities


@pytest.fixture(scope="package")
def bare_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that allows nobody anything yet."""
    with broker_with_identities(tmp_path_factory.mktemp("identities")) as broker:
        yield broker


@pytest.fixture(scope="package")
def broker(bare_broker: Broker) -> Broker:
    """A broker that allows each identity its work, with every topic there."""
    for command, identity in ((["kafka", "acls", "--apply"], ADMIN), (["kafka", "topics"], "operator")):
        result = CliRunner().invoke(main, command, env=bare_broker.environment(identity))
        assert result.exit_code == 0, result.output
    return bare_broker
