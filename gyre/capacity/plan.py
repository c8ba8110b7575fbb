"""From a load and costs to processes, partitions, brokers, servers, GPUs and disk.

Who answers while the caller waits (router, governance, context, Kafka, models) is sized for the peak second; what works
on the topics (audit, triage, ClickHouse) for the busiest hour, for Kafka holds what comes faster. A process is one
processor: each of our services is one event loop. A balancer gives requests to processes without knowing their queues,
so each has a line of its own, M/G/1; the slots of an engine share one, M/G/c (`queueing` has the formulas).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gyre.capacity.costs import Costs
from gyre.capacity.limits import Limit, cost, engine_seconds, limits, people
from gyre.capacity.load import Load
from gyre.capacity.queueing import Wait, wait
from schemas.topics import DAY_MS, SPECS, Topic

TOKEN_BYTES = 4  # as context estimates them
FEWEST_REPLICAS = 2  # so that one may go
DEFAULT_PARTITIONS = 4
# In the bundle of the benchmark, as in any that does not say.
MEASURED_EXPERTS = 0.2
_BY_EXPERTS = (Topic.EDGE_CASES, Topic.LABELS)
DRIFT_SHARE = 0.1  # of audit's process, at most: its README
_MIB, _GIB = 2**20, 2**30


@dataclass(frozen=True)
class Part:
    """How much of one part is wanted, of one installation.

    Attributes:
        name: Of the service, or the infrastructure.
        count: How many.
        unit: Of what.
        per_second: What it is sized for.
        milliseconds: What one request takes of a unit.
        utilisation: How busy each is then.
        wait: For its turn, of a request; nothing where no caller waits.
        memory_bytes: Of one; 0 where it was not measured.
        is_measured: Whether what one request takes was.
    """

    name: str
    count: int
    unit: str
    per_second: float
    milliseconds: float
    utilisation: float
    wait: Wait | None
    memory_bytes: float
    is_measured: bool = True


@dataclass(frozen=True)
class TopicPlan:
    """What a topic carries and holds, of one installation.

    Attributes:
        name: Of the topic.
        partitions: How many it has.
        bytes_per_request: One copy, as it lies in Kafka.
        days: How long history is kept.
        disk_bytes: All copies, when it is full.
    """

    name: str
    partitions: int
    bytes_per_request: float
    days: float
    disk_bytes: float


@dataclass(frozen=True)
class Plan:
    """What an installation is made of; of several cells, each of them.

    Attributes:
        load: What all of them are asked.
        cell: What one is asked.
        cells: How many installations; more than one where one cannot do it.
        parts: Services, infrastructure and engines of one.
        topics: Of one, those that carry something for each request.
        kafka_disk_bytes_per_day: Written to the disks of one, all copies.
        clickhouse_disk_bytes_per_day: The same, of ClickHouse.
        clickhouse_disk_bytes: When the record is as old as it is kept, on each of its servers.
        people: Experts, of all cells together.
        limits: Where one stops, the first first.
    """

    load: Load
    cell: Load
    cells: int
    parts: tuple[Part, ...]
    topics: tuple[TopicPlan, ...]
    kafka_disk_bytes_per_day: float
    clickhouse_disk_bytes_per_day: float
    clickhouse_disk_bytes: float
    people: float
    limits: tuple[Limit, ...]

    @property
    def bottleneck(self) -> Limit:
        """The first to stop."""
        return self.limits[0]

    @property
    def divider(self) -> Limit:
        """The first that only more installations go beyond."""
        return next(limit for limit in self.limits if limit.by_cells)


def plan(load: Load, costs: Costs) -> Plan:
    """Return what a load asks for.

    Raises:
        ValueError: The load names an engine that the costs do not have.
    """
    if unknown := load.engines.keys() - costs.engines.keys():
        raise ValueError(f"engines.{min(unknown)}: wanted one of {', '.join(sorted(costs.engines))}")
    stops = limits(load, costs)
    most = next(limit.per_second for limit in stops if limit.by_cells)
    cells = max(1, math.ceil(load.busiest_per_second / most))
    volume = load.requests.model_copy(update={"count": load.requests.count / cells})
    cell = load.model_copy(update={"requests": volume, "stores": max(1, round(load.stores / cells))})
    services = _services(cell, costs)
    consumers = max(part.count for part in services if part.name in ("audit", "triage"))
    partitions = max(DEFAULT_PARTITIONS, 2 * consumers)  # keys stay where they are, so there is room to grow
    topics = _topics(cell, costs, partitions)
    context = next(part.count for part in services if part.name == "context")
    record = sum(topic.bytes_per_request for topic in topics)
    clickhouse_day = cell.per_day * _clickhouse_bytes(cell, costs) * cell.clickhouse_copies
    brokers = _brokers(cell, costs, topics, readers=context + 4)  # audit twice, triage, serving
    return Plan(
        load=load,
        cell=cell,
        cells=cells,
        parts=(*services, brokers, _clickhouse(cell, costs), *(_engine(cell, costs, name) for name in cell.engines)),
        topics=topics,
        kafka_disk_bytes_per_day=cell.per_day * record * cell.kafka_copies,
        clickhouse_disk_bytes_per_day=clickhouse_day,
        clickhouse_disk_bytes=clickhouse_day / cell.clickhouse_copies * cell.record_days,
        people=people(load),
        limits=tuple(stops),
    )


def replicas(per_second: float, seconds: float, utilisation: float, following: float = 0.0) -> int:
    """Return how many processes keep to a utilisation, and can do without one of them.

    Args:
        per_second: What comes, for all of them.
        seconds: What one takes.
        utilisation: Of each, at most.
        following: What each is busy with in any case.

    Raises:
        ValueError: Each is busy enough in any case.
    """
    if following >= utilisation:
        raise ValueError(f"following takes {following:.2f} of a process, which may be busy {utilisation:.2f}")
    offered = per_second * seconds
    # Without rounding up what is only there for rounding.
    count = max(FEWEST_REPLICAS, math.ceil(offered / (utilisation - following) - 1e-9))
    while offered / (count - 1) + following >= 1:
        count += 1
    return count


def _services(load: Load, costs: Costs) -> list[Part]:
    follow = costs.requests.follow_us["context"] / 1e6
    following = load.busiest_per_second * follow
    waited = load.peak_per_second
    index = load.documents * costs.holdings.context_document_kib * 1024
    stitching = max(0.0, cost(load, costs, "context") - follow)  # it followed while it was measured
    return [
        _service(load, costs, "router", waited, cost(load, costs, "router"), 0.0, is_waited_for=True),
        _service(load, costs, "governance", waited, cost(load, costs, "governance"), 0.0, is_waited_for=True),
        _service(load, costs, "context", waited, stitching, following, True, index),
        _service(load, costs, "audit", load.busiest_per_second, cost(load, costs, "audit"), DRIFT_SHARE, False),
        _service(load, costs, "triage", load.busiest_per_second, cost(load, costs, "triage"), 0.0, False),
    ]


def _service(
    load: Load,
    costs: Costs,
    name: str,
    per_second: float,
    seconds: float,
    following: float,
    is_waited_for: bool,
    more_bytes: float = 0.0,
) -> Part:
    count = replicas(per_second, seconds, load.utilisation, following)
    each = per_second / count
    return Part(
        name=name,
        count=count,
        unit="process",
        per_second=per_second,
        milliseconds=seconds * 1e3,
        utilisation=each * seconds + following,
        # What else it does takes from its speed.
        wait=wait(each, seconds / (1 - following), 1) if is_waited_for else None,
        memory_bytes=costs.requests.memory_mib[name] * _MIB + more_bytes,
    )


def _topics(load: Load, costs: Costs, partitions: int) -> tuple[TopicPlan, ...]:
    requests = costs.requests
    found = []
    for topic in Topic:
        plain = requests.plain_kept.topic_bytes.get(topic, 0.0)
        size = plain + load.streamed * (requests.streamed_kept.topic_bytes.get(topic, 0.0) - plain)
        if topic in _BY_EXPERTS:
            size *= load.experts / MEASURED_EXPERTS
        if topic is Topic.INTERACTIONS:
            size += _more_bytes(load, costs)
        spec = SPECS[topic]
        if not size or spec.compacted:
            continue  # state, of which the last of each key stays
        days = spec.retention_ms / DAY_MS
        disk = load.per_day * size * days * load.kafka_copies
        found.append(TopicPlan(topic, partitions if spec.partitioned else 1, size, days, disk))
    return tuple(found)


def _brokers(load: Load, costs: Costs, topics: tuple[TopicPlan, ...], readers: int) -> Part:
    hardware, copies = costs.hardware, load.kafka_copies
    seconds = cost(load, costs, "kafka") * copies  # a copy is taken to cost what the first does
    partitions = sum(topic.partitions for topic in topics) * 2 * copies  # dead letters lie beside each
    carried = load.busiest_per_second * sum(topic.bytes_per_request for topic in topics) * (copies + readers)
    processors = load.peak_per_second * seconds / load.utilisation / hardware.broker_cores
    count = max(
        copies,
        math.ceil(processors),
        math.ceil(sum(topic.disk_bytes for topic in topics) / (hardware.broker_disk_tb * 1e12 * load.utilisation)),
        math.ceil(partitions / hardware.broker_partitions),
        math.ceil(carried / (hardware.network_gbit / 8 * 1e9 * load.utilisation)),
    )
    return Part(
        name="kafka",
        count=count,
        unit=f"broker of {hardware.broker_cores:g} cores",
        per_second=load.peak_per_second,
        milliseconds=seconds * 1e3,
        utilisation=processors * load.utilisation / count,
        wait=wait(load.peak_per_second / count, seconds, round(hardware.broker_cores)),
        memory_bytes=0.0,
    )


def _clickhouse(load: Load, costs: Costs) -> Part:
    seconds, cores = cost(load, costs, "clickhouse"), costs.hardware.clickhouse_cores
    return Part(
        name="clickhouse",
        count=load.clickhouse_copies,
        unit=f"server of {cores:g} cores",
        per_second=load.busiest_per_second,
        milliseconds=seconds * 1e3,
        utilisation=load.busiest_per_second * seconds / cores,  # each holds, and merges, all of it
        wait=None,
        memory_bytes=0.0,
    )


def _clickhouse_bytes(load: Load, costs: Costs) -> float:
    """Return what a request takes on ClickHouse's disk: longer ones as much more as they are long, uncompressed."""
    plain, streamed = (kept.clickhouse_bytes for kept in (costs.requests.plain_kept, costs.requests.streamed_kept))
    return plain + load.streamed * (streamed - plain) + _more_bytes(load, costs)


def _more_bytes(load: Load, costs: Costs) -> float:
    return max(0.0, load.prompt_tokens + load.answer_tokens - costs.requests.tokens) * TOKEN_BYTES


def _engine(load: Load, costs: Costs, name: str) -> Part:
    engine = costs.engines[name]
    per_second = load.peak_per_second * load.engines[name]
    seconds = engine_seconds(load, costs, name)
    count = replicas(per_second, seconds, load.utilisation)
    return Part(
        name=name,
        count=count,
        unit=engine.unit,
        per_second=per_second,
        milliseconds=seconds * 1e3,
        utilisation=per_second * seconds / count,
        wait=wait(per_second, seconds * engine.slots, count * engine.slots),
        memory_bytes=0.0,
        is_measured=engine.source.measured,
    )
