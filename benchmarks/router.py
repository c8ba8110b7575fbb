"""What the router costs: requests/s, added latency and memory with governance, context and the record on.

`python -m benchmarks.router` starts a Kafka of its own, governance, context and the router, all real. The model is a
stand-in that is no model and answers at once, so that only the router's own cost shows. In the same run, the same load
goes to peers before that stand-in with nothing switched on (LiteLLM's proxy by `benchmarks/litellm.yaml`, and Portkey's
gateway where Node is; both are installed), to the floor (`benchmarks.router_parts`) and to the stand-in alone.
`--flame FILE` also draws where the router's time goes, `--endurance N` how its memory does over so many requests.

It needs what `make setup` installs, and the static embeddings under `GYRE_MODELS_DIR` that `gyre up` makes once.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import psutil
import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from benchmarks.router_parts import FLOOR_TOPIC
from embedded.ports import free_ports
from recipes.environment import PLACE, install
from schemas.bundle import Bundle, load_bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.runtime.kafka import Producer
from services.runtime.rpc import wait_serving
from services.runtime.settings import KafkaSettings

KEY = "gyre-demo-key"  # of the sample bundle
QUESTION = "Hello, I ordered a lamp last week and have not heard since; where is it, and can it still go to my office?"
IN_FLIGHT = (1, 16, 64)
# Kafka's JVM compiles what it runs often, for a minute; until it has, a record costs several times what it does then.
WARM_SECONDS = 45
FLAME_SECONDS = 20
ROUNDS = 5
PARTS = ("governance", "context", "router")


@dataclass
class Measured:
    """The times that requests took, in s, over so many seconds of load."""

    took: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def requests_per_second(self) -> float:
        """How many were answered."""
        return len(self.took) / self.seconds

    def quantile_ms(self, percent: int) -> float:
        """Return the time that so many of a hundred took at most."""
        return statistics.quantiles(self.took, n=100)[percent - 1] * 1e3


async def load(
    ask: Callable[[], Awaitable[None]], in_flight: int, seconds: float, measured: Measured | None = None
) -> None:
    """Keep so many requests in flight for so long, and add what is measured."""
    took: list[float] = []
    started = time.perf_counter()
    end = started + seconds

    async def one_after_another() -> None:
        while (begun := time.perf_counter()) < end:
            await ask()
            took.append(time.perf_counter() - begun)

    await asyncio.gather(*(one_after_another() for _ in range(in_flight)))
    if measured is not None:
        measured.took += took
        measured.seconds += time.perf_counter() - started


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


def portkey() -> list[str]:
    """Install Portkey's gateway as `requirements/portkey` pins it, and return how it starts; nothing without Node."""
    if shutil.which("npm") is None:
        return []
    folder = PLACE / ".venv-portkey"
    print(f"Installing {folder.name}", file=sys.stderr)
    shutil.copytree(PLACE / "requirements" / "portkey", folder, dirs_exist_ok=True)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    subprocess.run(command, cwd=folder, check=True)  # noqa: S603 - our own
    return ["node", str(folder / "node_modules/@portkey-ai/gateway/build/start-server.js"), "--headless"]


def chat(
    session: aiohttp.ClientSession, port: int, headers: Mapping[str, str] | None = None
) -> Callable[[], Awaitable[None]]:
    """Return what asks one plain chat completion of a port."""
    body = {"model": "auto", "messages": [{"role": "user", "content": QUESTION}]}

    async def ask() -> None:
        async with session.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {text}")

    return ask


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="of each load")
    parser.add_argument("--flame", default="", help="write a flame graph of the router (SVG) to this file")
    parser.add_argument("--endurance", type=int, default=0, help="requests over which memory is watched")
    arguments = parser.parse_args()
    models = Path(os.environ.get("GYRE_MODELS_DIR", "~/.cache/gyre/models")).expanduser()
    if not (models / "token-embeddings").is_dir():
        parser.error(f"{models}/token-embeddings is missing; `python -m embedded.models {models}` makes it")
    peers = {"LiteLLM's proxy": [str(install("litellm").parent / "litellm")], "Portkey's gateway": portkey()}
    uvloop.run(run(arguments, models, peers))


async def run(arguments: argparse.Namespace, models: Path, peers: Mapping[str, list[str]]) -> None:
    """Start everything, measure, print."""
    asked = {part: f"{part}'s other" for part in PARTS}
    names = ("kafka", "controller", "stand-in", "floor", "litellm", "portkey", "http", *PARTS, *asked.values())
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
        options = {
            "LiteLLM's proxy": [
                "--config",
                "benchmarks/litellm.yaml",
                "--host",
                "127.0.0.1",
                "--port",
                str(port["litellm"]),
            ],
            "Portkey's gateway": [f"--port={port['portkey']}"],
        }
        for name, command in peers.items():
            if command:
                log = Path(folder) / f"{name}.log"
                stack.enter_context(process([*command, *options[name]], environment=environment, log=log))
        parts = {part: start(part, f"services.{part}") for part in PARTS}
        try:
            for part in PARTS:
                await wait_serving(f"127.0.0.1:{port[part]}", 90)
            for each in ("stand-in", "floor", "litellm", "http", *(["portkey"] if peers["Portkey's gateway"] else [])):
                await listening(port[each])
        except Exception:
            _print_logs(Path(folder))
            raise
        async with aiohttp.ClientSession(headers={"authorization": f"Bearer {KEY}"}) as session:
            router = chat(session, port["http"])
            beside = {"LiteLLM's proxy": chat(session, port["litellm"])}
            if peers["Portkey's gateway"]:
                to = {"x-portkey-provider": "openai", "x-portkey-custom-host": environment["STAND_IN_URL"]}
                beside["Portkey's gateway"] = chat(session, port["portkey"], to)
            floor, stand_in = chat(session, port["floor"]), chat(session, port["stand-in"])
            await compare(router, beside, floor, stand_in, parts, arguments.seconds)
            if arguments.flame:
                await draw(router, parts["router"].pid, arguments.flame)
            if arguments.endurance:
                await endure(router, parts, arguments.endurance)


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


async def compare(
    router: Callable[[], Awaitable[None]],
    peers: Mapping[str, Callable[[], Awaitable[None]]],
    floor: Callable[[], Awaitable[None]],
    stand_in: Callable[[], Awaitable[None]],
    parts: Mapping[str, psutil.Process],
    seconds: float,
) -> None:
    """Put the same load on the router, its peers, the floor and the stand-in, and print what came of it."""
    print(f"warming up for some {WARM_SECONDS + 2 * (2 + len(peers))} s", file=sys.stderr)
    await load(router, 16, WARM_SECONDS)
    targets = {"router": router, **peers, "floor": floor, "stand-in": stand_in}
    for ask in targets.values():
        await load(ask, 16, 2)
    measured = {(name, in_flight): Measured() for in_flight in IN_FLIGHT for name in targets}
    taken: dict[tuple[str, int], float] = defaultdict(float)
    # In turns, for the machine is not as fast one minute as the next.
    for in_flight in IN_FLIGHT:
        for name, ask in ROUNDS * list(targets.items()):
            begun = {part: cpu_seconds(each) for part, each in parts.items()}
            await load(ask, in_flight, seconds / ROUNDS, measured[name, in_flight])
            for part, each in parts.items():
                taken[part, in_flight] += (cpu_seconds(each) - begun[part]) if name == "router" else 0.0
    print(f"{'':24}{'in flight':>10}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for (name, in_flight), one in measured.items():
        quantiles = f"{one.quantile_ms(50):>9.2f}{one.quantile_ms(99):>9.2f}"
        print(f"{name:24}{in_flight:>10}{one.requests_per_second:>12,.0f}{quantiles}")
    for in_flight in IN_FLIGHT:
        own, alone = measured["router", in_flight], measured["stand-in", in_flight].quantile_ms(50)
        each_ms = ", ".join(f"{part} {taken[part, in_flight] / len(own.took) * 1e3:.2f}" for part in parts)
        print(f"{in_flight} in flight: processor time a request, ms: {each_ms}")
        for peer in peers:
            other = measured[peer, in_flight]
            times = own.requests_per_second / other.requests_per_second
            added_ms, by_it_ms = own.quantile_ms(50) - alone, other.quantile_ms(50) - alone
            print(
                f"    {times:.2f} times the requests/s of {peer}; latency added to the stand-in's median "
                f"{added_ms:.2f} ms, by it {by_it_ms:.2f} ms"
            )


async def draw(router: Callable[[], Awaitable[None]], pid: int, file: str) -> None:
    """Draw where a process's time goes while the router has 16 requests in flight."""
    # Relative, for the picture's title is the command.
    py_spy = await asyncio.to_thread(lambda: os.path.relpath(install("profiler").parent / "py-spy"))
    command = ["record", "--pid", str(pid), "--rate", "200", "--duration", str(FLAME_SECONDS), "--output", file]
    drawing = await asyncio.create_subprocess_exec(py_spy, *command, stderr=subprocess.DEVNULL)
    await load(router, 16, FLAME_SECONDS + 1)
    if await drawing.wait():
        raise RuntimeError("py-spy drew nothing; it needs root, or a kernel that lets it look at other processes")


async def endure(router: Callable[[], Awaitable[None]], parts: Mapping[str, psutil.Process], requests: int) -> None:
    """Print the memory of each part at every tenth of so many requests, 16 in flight."""
    left = requests
    print(f"{'requests':>10}" + "".join(f"{part + ' MiB':>16}" for part in parts))

    async def one_after_another(until: int) -> None:
        nonlocal left
        while left > until:
            left -= 1
            await router()

    for tenth in range(11):
        await asyncio.gather(*(one_after_another(requests - tenth * requests // 10) for _ in range(16)))
        print(
            f"{requests - left:>10,}" + "".join(f"{part.memory_info().rss / 2**20:>16.1f}" for part in parts.values())
        )


if __name__ == "__main__":
    main()
