import asyncio
from collections.abc import Callable

import uvloop


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """What all services stand on is tested on the event loop that they run on."""
    return {"uvloop": uvloop.new_event_loop}
