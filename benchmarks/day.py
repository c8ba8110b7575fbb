"""Where the time of orchestration goes in a day of a retailer with 1,600 stores: `python -m benchmarks.day`.

Starts Kafka, ClickHouse, governance, context, audit and the router, all real, on free ports with a state folder that is
removed afterwards. The models are one stand-in that is none: it gives at once the next of a few answers (`ANSWERS`), so
every time in here is Gyre's own. Then it replays the 50,000 requests of `benchmarks.store_day`, each at its time of the
day and whether or not earlier ones are answered, the day being compressed into `--minutes`. Who is told to come again
later does.

The shares of the seven orchestration functions are those of `gyre.orchestration_breakdown` in ClickHouse, that is of
the stages in each request's record, beside those published for a deployment of this size. Times of requests are those
of the client. `--plot docs/orchestration.svg` draws the picture. It needs what `make setup` installs, and tau2's shop
(policy and products, given to context as documents), which it installs into an environment of its own.
"""

import argparse
import asyncio
import contextlib
import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import aiohttp
import uvloop
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from benchmarks.router import chat, load
from benchmarks.store_bundle import WARM_UP, products
from benchmarks.store_day import DAY_SECONDS, INJECTION, PERSONAL, Asked, requests_of_day
from benchmarks.store_stack import WAIT_SECONDS, before_a_stand_in, completion, headers, prepare, until
from embedded.environment import clickhouse_password
from embedded.settings import Settings
from embedded.stack import Stack
from services.runtime.clickhouse import ClickHouse
from services.runtime.settings import ClickHouseSettings

# Per cent, as published for a retailer's deployment of this size (1,600 stores, 50,000 requests a day).
PUBLISHED = {
    "routing": 29,
    "governance": 22,
    "context-stitching": 19,
    "monitoring": 14,
    "policy": 8,
    "data-prep": 5,
    "audit": 3,
}
PARTS = ("kafka", "clickhouse", "governance", "context", "audit", "router")
# While Kafka's JVM compiles what it runs often.
WARM_SECONDS, WARM_IN_FLIGHT = 45, 8
# A caller that is told so comes again later, so often.
TURNED_AWAY_AT_MOST = 60


@dataclass(frozen=True)
class Answered:
    """What became of one request.

    Attributes:
        asked: The request.
        late_seconds: By how much later than its time it was sent.
        seconds: From sending to the last byte, of the last time where it was asked again.
        status: HTTP's; 0 where the answer broke off.
        turned_away: How often it was told to come again later, and did.
    """

    asked: Asked
    late_seconds: float
    seconds: float
    status: int
    turned_away: int

    @property
    def hour(self) -> int:
        """Of the day."""
        return int(self.asked.second // 3600)


@dataclass(frozen=True)
class Share:
    """One function of the pipeline: its part of the orchestration's time, and its mean per request, in microseconds."""

    percent: float
    mean_us: float


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=50_000, help="of the day")
    parser.add_argument("--minutes", type=float, default=30, help="that the day is compressed into")
    parser.add_argument("--plot", type=Path, help="write the picture (SVG) to this file")
    arguments = parser.parse_args()
    day = requests_of_day(arguments.requests, products())
    with before_a_stand_in(PARTS) as (stack, port):
        uvloop.run(_run(stack, day, port, arguments.minutes * 60, arguments.plot))


async def _run(stack: Stack, day: Sequence[Asked], stand_in_port: int, seconds: float, plot: Path | None) -> None:
    await prepare(stack, stand_in_port)
    url = f"http://{stack.settings.address('GYRE_ROUTER_HTTP_PORT')}/v1/chat/completions"
    # No limit to its connections: a request that waits for one would not be asked at its time.
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
        _analyst(stack.settings) as clickhouse,
    ):
        warm = chat(session, stack.settings.port("GYRE_ROUTER_HTTP_PORT"), headers(WARM_UP))
        await until(warm, "the router answers")
        print(f"warming up for {WARM_SECONDS} s", file=sys.stderr)
        await load(warm, WARM_IN_FLIGHT, WARM_SECONDS)
        before = await _audit_seconds(session, stack.settings)
        print(
            f"replaying {len(day):,} requests, a second for {DAY_SECONDS / seconds:.0f} of the day: {seconds / 60:.1f} "
            f"minutes, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
            file=sys.stderr,
        )
        answered = await replay(session, url, day, seconds)
        await _show_record(clickhouse, len(day), answered)
        audit_seconds = await _audit_seconds(session, stack.settings) - before
        shares = await _shares(clickhouse)
        _show_shares(shares, audit_seconds * 1e6 / len(day))
        _show_day(answered, seconds)
        if plot:
            draw(plot, shares, answered)


async def replay(session: aiohttp.ClientSession, url: str, day: Sequence[Asked], seconds: float) -> list[Answered]:
    """Ask each request at its time, the whole day in so many seconds, and return what became of each."""
    started = time.perf_counter()

    async def ask(asked: Asked, late_seconds: float) -> Answered:
        body = completion(asked)
        turned_away = 0
        while True:
            begun = time.perf_counter()
            try:
                async with session.post(url, json=body, headers=headers(asked.application)) as answer:
                    text, status = await answer.text(), answer.status
                    again_seconds = float(answer.headers.get("retry-after", 1))
            except aiohttp.ClientError:
                text, status = "", 0
            is_turned_away = status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
            if not is_turned_away or turned_away == TURNED_AWAY_AT_MOST:
                break
            turned_away += 1
            await asyncio.sleep(again_seconds)  # as any SDK does
        if status == 200 and body["stream"] and not text.endswith("data: [DONE]\n\n"):
            status = 0
        return Answered(asked, late_seconds, time.perf_counter() - begun, status, turned_away)

    under_way = []
    for asked in day:
        due = started + asked.second * seconds / DAY_SECONDS
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        under_way.append(asyncio.create_task(ask(asked, time.perf_counter() - due)))
    return await asyncio.gather(*under_way)


@contextlib.asynccontextmanager
async def _analyst(settings: Settings) -> AsyncIterator[ClickHouse]:
    clickhouse = ClickHouse(
        ClickHouseSettings(
            url=f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
            user="analyst",
            password=SecretStr(clickhouse_password(settings, "analyst")),
        )
    )
    try:
        yield clickhouse
    finally:
        await clickhouse.close()


async def _audit_seconds(session: aiohttp.ClientSession, settings: Settings) -> float:
    """Return the time that the router's records have taken, Kafka's acknowledgement included, by its own metric."""
    async with session.get(f"http://{settings.address('GYRE_ROUTER_METRICS_PORT')}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "gyre_stage_seconds_sum" and sample.labels == {"stage": "audit"}
    )


async def _show_record(clickhouse: ClickHouse, count: int, answered: Sequence[Answered]) -> None:
    """Wait until audit has stored the last record, and print what is on record."""
    ended, stored = time.monotonic(), [await _stored(clickhouse)]
    while stored[-1] < count and time.monotonic() < ended + WAIT_SECONDS:
        await asyncio.sleep(0.05)
        stored.append(await _stored(clickhouse))
    print(
        f"audit: {count - stored[0]:,} records behind when the last answer came, {count - stored[-1]:,} after "
        f"{time.monotonic() - ended:.1f} s"
    )
    (row,) = await clickhouse.rows(
        f"""SELECT count() AS rows, uniqExact(request_id) AS requests, uniqExact(user) AS stores,
            uniqExact(conversation_id) AS conversations, countIf(state != 'finished') AS unfinished,
            countIf(finish_reason = 'refused') AS refused, countIf(finish_reason = 'error') AS errors,
            countIf(input_verdict = 'mask') AS masked, countIf(streamed) AS streams,
            countIf(arrayExists(found -> found.kind = 'injection', findings)) AS attacks,
            countIf(NOT context_available AND finish_reason != 'refused') AS without_context,
            countIf(memory_turns > 0) AS with_memory, countIf(notEmpty(citations)) AS with_passages,
            countIf(tier = 'large') AS large
        FROM gyre.interactions WHERE tenant != '{WARM_UP}'"""  # noqa: S608 - our own
    )
    held = Counter(each.asked.holds for each in answered)
    statuses = Counter(each.status for each in answered)
    print(
        f"on record: {row['requests']:,} requests in {row['rows']:,} rows, of {row['stores']:,} stores and "
        f"{row['conversations']:,} conversations; {row['streams']:,} streams\n"
        f"  masked {row['masked']:,} (personal data was put into {held[PERSONAL]:,}), taken for an attack "
        f"{row['attacks']:,} (attacks were {held[INJECTION]:,}), refused {row['refused']:,}\n"
        f"  with passages {row['with_passages']:,}, with earlier turns {row['with_memory']:,}, without context's "
        f"answer {row['without_context']:,}, by the large model {row['large']:,}\n"
        f"  errors {row['errors']:,}, unfinished {row['unfinished']:,}; told to come again, and did: "
        f"{sum(each.turned_away for each in answered):,} times; callers' last answers: {dict(statuses)}"
    )
    if (row["rows"], row["requests"]) != (count, count):
        raise SystemExit(f"wanted {count:,} requests on record, in one row each; those turned away are not")


async def _stored(clickhouse: ClickHouse) -> int:
    query = f"SELECT uniqExact(request_id) AS stored FROM gyre.interactions WHERE tenant != '{WARM_UP}'"  # noqa: S608 - our own
    (row,) = await clickhouse.rows(query)
    return int(row["stored"])


async def _shares(clickhouse: ClickHouse) -> dict[str, Share]:
    rows = await clickhouse.rows(
        f"""SELECT stage, sum(total_us) AS us, us / sum(us) OVER () AS share, us / max(sum(requests)) OVER () AS mean_us
        FROM gyre.orchestration_breakdown
        WHERE is_orchestration AND tenant != '{WARM_UP}'
        GROUP BY stage"""  # noqa: S608 - our own
    )
    found = {row["stage"]: Share(100 * row["share"], row["mean_us"]) for row in rows}
    return {stage: found[stage] for stage in PUBLISHED}


def _show_shares(shares: dict[str, Share], audit_us: float) -> None:
    print(f"{'':20}{'measured %':>12}{'published %':>13}{'mean us a request':>20}")
    for stage, share in shares.items():
        print(f"{stage:20}{share.percent:>12.1f}{PUBLISHED[stage]:>13}{share.mean_us:>20,.0f}")
    print(f"{'':20}{'':12}{'':13}{sum(share.mean_us for share in shares.values()):>20,.0f}")
    rest = sum(share.mean_us for stage, share in shares.items() if stage != "audit")
    print(
        f"With Kafka's acknowledgement, which only the metric has, audit took {audit_us:,.0f} us a request: "
        f"{100 * audit_us / (rest + audit_us):.1f} % of all."
    )


def _show_day(answered: Sequence[Answered], seconds: float) -> None:
    by_hour = {hour: [each for each in answered if each.hour == hour] for hour in range(24)}
    busiest = max(map(len, by_hour.values())) * 24 / seconds
    stores = sorted(Counter(each.asked.store for each in answered).values())
    late = sorted(each.late_seconds for each in answered)
    print(f"requests a store: {stores[0]} at least, median {statistics.median(stores):.0f}, {stores[-1]:,} at most")
    print(
        f"{len(answered) / seconds:.0f} requests/s in the mean, {busiest:.0f} in the busiest hour; 99 of 100 were sent "
        f"less than {late[int(0.99 * len(late))] * 1e3:.1f} ms late"
    )
    print(f"{'hour':>6}{'requests':>10}{'requests/s':>12}{'p50 ms':>9}{'p95 ms':>9}")
    for hour, each in by_hour.items():
        if each:
            print(f"{hour:>6}{len(each):>10,}{len(each) * 24 / seconds:>12.0f}{_quantiles(each)}")
    print(f"{'day':>6}{len(answered):>10,}{len(answered) / seconds:>12.0f}{_quantiles(answered)}")


def _quantiles(answered: Sequence[Answered]) -> str:
    took = sorted(each.seconds * 1e3 for each in answered)
    return f"{took[len(took) // 2]:>9.1f}{took[int(0.95 * len(took))]:>9.1f}"


def draw(path: Path, shares: dict[str, Share], answered: Sequence[Answered]) -> None:
    """Draw the shares beside those published, and the day's traffic."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    mpl.rcParams["svg.hashsalt"] = "gyre"  # the same figures are the same file
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 4.6), layout="constrained", gridspec_kw={"width_ratios": [2, 1], "wspace": 0.06}
    )
    places = range(len(shares))
    measured = [share.percent for share in shares.values()]
    published = [PUBLISHED[stage] for stage in shares]
    for values, offset, colour, name in (
        (measured, -0.19, "#1f7a5c", "Gyre, this replay"),
        (published, 0.19, "#9aa5b1", "published"),
    ):
        bars = left.barh([place + offset for place in places], values, height=0.36, color=colour, label=name)
        left.bar_label(bars, [f"{value:.1f}" if values is measured else f"{value}" for value in values], padding=4)
    left.set_yticks(places, list(shares))
    left.invert_yaxis()
    left.set_xlim(0, 1.12 * max(*measured, *published))
    left.set_xlabel("% of the time spent in the seven functions")
    left.set_title(f"orchestration of {len(answered):,} requests", loc="left", fontsize=11)
    left.legend(frameon=False, loc="lower right")
    requests = [sum(each.hour == hour for each in answered) for hour in range(24)]
    right.bar(range(24), requests, width=0.86, color="#1f7a5c", align="edge")
    right.set_xticks(range(0, 25, 6), [f"{hour}:00" for hour in range(0, 25, 6)])
    right.yaxis.set_major_formatter("{x:,.0f}")
    right.set_title("requests an hour (headquarters' time)", loc="left", fontsize=11)
    right.set_xlabel("hour of the day")
    for panel in (left, right):
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
