"""What a check costs: `python -m benchmarks.governance BUNDLE_DIR`.

Prints the median time of CheckInput for 1,000 characters, as a call of the handler on one core and as a gRPC round trip
over loopback with one call in flight. Times on the processor are given beside those of the clock, which other work on
the machine lengthens.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path

from embedded.ports import free_ports
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from schemas.bundle import load_bundle
from schemas.events import BundlePublished
from services.governance import handlers
from services.governance.servicer import GovernanceServicer
from services.governance.state import RulesInForce
from services.runtime import rpc
from services.runtime.clock import Clock
from services.runtime.embeddings import Space
from services.runtime.errors import Fatal
from services.runtime.settings import ServiceSettings

CALLS = 1000
PROSE = "Could you find me a table for four in a quiet place near the old harbour on Friday evening? "
PERSONAL = "Write to jo@example.com or call +1 415 555 2671; the card is 4111 1111 1111 1111, thanks. "
TEXTS = {
    "nothing in it": (PROSE * 20)[:1000],
    "one of each at its end": (PROSE * 20)[: 1000 - len(PERSONAL)] + PERSONAL,
    "accents and emoji": (PROSE * 20)[:996] + "é😀ß…",
}


def _no_space() -> Space:
    raise Fatal("topics are measured by benchmarks.classifiers")


async def measure(bundle_folder: Path) -> None:
    """Check, print."""
    bundle, clock, in_force = load_bundle(bundle_folder), Clock(), RulesInForce(_no_space)
    in_force.take(BundlePublished(version=bundle.version, published_at=clock.now(), content=bundle.model_dump_json()))
    application = next(iter(bundle.applications))
    task = bundle.applications[application].tasks[0]
    for name, text in TEXTS.items():
        wall, processor = [], []
        for _ in range(CALLS):
            started, busy = time.perf_counter(), time.process_time()
            handlers.check_input(in_force.now(), application, task, [text], [], clock)
            wall.append(time.perf_counter() - started)
            processor.append(time.process_time() - busy)
        _show(f"handler, {name}", wall, processor)
    (port,) = free_ports(1)
    server = rpc.Server(
        ServiceSettings(grpc_port=port, drain_seconds=0),
        [
            rpc.Registration(
                governance_pb2_grpc.add_GovernanceServicer_to_server,
                GovernanceServicer(in_force, clock),
                "gyre.api.governance.v1.Governance",
            )
        ],
    )
    await server.start()
    async with rpc.channel(f"127.0.0.1:{port}") as channel:
        stub = governance_pb2_grpc.GovernanceStub(channel)
        for name, text in TEXTS.items():
            request = governance_pb2.CheckInputRequest(application=application, task=task, texts=[text])
            wall, processor = [], []
            for _ in range(CALLS):
                started, busy = time.perf_counter(), time.process_time()
                await stub.CheckInput(request, timeout=5)
                wall.append(time.perf_counter() - started)
                processor.append(time.process_time() - busy)
            _show(f"gRPC, {name}", wall, processor)
    await server.stop()


def _show(what: str, wall: list[float], processor: list[float]) -> None:
    print(
        f"{what}: p50 {statistics.median(wall) * 1e6:.0f} us "
        f"({statistics.median(processor) * 1e6:.0f} us on the processor)"
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.governance BUNDLE_DIR")
    asyncio.run(measure(Path(sys.argv[1])))
