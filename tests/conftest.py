"""What every test may rely on.

The real parts (Kafka, the ClickHouse engine, Triton, the models that come in packages) are started once a run, when the
first test asks for them.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import hypothesis
import pytest
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.models import prepare_models
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from services.runtime.settings import ClickHouseSettings

# What takes long on a machine that is busy is no failure.
hypothesis.settings.register_profile("gyre", deadline=None)
hypothesis.settings.load_profile("gyre")


@pytest.fixture(autouse=True)
def _no_sockets_in_unit_tests(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that reaches for the network fails instead of depending on what it finds there."""
    if "unit" not in request.path.relative_to(request.config.rootpath).parts:
        return

    def refuse(self: Any, address: Any) -> None:
        raise AssertionError(f"a unit test tried to connect to {address}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    # gRPC's core has sockets of its own.
    for module in (grpc, grpc.aio):
        for name in ("insecure_channel", "secure_channel"):
            monkeypatch.setattr(module, name, lambda target, *args, **kwargs: refuse(None, target))


@contextmanager
def broker(state_dir: Path) -> Iterator[str]:
    """A Kafka for those who must not read what other tests have written; yields its address."""
    stack = Stack(Settings(state_dir=state_dir, ports=stack_ports()))
    stack.start(("kafka",))
    yield stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT")
    stack.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The embedded stack on free ports with a state folder of its own; tests start the parts that they need."""
    stack = Stack(Settings(state_dir=tmp_path_factory.mktemp("state"), ports=stack_ports()))
    yield stack
    stack.stop()


@pytest.fixture(scope="session")
def kafka(stack: Stack) -> str:
    """Bootstrap servers of a real broker."""
    stack.start(("kafka",))
    return stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT")


@pytest.fixture(scope="session")
def clickhouse(stack: Stack) -> ClickHouseSettings:
    """A real ClickHouse engine, with the user that audit writes as."""
    stack.start(("clickhouse",))
    return ClickHouseSettings(
        url=f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
        user="audit",
        password=SecretStr(clickhouse_password(stack.settings, "audit")),
    )


@pytest.fixture(scope="session")
def triton(stack: Stack) -> tuple[str, Path]:
    """A real Triton: its gRPC address and its model repository."""
    stack.start(("triton",))
    return stack.settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT"), stack.settings.triton_repository


@pytest.fixture(scope="session")
def models(stack: Stack) -> Path:
    """The folder with the base model and the static embeddings."""
    prepare_models(stack.settings.models_dir, lambda line: None)
    return stack.settings.models_dir
