"""The parts of the embedded stack: how each is started, when it is ready, what it waits for, how it is stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from embedded import probes
from embedded.errors import SettingsError
from embedded.settings import HOST, PORTS, SERVICES, Settings

INFRASTRUCTURE = ("kafka", "clickhouse", "triton")
PARTS = (*INFRASTRUCTURE, *SERVICES)
"""Every part, in an order in which they can be started one by one."""

# The router answers nobody before those that it asks can answer it.
_ROUTER_ASKS = ("governance", "context", "serving")


@dataclass(frozen=True)
class Part:
    """One supervised process.

    Attributes:
        name: Short, and the name of its log.
        what: What it is, in a few words.
        module: Started as `python -m <module>`.
        address: What a person would call it by: a URL where a browser or curl can, else `host:port`.
        port: The one that `ready` asks.
        ready: Asks once whether what listens there is ready.
        after: Parts that must be ready before this one is started, and that are stopped after it.
        stop_seconds: How long it may drain before it is killed.
    """

    name: str
    what: str
    module: str
    address: str
    port: int
    ready: Callable[[], bool]
    after: tuple[str, ...] = ()
    stop_seconds: int = 20


def all_parts(settings: Settings) -> dict[str, Part]:
    """Return every part by name, in the order of `PARTS`."""
    kafka, clickhouse, triton = (
        settings.port(f"GYRE_EMBEDDED_{which}_PORT") for which in ("KAFKA", "CLICKHOUSE", "TRITON_HTTP")
    )
    infrastructure = [
        Part(
            name="kafka",
            what="Apache Kafka",
            module="embedded.kafka",
            address=f"{HOST}:{kafka}",
            port=kafka,
            ready=partial(probes.kafka_has_broker, kafka),
            stop_seconds=30,
        ),
        Part(
            name="clickhouse",
            what="ClickHouse (chDB)",
            module="embedded.clickhouse",
            address=f"http://{HOST}:{clickhouse}",
            port=clickhouse,
            ready=partial(probes.http_ok, clickhouse, "/ping"),
            stop_seconds=30,
        ),
        Part(
            name="triton",
            what="Triton Inference Server",
            module="embedded.triton",
            address=settings.address("GYRE_EMBEDDED_TRITON_GRPC_PORT"),
            port=triton,
            ready=partial(probes.http_ok, triton, "/v2/health/ready"),
        ),
    ]
    return {part.name: part for part in (*infrastructure, *(_service(settings, name) for name in SERVICES))}


def _service(settings: Settings, name: str) -> Part:
    what, address = {
        "governance": ("may this text pass?", None),
        "context": ("what should the model know?", None),
        "audit": ("the record", None),
        "triage": ("what experts should see", f"http://{settings.address('GYRE_TRIAGE_CONSOLE_PORT')}"),
        "trainer": ("learns from experts", None),
        "serving": ("what is live in Triton", None),
        "router": ("which model answers", f"http://{settings.address('GYRE_ROUTER_HTTP_PORT')}"),
    }[name]
    grpc_port = settings.port(f"GYRE_{name.upper()}_GRPC_PORT")
    return Part(
        name=name,
        what=what,
        module=f"services.{name}",
        address=address or f"{HOST}:{grpc_port}",
        port=grpc_port,
        ready=partial(probes.grpc_serving, grpc_port),
        after=(*INFRASTRUCTURE, *(_ROUTER_ASKS if name == "router" else ())),
    )


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """Return part names in starting order.

    Raises:
        SettingsError: A name is not that of a part.
    """
    wanted = set(names)
    if unknown := wanted - set(PARTS):
        raise SettingsError(f"There is no part {min(unknown)!r}; the parts are {', '.join(PARTS)}.")
    return tuple(name for name in PARTS if name in wanted)


def ports_of(name: str) -> list[str]:
    """Return the variables of the ports that a part listens on."""
    return [variable for variable, port in PORTS.items() if port.part == name]


def command(part: Part) -> list[str]:
    """Return the command line that starts a part."""
    return [sys.executable, "-m", part.module]
