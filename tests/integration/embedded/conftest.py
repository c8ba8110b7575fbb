import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.settings import PORTS, Settings
from embedded.stack import Stack


def free_ports() -> dict[str, int]:
    with contextlib.ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in PORTS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return {variable: each.getsockname()[1] for variable, each in zip(PORTS, sockets, strict=True)}


@pytest.fixture
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own on free ports; nothing of it runs yet, and nothing of it is left after the test."""
    stack = Stack(Settings(state_dir=Path(tmp_path_factory.mktemp("stack")), ports=free_ports()))
    try:
        yield stack
    finally:
        stack.stop()
