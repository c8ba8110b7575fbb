"""What a cascade gains: specialist, generic model and a cascade of both, on the requests that the demo holds out.

`python -m benchmarks.cascade` asks through the router of the stack that `gyre up` and `gyre demo` have left running, so
that a specialist is live and its gate is on record. It publishes the sample bundle with a cascade, and then the sample
bundle again. Answers are judged by BFCL's own checker.
"""

import asyncio
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedded.environment import service_environment
from embedded.settings import Settings
from embedded.stack import Stack
from gyre.demo.play import Played, play
from gyre.demo.story import TASK, TENANT
from gyre.demo.traffic import by_offer, traffic
from schemas.bundle import Bundle, load_bundle
from schemas.events import BundlePublished
from schemas.topics import Topic
from services.router.domain.success import Confidence
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.settings import ClickHouseSettings, KafkaSettings
from services.runtime.shares import Share

SAMPLE = Path("deploy/bundle")
BAR = 0.5
BARS = (0.2, 0.35, 0.5, 0.65, 0.8)
PATIENCE_SECONDS = 60

Row = dict[str, Any]


async def main() -> None:
    """Publish, play, print."""
    settings = Stack.running(Settings.from_environment(os.environ)).settings
    os.environ.update(service_environment(settings))
    router = f"http://{settings.address('GYRE_ROUTER_HTTP_PORT')}"
    held_out = by_offer(request for request in traffic() if request.task == TASK and request.split == "held-out")
    sample = load_bundle(SAMPLE)
    content = sample.model_dump()
    content["tasks"][TASK]["cascade"] = {"chance": BAR}
    database = ClickHouse(ClickHouseSettings())
    try:
        (live,) = await database.rows(
            "SELECT argMax(model, deployed_at) AS model, argMax(candidate_answers, deployed_at) AS answers FROM "
            "gyre.deployments WHERE tenant = {tenant:String} AND task = {task:String}",
            {"tenant": TENANT, "task": TASK},
        )
        confidence = Confidence()
        for answer in live["answers"]:
            confidence.learn(answer["sum_logprob"], float(answer["right"]))
        print(f"{'':22}{'right':>12}{'95 %':>18}{'asked twice':>13}{'tokens':>9}{'s, median':>11}")
        for name, bundle, model in (
            ("generic model alone", sample, next(iter(sample.models))),
            ("specialist alone", sample, live["model"]),
            ("cascade", Bundle.model_validate(content), "auto"),
        ):
            await publish(bundle)
            await asyncio.sleep(2)  # all have heard of it
            played = await play(router, held_out, lambda: None, model)
            records = await recorded(database, played)
            show(name, played, records)
            if name == "specialist alone":
                specialist = played, records
        show_confidence(confidence, *specialist)
    finally:
        await publish(sample)
        await database.close()


async def publish(bundle: Bundle) -> None:
    """Put a bundle in force."""
    async with Producer(KafkaSettings()) as producer:
        content = bundle.model_dump_json()
        await producer.send(
            Topic.BUNDLES, BundlePublished(version=bundle.version, published_at=Clock().now(), content=content)
        )


async def recorded(database: ClickHouse, played: Sequence[Played]) -> dict[str, Row]:
    """Return what is on record of each answer, by request, once all of it is."""
    ids = [each.request_id for each in played]
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            rows = await database.rows(
                "SELECT request_id, sum_logprob, attempts FROM gyre.interactions WHERE request_id IN "
                "{ids:Array(String)}",
                {"ids": ids},
            )
            if len(rows) == len(ids):
                return {row["request_id"]: row for row in rows}
            await asyncio.sleep(0.5)


def show(name: str, played: Sequence[Played], records: dict[str, Row]) -> None:
    """Print how right the answers were, and what they took."""
    right = sum(each.right for each in played)
    low, high = Share(right, len(played)).interval
    asked = [row["attempts"] for row in records.values()]
    twice = sum(len(each) > 1 for each in asked)
    tokens = sum(attempt["prompt_tokens"] + attempt["completion_tokens"] for each in asked for attempt in each)
    print(
        f"{name:22}{f'{right} of {len(played)}':>12}{f'{low:.1%} to {high:.1%}':>18}{twice:>13}"
        f"{tokens / len(played):>9.0f}{statistics.median(each.seconds for each in played):>11.2f}"
    )


def show_confidence(confidence: Confidence, played: Sequence[Played], records: dict[str, Row]) -> None:
    """Print how well the specialist's gate tells which of its answers here are right."""
    chances = np.array([confidence.chance(records[each.request_id]["sum_logprob"]) for each in played])
    right = np.array([each.right for each in played], float)
    pairs = chances[right == 1][:, None] - chances[right == 0][None, :]
    area = float((pairs > 0).mean() + (pairs == 0).mean() / 2)
    print(
        f"chances by its gate: area under the curve {area:.3f}, Brier score {np.mean((chances - right) ** 2):.3f} "
        f"({np.mean((right.mean() - right) ** 2):.3f} of one chance for all), mean chance {chances.mean():.3f} where "
        f"{right.mean():.3f} were right"
    )
    for bar in BARS:
        below = chances < bar
        print(f"    below {bar:.2f}: {below.sum()} answers, {right[below].sum():.0f} of them right")


if __name__ == "__main__":
    asyncio.run(main())
