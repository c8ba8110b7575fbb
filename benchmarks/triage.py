"""Triage's throughput, beside the plain Faust agent that decides the same: `python -m benchmarks.triage MODELS_DIR`.

Starts a Kafka for each measurement, on free ports and a state folder that is removed afterwards, puts interactions
there, and measures how fast one process decides about them, until it has committed the last one:

    bare    a Faust agent that counts in a table in memory: it reads nothing, decides nothing, and after a crash counts
            twice. The most that Faust does by itself.
    plain   a Faust agent that decides as triage does, by the same code: decoding, embeddings, neighbours, signals,
            chances, budgets, edge cases. But as Faust's documentation has it: `async for event in stream`, one record
            after the other, `table[...] =`, acknowledged by Faust; exactly once, tables in RocksDB with changelogs.
    triage  triage's own agent and tables, without its console and what that follows.

All have four partitions and commit each second; the latter two begin with as much as triage remembers of what experts
were asked and said, and remember a thousand requests of each partition. They take turns, and ratios are of neighbours
in time; `plain` is given a fifth as many, for it takes so long. At last triage decides about ten times as many.

Times are from the first commit to the last one. Where other programs want the processors too, compare the processor
time.
"""

import argparse
import asyncio
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import psutil
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from benchmarks.triage_sides import group
from benchmarks.triage_traffic import interactions
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from schemas.codecs import codec
from schemas.topics import Topic
from services.runtime.kafka import ensure_topics
from services.runtime.settings import KafkaSettings

_MIB = 1024 * 1024
_SECONDS = 900  # for one measurement


@dataclass(frozen=True)
class Result:
    """What a side did.

    Attributes:
        events: That it decided about between the first commit and the last one.
        seconds: That this took.
        cpu_seconds: Of its process meanwhile.
        first_bytes: Its memory (resident) at the first commit.
        last_bytes: At the last one.
    """

    events: int
    seconds: float
    cpu_seconds: float
    first_bytes: int
    last_bytes: int

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds

    @property
    def cost(self) -> float:
        """Microseconds of processor an event."""
        return self.cpu_seconds / self.events * 1e6


def main() -> None:
    """Measure all and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models_dir", type=Path)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", nargs="+", default=["bare", "plain", "triage", "ten times"])
    options = parser.parse_args()
    if "ten times" in options.sides and "triage" not in options.sides:
        parser.error("--sides: wanted triage with `ten times`, which is compared with it")
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic just made has no leader yet; it tries again
    size = statistics.mean(len(codec(Topic.INTERACTIONS).encode(each)) for each in interactions(1000))
    print(f"{options.events:,} interactions of {size:,.0f} bytes, {os.cpu_count()} cores", flush=True)

    def measured(side: str, times: int = 1) -> Result:
        count = options.events // 5 if side == "plain" else times * options.events
        result = _measure(side, options.models_dir, count)
        print(
            f"  {side:8} {result.rate:8,.0f} events/s, {result.cost:7,.0f} us of processor each; "
            f"{result.first_bytes / _MIB:,.0f} MiB, at the end {result.last_bytes / _MIB:,.0f}",
            flush=True,
        )
        return result

    if "bare" in options.sides:
        measured("bare")
    pairs = [[measured(side) for side in ("plain", "triage") if side in options.sides] for _ in range(options.rounds)]
    if all(len(pair) == 2 for pair in pairs):
        _print_ratios(pairs)
    if "ten times" in options.sides:
        more = measured("triage", 10)
        print(f"  ten times as many cost {more.cost / statistics.median(pair[-1].cost for pair in pairs):.2f} each")


def _print_ratios(pairs: Sequence[Sequence[Result]]) -> None:
    rates = sorted(after.rate / before.rate for before, after in pairs)
    costs = sorted(before.cost / after.cost for before, after in pairs)
    print(f"  triage / plain: {statistics.median(rates):.2f} ({rates[0]:.2f} to {rates[-1]:.2f}) the events/s")
    print(f"  plain / triage: {statistics.median(costs):.2f} ({costs[0]:.2f} to {costs[-1]:.2f}) the processor time")


def _measure(side: str, models_dir: Path, count: int) -> Result:
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder:
        stack = Stack(Settings(state_dir=Path(folder) / "state", ports=stack_ports()))
        try:
            stack.start(("kafka",))
            kafka = KafkaSettings(bootstrap_servers=stack.settings.address("GYRE_EMBEDDED_KAFKA_PORT"))
            asyncio.run(_fill(kafka, count))
            with _process(side, kafka, models_dir, Path(folder) / "tables") as process:
                return asyncio.run(_until_handled(kafka, group(side), process, count))
        finally:
            stack.stop()


async def _fill(kafka: KafkaSettings, count: int) -> None:
    await ensure_topics(kafka)
    encode = codec(Topic.INTERACTIONS).encode
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=20) as producer:
        events = interactions(count)
        while many := list(islice(events, 1000)):
            sent = [
                await producer.send(str(Topic.INTERACTIONS), encode(each), key=each.request_id.encode())
                for each in many
            ]
            await asyncio.gather(*sent)


@contextmanager
def _process(side: str, kafka: KafkaSettings, models_dir: Path, folder: Path) -> Iterator[psutil.Popen]:
    own = {"GYRE_MODELS_DIR": str(models_dir), "GYRE_TRIAGE_DATA_DIR": str(folder), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "benchmarks.triage_sides", side, kafka.bootstrap_servers]
    process = psutil.Popen(arguments, env={**os.environ, **own})
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def _until_handled(kafka: KafkaSettings, name: str, process: psutil.Popen, count: int) -> Result:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    try:
        deadline, handled, first = time.monotonic() + _SECONDS, 0, (0, 0.0, 0.0, 0)
        while time.monotonic() < deadline and process.poll() is None:
            handled = await _handled(admin, name)
            now = time.perf_counter(), sum(process.cpu_times()[:2]), process.memory_info().rss
            if handled and not first[0]:
                first = (handled, *now)
            if handled == count:
                events, started, cpu, memory = first
                return Result(count - events, now[0] - started, now[1] - cpu, memory, now[2])
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
    raise SystemExit(f"only {handled:,} of {count:,} interactions were decided about")


async def _handled(admin: AIOKafkaAdminClient, name: str) -> int:
    try:
        offsets = await admin.list_consumer_group_offsets(name)
    except KafkaError:  # the first group of a broker is nobody's for a moment
        return 0
    return sum(max(each.offset, 0) for at, each in offsets.items() if at.topic == Topic.INTERACTIONS)


if __name__ == "__main__":
    main()
