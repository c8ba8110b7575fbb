"""What the router costs: requests/s, added latency and memory with governance, context and the record on.

`python -m benchmarks.router` starts a Kafka of its own, governance, context and the router, all real. The model is a
stand-in that is no model and answers at once, so that only the router's own cost shows. In the same run, the same load
goes to LiteLLM's proxy before that stand-in with nothing switched on (`benchmarks/litellm.yaml`; an environment for it
is installed), to the floor (`benchmarks.router_parts`) and to the stand-in alone.

It needs what `make setup` installs, and the static embeddings under `GYRE_MODELS_DIR` that `gyre up` makes once.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import psutil
import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.router_parts import FLOOR_TOPIC
from embedded.ports import free_ports
from recipes.environment import install
from schemas.bundle import Bundle, load_bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.rpc import wait_serving
from services.runtime.settings import KafkaSettings

KEY = "gyre-demo-key"  # of the sample bundle
QUESTION = "Hello, I ordered a lamp last week and have not heard since; where is it, and can it still go to my office?"
IN_FLIGHT = (1, 16)
PARTS = ("governance", "context", "router")


@dataclass(frozen=True)
class Measured:
    """One load: how many requests a second were answered, and how long each took."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float


async def load(ask: Callable[[], Awaitable[None]], in_flight: int, seconds: float) -> Measured:
    """Keep so many requests in flight for so long."""
    took: list[float] = []
    started = time.perf_counter()
    end = started + seconds

    async def one_after_another() -> None:
        while (begun := time.perf_counter()) < end:
            await ask()
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    rate = len(took) / (time.perf_counter() - started)
    return Measured(rate, statistics.median(took) * 1e3, statistics.quantiles(took, n=100)[-1] * 1e3)


@contextlib.contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[psutil.Process]:
    """Run something until the end of the block."""
    with log.open("w") as file:
        started = subprocess.Popen(  # noqa: S603 - our own commands
            command, env=os.environ | environment, stdout=file, stderr=file
        )
    try:
        yield psutil.Process(started.pid)
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(15)
        except subprocess.TimeoutExpired:
            started.kill()


async def listening(port: int, seconds: float = 60) -> None:
    """Wait until something listens on a port."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def chat(session: aiohttp.ClientSession, port: int) -> Callable[[], Awaitable[None]]:
    """Return what asks one plain chat completion of a port."""
    body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}

    async def ask() -> None:
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {text}")

    return ask


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--profile", default="", help="write a cProfile of the router to this file")
    arguments = parser.parse_args()
    models = Path(os.environ.get("GYRE_MODELS_DIR", "~/.cache/gyre/models")).expanduser()
    if not (models / "token-embeddings").is_dir():
        parser.error(f"{models}/token-embeddings is missing; `python -m embedded.models {models}` makes it")
    litellm = install("litellm").parent / "litellm"
    uvloop.run(run(arguments.seconds, arguments.profile, models, litellm))


async def run(seconds: float, profile: str, models: Path, litellm: Path) -> None:
    """Start everything, measure, print."""
    names = (
        "kafka",
        "controller",
        "stand-in",
        "floor",
        "litellm",
        "http",
        *PARTS,
        *(f"asked {part}" for part in PARTS),
    )
    port = dict(zip(names, free_ports(len(names)), strict=True))
    kafka = KafkaSettings(bootstrap_servers=f"127.0.0.1:{port['kafka']}")
    with tempfile.TemporaryDirectory(prefix="gyre-benchmark-") as folder, contextlib.ExitStack() as stack:
        environment = {
            "GYRE_STATE_DIR": folder,
            "GYRE_EMBEDDED_KAFKA_PORT": str(port["kafka"]),
            "GYRE_EMBEDDED_KAFKA_CONTROLLER_PORT": str(port["controller"]),
            "GYRE_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "LITELLM_MASTER_KEY": KEY,  # it does not start without one
            "STAND_IN_URL": f"http://127.0.0.1:{port['stand-in']}/v1",
            "GYRE_ROUTER_HTTP_PORT": str(port["http"]),
            "GYRE_MODELS_DIR": str(models),
        }
        for part in PARTS:
            environment[f"GYRE_{part.upper()}_GRPC_PORT"] = str(port[part])
            environment[f"GYRE_{part.upper()}_EXCHANGE_PORT"] = str(port[asked[part]])
            environment[f"GYRE_{part.upper()}_TARGET"] = f"127.0.0.1:{port[asked[part]]}"

        def start(name: str, module: str, *more: str) -> psutil.Process:
            log = Path(folder) / f"{name}.log"
            return stack.enter_context(process([sys.executable, "-m", module, *more], environment=environment, log=log))

        start("kafka", "embedded.kafka")
        await listening(port["kafka"])
        await publish(kafka, environment["STAND_IN_URL"])
        start("stand-in", "benchmarks.router_parts", "stand-in", str(port["stand-in"]))
        start("floor", "benchmarks.router_parts", "floor", str(port["floor"]))
        peer = ("--config", "benchmarks/litellm.yaml", "--host", "127.0.0.1", "--port", str(port["litellm"]))
        stack.enter_context(process([str(litellm), *peer], environment=environment, log=Path(folder) / "litellm.log"))
        modules: dict[str, tuple[str, ...]] = {part: (f"services.{part}",) for part in PARTS}
        if profile:
            modules["router"] = ("cProfile", "-o", profile, "-m", "services.router")
        parts = {part: start(part, *module) for part, module in modules.items()}
        try:
            for part in PARTS:
                await wait_serving(f"127.0.0.1:{port[part]}", 90)
            for each in ("stand-in", "floor", "litellm", "http"):
                await listening(port[each])
        except Exception:
            _print_logs(Path(folder))
            raise
        await measure(port, parts, seconds)


def _print_logs(folder: Path) -> None:
    for log in sorted(folder.glob("*.log")):
        print(f"--- {log.name}\n{log.read_text()[-2000:]}", file=sys.stderr)


async def publish(kafka: KafkaSettings, url: str) -> None:
    """Publish the sample bundle with its model at the stand-in, and make the floor's topic."""
    content = load_bundle(Path("deploy/bundle")).model_dump()
    content["upstreams"] = {"stand-in": {"url": url}}
    content["models"]["small"] |= {"upstream": "stand-in", "weights": ""}
    bundle = Bundle.model_validate(content)
    async with Producer(kafka) as producer:
        await producer.send(
            Topic.BUNDLES,
            BundlePublished(version=bundle.version, published_at=datetime.now(UTC), content=bundle.model_dump_json()),
        )
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(FLOOR_TOPIC, kafka.partitions, 1)])
    await admin.close()


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has taken."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(port: dict[str, int], parts: dict[str, psutil.Process], seconds: float) -> None:
    """Put the same load on the router, the floor and the stand-in, and print what came of it."""
    async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:
        targets = {
            "router, everything on": chat(session, port["http"]),
            "LiteLLM's proxy, nothing on": chat(session, port["litellm"]),
            "floor: aiohttp and an acknowledged record": chat(session, port["floor"]),
            "stand-in model alone": chat(session, port["stand-in"]),
        }
        for ask in targets.values():
            await load(ask, 16, 2)  # warm
        before = {name: part.memory_info().rss for name, part in parts.items()}
        measured, cpu = {}, {}
        for in_flight in IN_FLIGHT:
            for name, ask in targets.items():
                begun = {part: cpu_seconds(each) for part, each in parts.items()}
                measured[name, in_flight] = await load(ask, in_flight, seconds)
                cpu[name, in_flight] = {part: cpu_seconds(each) - begun[part] for part, each in parts.items()}
    print(f"{'':44}{'in flight':>10}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for (name, in_flight), each in measured.items():
        print(f"{name:44}{in_flight:>10}{each.requests_per_second:>12,.0f}{each.p50_ms:>9.2f}{each.p99_ms:>9.2f}")
    router, litellm, floor, stand_in = targets
    for in_flight in IN_FLIGHT:
        whole = measured[router, in_flight].p50_ms
        added = whole - measured[stand_in, in_flight].p50_ms
        print(
            f"added latency at {in_flight} in flight: {added:.2f} ms at the median (the stand-in's own taken off), "
            f"{whole / measured[floor, in_flight].p50_ms:.1f} times the floor; LiteLLM's "
            f"{measured[litellm, in_flight].p50_ms - measured[stand_in, in_flight].p50_ms:.2f} ms; requests/s "
            f"{measured[router, in_flight].requests_per_second / measured[litellm, in_flight].requests_per_second:.1f} "
            "times LiteLLM's"
        )
        requests = measured[router, in_flight].requests_per_second * seconds
        taken = ", ".join(f"{part} {each / requests * 1e3:.2f}" for part, each in cpu[router, in_flight].items())
        print(f"processor time a request at {in_flight} in flight, ms: {taken}")
    for name, part in parts.items():
        now = part.memory_info().rss
        print(f"memory of {name}: {now / 2**20:.0f} MiB, {(now - before[name]) / 2**20:+.1f} since the warm-up")


if __name__ == "__main__":
    main()
