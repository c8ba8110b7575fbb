"""What a run of `benchmarks.capacity` comes to, as the costs that `gyre capacity` plans with."""

import asyncio
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil
import yaml
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.kafka import data_dir
from embedded.settings import Settings
from gyre.capacity.costs import Keeps, Requests, Source
from schemas.topics import SPECS, Topic
from services.runtime.clickhouse import ClickHouse
from services.runtime.settings import ClickHouseSettings, KafkaSettings

# The parts that a caller waits for; and all.
COSTED = ("router", "governance", "context", "kafka")
PARTS = (*COSTED, "audit", "triage", "clickhouse")
TOKEN_BYTES = 4  # as context estimates them
_MIB = 2**20


@dataclass(frozen=True)
class Costed:
    """What one request took: processor seconds by part, as the mean of so many.

    Attributes:
        seconds: By part.
        count: Of how many requests.
        speed: How fast a processor was meanwhile.
        processors: How many of them others left to the parts.
    """

    seconds: Mapping[str, float]
    count: int
    speed: float
    processors: float


@dataclass(frozen=True)
class Kept:
    """What is kept: bytes and records by topic, bytes of ClickHouse."""

    topic_bytes: Mapping[str, int]
    topic_records: Mapping[str, int]
    clickhouse_bytes: int

    def __sub__(self, before: Self) -> "Kept":
        return Kept(
            {name: size - before.topic_bytes.get(name, 0) for name, size in self.topic_bytes.items()},
            {name: count - before.topic_records.get(name, 0) for name, count in self.topic_records.items()},
            self.clickhouse_bytes - before.clickhouse_bytes,
        )


class Keeping:
    """Asks Kafka's folder, Kafka and ClickHouse what they hold."""

    def __init__(self, settings: Settings, kafka: KafkaSettings) -> None:
        self._folder = data_dir(settings)
        self._kafka = kafka
        self._clickhouse = ClickHouseSettings(
            url=f"http://{settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
            password=SecretStr(clickhouse_password(settings, "gyre")),
        )

    async def now(self) -> Kept:
        """Return what is kept now."""
        sizes = await asyncio.to_thread(self._sizes)
        records = await self._records()
        clickhouse = ClickHouse(self._clickhouse)
        try:
            (row,) = await clickhouse.rows(
                "SELECT sum(bytes_on_disk) AS bytes FROM system.parts WHERE active AND database = 'gyre'"
            )
        finally:
            await clickhouse.close()
        return Kept(sizes, records, int(row["bytes"]))

    async def _records(self) -> dict[str, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka.bootstrap_servers)
        await consumer.start()
        try:
            ends = await consumer.end_offsets(
                [
                    TopicPartition(topic, number)
                    for topic, spec in SPECS.items()
                    for number in range(self._kafka.partitions if spec.partitioned else 1)
                ]
            )
        finally:
            await consumer.stop()
        records: dict[str, int] = {}
        for partition, end in ends.items():
            records[partition.topic] = records.get(partition.topic, 0) + end
        return records

    def _sizes(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for file in self._folder.glob("*/*.log"):
            topic = file.parent.name.rpartition("-")[0]
            sizes[topic] = sizes.get(topic, 0) + file.stat().st_size
        return sizes


def requests_costs(
    costs: Mapping[str, Costed],
    kept: Mapping[str, Kept],
    followed: Mapping[str, float],
    tokens: float,
    more_tokens: float,
    parts: Mapping[str, psutil.Process],
) -> Requests:
    """Return the costs.

    Args:
        costs: Of `plain` requests, of `streamed` ones and of `long` ones, which are plain ones with more tokens.
        kept: What each left behind.
        followed: Processor seconds in which a context and a router caught up with the plain ones.
        tokens: Of a plain request and its answer.
        more_tokens: By how many a long request has more.
        parts: The first process of each.
    """
    plain, streamed, long = (costs[name].seconds for name in ("plain", "streamed", "long"))
    count, records = costs["plain"].count, kept["plain"].topic_records
    return Requests(
        source=Source(
            command="python -m benchmarks.capacity --write gyre/capacity/costs.yaml",
            machine=f"{_processor()}, {psutil.cpu_count()} cores, of which other work left "
            f"{costs['plain'].processors:.1f}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
            date=datetime.now(UTC).date(),
        ),
        speed=round(costs["plain"].speed),
        tokens=round(tokens),
        plain_ms={part: _round(plain[part] * 1e3) for part in COSTED},
        streamed_ms={part: _round(streamed[part] * 1e3) for part in COSTED},
        token_us={part: _round(max(0.0, long[part] - plain[part]) / more_tokens * 1e6) for part in COSTED},
        follow_us={
            "context": _round(followed["following context"] / records[Topic.INTERACTIONS] * 1e6),
            "router": _round(followed["router 2"] / records[Topic.USAGE] * 1e6),
        },
        memory_mib={part: round(parts[part].memory_info().rss / _MIB) for part in PARTS},
        plain_kept=_each(kept["plain"], count),
        streamed_kept=_each(kept["streamed"], costs["streamed"].count),
    )


def _each(kept: Kept, count: int) -> Keeps:
    """Return what one request leaves behind, of those topics that have a record of every hundredth."""
    topics = [topic for topic in Topic if kept.topic_records.get(topic, 0) > count / 100]
    return Keeps(
        topic_bytes={topic.value: round(kept.topic_bytes[topic] / count) for topic in topics},
        topic_records={topic.value: _round(kept.topic_records[topic] / count) for topic in topics},
        clickhouse_bytes=round(kept.clickhouse_bytes / count),
    )


def write(path: Path, found: Requests) -> None:
    """Put the costs of requests into a file of costs, and leave the others in it as they are."""
    content = yaml.safe_load(path.read_text())
    content["requests"] = found.model_dump(mode="json")
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120))


def show(found: Requests) -> None:
    """Print the costs."""
    print(f"{found.source.machine}, {found.speed:,.0f} rounds of the reference work in a processor second")
    print(f"{'':12}{'plain ms':>10}{'streamed ms':>13}{'a token more, us':>18}{'MiB':>6}")
    for part in PARTS:
        costs = (
            f"{found.plain_ms[part]:>10.3g}{found.streamed_ms[part]:>13.3g}{found.token_us[part]:>18.3g}"
            if part in COSTED
            else f"{'':41}"
        )
        print(f"{part:12}{costs}{found.memory_mib[part]:>6.0f}")
    followed = found.follow_us
    print(f"following: context {followed['context']:.0f} us an interaction, router {followed['router']:.0f} us a total")
    for name, keeps in (("plain", found.plain_kept), ("streamed", found.streamed_kept)):
        for topic, size in keeps.topic_bytes.items():
            print(f"{name}, {topic}: {keeps.topic_records[topic]:.2f} records and {size:,.0f} bytes a request")
        print(f"{name}, ClickHouse: {keeps.clickhouse_bytes:,.0f} bytes a request", flush=True)


def _round(value: float) -> float:
    return float(f"{value:.3g}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
