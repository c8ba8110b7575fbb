"""What requests cost each part, and whether several processes answer as many as these costs say.

    python -m benchmarks.capacity [--write gyre/capacity/costs.yaml]

Starts Kafka, ClickHouse, governance, context, audit, triage and the router, all real, before a stand-in for the models
that answers at once, and puts requests of `benchmarks.store_day` on them: plain ones, streams, and plain ones with more
text. From the processor time of the parts that a caller waits for, and from what lies in Kafka and ClickHouse
afterwards, follow the costs that `gyre capacity` plans with; `--write` puts them into its file. A second context and a
second router that nobody asks stand still meanwhile; what they take then to catch up is what each replica takes to
follow the topics. (What audit, ClickHouse and triage take of a record, benchmarks of their own measure.)

Then one, two and four processes of the router, and of governance alone, get all the load that they can take. What they
answer is held beside what `gyre.capacity` says, by costs measured with one process, at less load. The speed of a
processor (`benchmarks.capacity_speed`) and what other programs leave of the machine are measured along, each time, so
that it holds on a busy machine too. It needs what `benchmarks.day` needs, and takes some 6 minutes.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import uvloop

from benchmarks.capacity_costs import TOKEN_BYTES, Costed, Keeping, requests_costs, show, write
from benchmarks.capacity_speed import Speed, measured_speed
from benchmarks.router import Measured, cpu_seconds, listening, load, process
from benchmarks.store_bundle import ANSWERS, WARM_UP, bundle, documents, products
from benchmarks.store_day import APPLICATIONS, Asked, requests_of_day
from benchmarks.store_stack import completion, headers, ingest, publish, until
from embedded.environment import part_environment
from embedded.ports import free_ports, stack_ports
from embedded.settings import HOST, Settings
from embedded.stack import Stack
from gyre.api.governance.v1 import governance_pb2, governance_pb2_grpc
from gyre.capacity.queueing import saturation
from schemas.bundle import Bundle, Limit
from services.runtime.exchange import ExchangeChannel
from services.runtime.rpc import wait_serving
from services.runtime.settings import KafkaSettings

PARTS = ("kafka", "clickhouse", "governance", "context", "audit", "triage", "router")
# They work on what is on the topics, and nobody waits for them.
LATER = ("audit", "triage", "clickhouse")
FOLLOWING = ("following context", "router 2")
START_SECONDS = 900.0  # on a machine that is busy with other things, too
WARM_SECONDS = 40
SETTLED_SECONDS, LOOK_SECONDS, QUIET_CORES = 600.0, 1.5, 0.15
REPLICAS = (1, 2, 4)
# Under way at once: while costs are measured, as `benchmarks.router` does, and the most load that is put on them.
FEW, MANY = 16, 48
LONG_CHARACTERS = 3000
REQUESTS = 4000
Ask = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Snapshot:
    """What had been taken by then: time, processor time by part and of the whole machine, and the speed's counters."""

    at: float
    seconds: dict[str, float]
    machine: float
    speed: tuple[float, float]


class Stage:
    """The parts, by name, and how they are watched."""

    def __init__(self, speed: Speed, parts: Mapping[str, psutil.Process]) -> None:
        self.parts = {**parts, "load": psutil.Process()}
        self._speed = speed

    def now(self) -> Snapshot:
        """Return what has been taken so far."""
        times = psutil.cpu_times()
        # Interrupts serve the parts too, but nobody says which, so they count as not at their disposal.
        machine = times.user + times.system + times.nice + times.irq + times.softirq + times.steal
        seconds = {name: cpu_seconds(each) for name, each in self.parts.items()}
        return Snapshot(time.perf_counter(), seconds, machine, self._speed.now())

    def taken(self, before: Snapshot, after: Snapshot) -> dict[str, float]:
        """Return the processor time of each part between two snapshots."""
        return {name: after.seconds[name] - before.seconds[name] for name in self.parts}

    def processors(self, before: Snapshot, after: Snapshot, among: Sequence[str]) -> float:
        """Return how many processors all others, in or outside of this benchmark, left to these parts."""
        taken = self.taken(before, after)
        others = after.machine - before.machine - sum(taken[name] for name in among)
        return (os.cpu_count() or 1) - others / (after.at - before.at)

    def speed(self, before: Snapshot) -> float:
        """Return how fast a processor has been since."""
        return self._speed.since(before.speed)

    async def settled(self, names: Sequence[str]) -> None:
        """Wait until parts have done what is on the topics."""
        is_quiet = False
        async with asyncio.timeout(SETTLED_SECONDS):
            while not is_quiet:
                before = self.now()
                await asyncio.sleep(LOOK_SECONDS)
                after = self.now()
                busy = self.taken(before, after)
                is_quiet = all(busy[name] < QUIET_CORES * (after.at - before.at) for name in names)

    async def cost(self, ask: Ask, seconds: float) -> Costed:
        """Return the processor time of each part for one request, a few of which are under way at once."""
        before, measured = self.now(), Measured()
        await load(ask, FEW, seconds, measured)
        after, count = self.now(), len(measured.took)
        seconds_each = {name: each / count for name, each in self.taken(before, after).items()}
        return Costed(seconds_each, count, self.speed(before), self.processors(before, after, list(self.parts)))

    @contextlib.contextmanager
    def standing_still(self, names: Sequence[str]) -> Iterator[None]:
        """Let parts do nothing until the end of the block."""
        for name in names:
            self.parts[name].suspend()
        try:
            yield
        finally:
            for name in names:
                self.parts[name].resume()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15, help="of each load")
    parser.add_argument("--write", type=Path, help="put the costs into this file, in place of those that are there")
    arguments = parser.parse_args()
    requests = requests_of_day(REQUESTS, products())
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder, contextlib.ExitStack() as running:
        # For the parts, which inherit them: on a machine that is busy with other things, too, nobody is to give up.
        patience = {"GYRE_ROUTER_GOVERNANCE_SECONDS": "60", "GYRE_ROUTER_CONTEXT_SECONDS": "60"}
        os.environ.update(patience | {"GYRE_TELEMETRY_LOG_LEVEL": "WARNING"})
        os.environ["GYRE_CONTEXT_SNAPSHOT_SECONDS"] = "3600"  # none while it is measured
        stack = Stack(Settings(state_dir=Path(folder), ports=stack_ports()))
        try:
            stack.start(PARTS, timeout_seconds=START_SECONDS)
            speed = running.enter_context(measured_speed())
            uvloop.run(_run(stack, running, speed, requests, arguments.seconds, arguments.write))
        finally:
            running.close()
            stack.stop()


async def _run(
    stack: Stack,
    running: contextlib.ExitStack,
    speed: Speed,
    requests: Sequence[Asked],
    seconds: float,
    to: Path | None,
) -> None:
    settings = stack.settings
    kafka = KafkaSettings(bootstrap_servers=settings.address("GYRE_EMBEDDED_KAFKA_PORT"))
    (stand_in_port,) = free_ports(1)
    command = [sys.executable, "-m", "benchmarks.router_parts", "stand-in", str(stand_in_port), *ANSWERS]
    stand_in = running.enter_context(process(command, {}, settings.logs_dir / "stand-in.log"))
    await publish(kafka, _limited(bundle(stand_in_port)))
    await ingest(settings.address("GYRE_CONTEXT_GRPC_PORT"))
    replicas = _Replicas(settings, running)
    others = range(max(REPLICAS) - 1)
    routers = await asyncio.gather(*(replicas.start("router", "HTTP") for _ in others))
    judges = await asyncio.gather(*(replicas.start("governance", "EXCHANGE") for _ in others))
    follower, _ = await replicas.start("context", "EXCHANGE")
    parts = {each.part.name: psutil.Process(each.pid) for each in stack.status() if each.pid}
    stage = Stage(
        speed,
        {
            **parts,
            "stand-in": stand_in,
            "following context": follower,
            **{f"router {number}": one for number, (one, _) in enumerate(routers, 2)},
            **{f"governance {number}": one for number, (one, _) in enumerate(judges, 2)},
        },
    )
    router_ports = [settings.port("GYRE_ROUTER_HTTP_PORT"), *(port for _, port in routers)]
    judge_ports = [settings.port("GYRE_GOVERNANCE_EXCHANGE_PORT"), *(port for _, port in judges)]
    await listening(stand_in_port)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        plain = [each for each in requests if not APPLICATIONS[each.application].is_streamed]
        streamed = [each for each in requests if APPLICATIONS[each.application].is_streamed]
        ask = _asking(session, plain, router_ports)
        await until(ask, "the router answers")
        print(f"warming up for {WARM_SECONDS} s, load {os.getloadavg()[0]:.1f}", file=sys.stderr)
        await load(ask, MANY, WARM_SECONDS)
        await stage.settled((*LATER, *FOLLOWING))
        first, keeping = router_ports[:1], Keeping(settings, kafka)
        more = documents()["policy"][1][:LONG_CHARACTERS]
        costs, kept = {}, {}
        for kind, asking in (
            ("plain", _asking(session, plain, first)),
            ("streamed", _asking(session, streamed, first)),
            ("long", _asking(session, plain, first, more)),
        ):
            at_first = await keeping.now()
            with stage.standing_still(FOLLOWING if kind == "plain" else ()):
                costs[kind] = await stage.cost(asking, seconds)
                behind = stage.now()
            await stage.settled(FOLLOWING)
            if kind == "plain":
                followed = stage.taken(behind, stage.now())
            await stage.settled(LATER)
            kept[kind] = await keeping.now() - at_first
        characters = sum(len(each.text) for each in plain) / len(plain) + sum(map(len, ANSWERS)) / len(ANSWERS)
        tokens, more_tokens = characters / TOKEN_BYTES, len(more) / TOKEN_BYTES
        found = requests_costs(costs, kept, followed, tokens, more_tokens, parts)
        show(found)
        if to:
            write(to, found)
        with stage.standing_still((*LATER, "following context")):
            print(f"\n{'':12}{'processes':>10}{'said/s':>9}{'measured/s':>12}{'off':>7}  busiest", flush=True)
            await _check_router(stage, session, plain, router_ports, seconds)
            await _check_governance(stage, plain, judge_ports, seconds)


class _Replicas:
    """Starts further processes of services, as the stack starts the first."""

    def __init__(self, settings: Settings, running: contextlib.ExitStack) -> None:
        self._settings = settings
        self._running = running
        self._numbers = itertools.count(2)

    async def start(self, name: str, asked: str) -> tuple[psutil.Process, int]:
        """Start one and wait until it serves; return it and its port of that kind."""
        kinds = ("GRPC", "METRICS", asked)
        ports = dict(zip(kinds, free_ports(len(kinds)), strict=True))
        number = next(self._numbers)
        environment = part_environment(self._settings, name) | {
            f"GYRE_{name.upper()}_{kind}_PORT": str(port) for kind, port in ports.items()
        }
        environment["GYRE_CONTEXT_SNAPSHOT_DIR"] = str(self._settings.state_dir / f"context-{number}")
        log = self._settings.logs_dir / f"{name}-{number}.log"
        one = self._running.enter_context(process([sys.executable, "-m", f"services.{name}"], environment, log))
        await wait_serving(f"{HOST}:{ports['GRPC']}", 90)
        return one, ports[asked]


def _limited(content: Bundle) -> Bundle:
    """Return the bundle with a limit that nobody reaches, so that what limits cost is in the figures."""
    limit = Limit(of="requests", per="day", at_most=1e12)
    applications = {
        name: each if name == WARM_UP else each.model_copy(update={"limits": (limit,)})
        for name, each in content.applications.items()
    }
    return content.model_copy(update={"applications": applications})


def _asking(session: aiohttp.ClientSession, requests: Sequence[Asked], ports: Sequence[int], more: str = "") -> Ask:
    """Return what asks the next of the requests of the next of the ports."""
    bodies: list[tuple[dict[str, Any], dict[str, str]]] = []
    for asked in requests:
        body = completion(asked)
        body["messages"][0]["content"] += more and f"\n\n{more}"
        bodies.append((body, headers(asked.application)))
    turns = zip(itertools.cycle(bodies), itertools.cycle(ports), strict=False)

    async def ask() -> None:
        (body, shown), port = next(turns)
        url = f"http://{HOST}:{port}/v1/chat/completions"
        async with session.post(url, json=body, headers=shown) as answer:
            text = await answer.text()
            if answer.status not in (200, 403):  # of the requests, a few try to take the model over
                raise RuntimeError(f"{answer.status}: {text}")

    return ask


async def _check_router(
    stage: Stage, session: aiohttp.ClientSession, requests: Sequence[Asked], ports: Sequence[int], seconds: float
) -> None:
    def asking(count: int) -> Ask:
        return _asking(session, requests, ports[:count])

    await _check(stage, "router", asking, ("governance", "context", "stand-in", "load"), ("kafka",), seconds)


async def _check_governance(stage: Stage, requests: Sequence[Asked], ports: Sequence[int], seconds: float) -> None:
    async with contextlib.AsyncExitStack() as open_:
        channels = [await open_.enter_async_context(ExchangeChannel(f"{HOST}:{port}")) for port in ports]
        stubs = [channel.stub(governance_pb2_grpc.GovernanceStub) for channel in channels]
        more = documents()["policy"][1][:1000]  # so that it is governance that is measured, and not who asks
        questions = [
            governance_pb2.CheckInputRequest(
                application=each.application, task=each.task, texts=[f"{each.text}\n\n{more}"]
            )
            for each in requests
        ]

        def asking(count: int) -> Ask:
            turns = zip(itertools.cycle(questions), itertools.cycle(stubs[:count]), strict=False)

            async def ask() -> None:
                question, stub = next(turns)
                await stub.CheckInput(question, timeout=30)

            return ask

        await _check(stage, "governance", asking, ("load",), (), seconds)


async def _check(
    stage: Stage,
    service: str,
    asking: Callable[[int], Ask],
    singles: Sequence[str],
    threaded: Sequence[str],
    seconds: float,
) -> None:
    """Print what so many processes answer beside what is said of them.

    Args:
        stage: Has the parts.
        service: Of which there are several processes.
        asking: Returns what asks so many of them.
        singles: Other parts, of one process that takes one processor at most.
        threaded: Other parts, that may take more.
        seconds: Of each load.
    """
    replicas = [service, *(f"{service} {number}" for number in range(2, max(REPLICAS) + 1))]
    among = (*replicas, *singles, *threaded)
    few = await stage.cost(asking(1), seconds)
    for count in REPLICAS:
        ask = asking(count)
        await load(ask, MANY, 1)
        before, measured = stage.now(), Measured()
        await load(ask, MANY, seconds / 2, measured)
        after = stage.now()
        speed, processors = stage.speed(before) / few.speed, stage.processors(before, after, among)
        said, busiest = saturation(
            {name: few.seconds[name] / speed for name in (service, *singles, *threaded)},
            {service: count, **dict.fromkeys(singles, 1)},
            processors,
        )
        off = measured.requests_per_second / said - 1
        print(
            f"{service:12}{count:>10}{said:>9,.0f}{measured.requests_per_second:>12,.0f}{off:>+7.0%}  {busiest}; "
            f"{processors:.2f} processors were left, {speed:.2f} times as fast as for the costs",
            flush=True,
        )


if __name__ == "__main__":
    main()
