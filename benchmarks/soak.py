"""What grows while Gyre works for half an hour at half of what it can do: `python -m benchmarks.soak`.

Starts every part, all real, on free ports with a state folder that is removed afterwards; the models are the stand-in
of `benchmarks.day`, which answers at once. It measures how many requests a second are answered when as many as possible
are asked, then asks the requests of a retailer's day (`benchmarks.store_day`) evenly at half of that rate, and looks
every few seconds at each part: resident memory, open file handles and threads, with those of its children, and how many
records its consumers have not handled yet. Of each it prints the first and the last value, and the slope by Theil and
Sen with its interval of 95 %, leaving out the first sixth of the time, in which caches fill.

What is meant to be kept grows: context remembers conversations for the time that the bundle says, and ClickHouse and
Kafka keep caches of what is on disk.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import aiohttp
import psutil
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from scipy.stats import theilslopes

from benchmarks.day import replay
from benchmarks.router import Measured, chat, load
from benchmarks.store_bundle import WARM_UP, products
from benchmarks.store_day import DAY_SECONDS, requests_of_day
from benchmarks.store_stack import before_a_stand_in, headers, prepare, until
from embedded.parts import PARTS
from embedded.settings import SERVICES
from embedded.stack import Stack

WARM_SECONDS, CAPACITY_SECONDS, IN_FLIGHT = 45, 30, 32
LOOK_SECONDS = 5.0
LEFT_OUT = 1 / 6
HOUR_SECONDS = 3600
WHAT = ("memory MiB", "handles", "threads", "records behind")


@dataclass(frozen=True)
class Look:
    """One part at one time: the values of `WHAT`; no lag where the part reads nothing."""

    seconds: float
    values: tuple[float, float, float, float | None]


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--share", type=float, default=0.5, help="of what can be done")
    arguments = parser.parse_args()
    with before_a_stand_in(PARTS) as (stack, port):
        uvloop.run(_run(stack, port, arguments.minutes * 60, arguments.share))


async def _run(stack: Stack, stand_in_port: int, seconds: float, share: float) -> None:
    await prepare(stack, stand_in_port)
    url = f"http://{stack.settings.address('GYRE_ROUTER_HTTP_PORT')}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        warm = chat(session, stack.settings.port("GYRE_ROUTER_HTTP_PORT"), headers(WARM_UP))
        await until(warm, "the router answers")
        print(f"warming up for {WARM_SECONDS} s, measuring for {CAPACITY_SECONDS} s", file=sys.stderr)
        await load(warm, IN_FLIGHT, WARM_SECONDS)
        measured = Measured()
        await load(warm, IN_FLIGHT, CAPACITY_SECONDS, measured)
        capacity = len(measured.took) / measured.seconds
        asked = requests_of_day(round(capacity * share * seconds), products())
        evenly = [replace(each, second=DAY_SECONDS * place / len(asked)) for place, each in enumerate(asked)]
        print(
            f"{capacity:.0f} requests/s can be answered, {capacity * share:.0f} are asked for {seconds / 60:.0f} "
            f"minutes; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        looks: dict[str, list[Look]] = defaultdict(list)
        looking = asyncio.create_task(_look(stack, session, looks))
        answered = await replay(session, url, evenly, seconds)
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking
    statuses = Counter(each.status for each in answered)
    took = statistics.quantiles([each.seconds * 1e3 for each in answered], n=100)
    print(f"{len(answered):,} requests, by status {dict(statuses)}; p50 {took[49]:.0f} ms, p99 {took[98]:.0f} ms")
    _show(looks)


async def _look(stack: Stack, session: aiohttp.ClientSession, looks: dict[str, list[Look]]) -> None:
    """Look at every part again and again, until cancelled."""
    started = time.monotonic()
    pids = {status.part.name: status.pid for status in await asyncio.to_thread(stack.status)}
    while True:
        behind = {name: await _behind(stack, session, name) for name in SERVICES}
        for name, pid in pids.items():
            values = await asyncio.to_thread(_resources, pid)
            looks[name].append(Look(time.monotonic() - started, (*values, behind.get(name))))
        await asyncio.sleep(LOOK_SECONDS)


def _resources(pid: int) -> tuple[float, float, float]:
    first = psutil.Process(pid)
    every = [first, *first.children(recursive=True)]
    return (
        sum(each.memory_info().rss for each in every) / 2**20,
        sum(each.num_fds() for each in every),
        sum(each.num_threads() for each in every),
    )


async def _behind(stack: Stack, session: aiohttp.ClientSession, service: str) -> float | None:
    port = stack.settings.port(f"GYRE_{service.upper()}_METRICS_PORT")
    async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    found = [sample.value for family in families if family.name == "gyre_lag_records" for sample in family.samples]
    return sum(found) if found else None


def _show(looks: dict[str, list[Look]]) -> None:
    print(f"{'':12}{'':>16}{'first':>10}{'last':>10}{'an hour':>12}  95 %")
    for part in PARTS:
        for place, what in enumerate(WHAT):
            _show_one(part, what, [(look.seconds, look.values[place]) for look in looks[part]])


def _show_one(part: str, what: str, points: Sequence[tuple[float, float | None]]) -> None:
    known = [(seconds, value) for seconds, value in points if value is not None]
    if not known:
        return
    settled = [point for point in known if point[0] >= points[-1][0] * LEFT_OUT]
    slope, _, low, high = theilslopes([value for _, value in settled], [seconds for seconds, _ in settled])
    print(
        f"{part:12}{what:>16}{settled[0][1]:>10.0f}{settled[-1][1]:>10.0f}{slope * HOUR_SECONDS:>+12.1f}  "
        f"{low * HOUR_SECONDS:+.1f} to {high * HOUR_SECONDS:+.1f}"
    )


if __name__ == "__main__":
    main()
