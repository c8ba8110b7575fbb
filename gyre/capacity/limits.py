"""Where each part stops scaling, and what is done then.

Most parts grow by adding processes. These don't, because something of them is one, or is whole in every process. The
rate at which each stops is told of the busiest hour's mean second. Some stops hold for one installation, and more
installations, each with stores of its own (cells), go beyond them; others are put off by a setting.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gyre.capacity.costs import Costs
from gyre.capacity.load import Load

KEPT_DAYS = 30  # of edge cases and labels, by their topics
# Claim, submit, and the share of signing in, extending and skipping: an estimate.
ACTIONS_PER_ITEM = 3.0
# A router tells its totals as soon as those before are acknowledged, which takes some milliseconds.
TOTALS_PER_SECOND = 200.0
# What may be spent on following topics, of what a process may be busy at all.
FOLLOWING_SHARE = 0.5


@dataclass(frozen=True)
class Limit:
    """One stop.

    Attributes:
        part: Which part.
        per_second: Requests in a mean second of the busiest hour at which it is reached; infinite: never.
        why: What is one, or whole in every process.
        then: What is done.
        by_cells: Whether more installations are what goes beyond it.
    """

    part: str
    per_second: float
    why: str
    then: str
    by_cells: bool


def limits(load: Load, costs: Costs) -> list[Limit]:
    """Return where each part stops under a load of this shape, the first to stop first."""
    requests, hardware, holdings = costs.requests, costs.hardware, costs.holdings
    follow = requests.follow_us["context"] / 1e6
    follow_total = requests.follow_us["router"] / 1e6
    following = load.utilisation * FOLLOWING_SHARE
    # Requests a day for each in a second of the busiest hour.
    daily = load.per_day / load.busiest_per_second
    item_kb = daily * load.experts * KEPT_DAYS * holdings.triage_item_kb
    routers = following / (follow_total * TOTALS_PER_SECOND * max(1, load.limited_applications))
    found = [
        Limit(
            "context",
            following / follow,
            "every replica reads every interaction, for its memory of conversations; more replicas do not help",
            "cells; beyond them, replicas that each keep the conversations of some partitions, and are asked by those",
            True,
        ),
        Limit(
            "serving",
            load.utilisation / follow,
            "its one process reads every interaction while it watches a specialist (taken to cost what context's does)",
            "cells; beyond them, a sample of the interactions",
            True,
        ),
        Limit(
            "audit",
            hardware.clickhouse_cores * load.utilisation / cost(load, costs, "clickhouse"),
            "a chain is written to and read from one ClickHouse server",
            "cells; beyond them, a server for each of several sets of partitions, with audit replicas of their own",
            True,
        ),
        Limit(
            "triage",
            _over(hardware.replica_disk_gb * 1e6, item_kb),
            f"every replica holds every item of {KEPT_DAYS} days on its disk",
            "less to experts (items_per_day of the bundle), or a larger disk",
            False,
        ),
        Limit(
            "trainer",
            _over(hardware.replica_memory_gib * 2**30 / 1e3, item_kb),
            f"one process holds the edge cases and labels of {KEPT_DAYS} days in memory",
            "less to experts (items_per_day of the bundle), or more memory",
            False,
        ),
        Limit(
            "triage.actions.v1",
            _over(following, load.experts * ACTIONS_PER_ITEM * follow),
            "one partition, and every triage replica reads all of it (taken to cost what context's reading does)",
            "less to experts; beyond that, actions partitioned by tenant",
            False,
        ),
        Limit(
            "router.usage.v1",
            routers * load.utilisation / cost(load, costs, "router") if load.limited_applications else math.inf,
            "one partition; every router reads the totals of all others"
            + ("" if load.limited_applications else " (no application has limits here)"),
            "limits on fewer applications, or cells, each with its part of the limit",
            True,
        ),
    ]
    for name, share in load.engines.items():
        engine = costs.engines[name]
        if engine.units_at_most and share:
            each = share * engine_seconds(load, costs, name)
            found.append(
                Limit(
                    f"Triton ({name})",
                    engine.units_at_most * load.utilisation / each,
                    f"the router knows one Triton, and its one machine has {engine.units_at_most} cores at most",
                    "OpenAI-compatible servers as upstreams of the bundle, any number behind a balancer",
                    False,
                )
            )
    return sorted(found, key=lambda limit: limit.per_second)


def cost(load: Load, costs: Costs, part: str) -> float:
    """Return the processor seconds that a mean request of the load takes in a part."""
    requests, records = costs.requests, costs.records
    if part == "triage":
        return records.triage_us / 1e6
    if part in ("audit", "clickhouse"):
        us = records.audit_us if part == "audit" else records.clickhouse_us
        plain, streamed = (
            us * sum(kept.topic_records.values()) / 1e6 for kept in (requests.plain_kept, requests.streamed_kept)
        )
        return plain + load.streamed * (streamed - plain)
    plain, streamed = requests.plain_ms[part] / 1e3, requests.streamed_ms[part] / 1e3
    more = max(0.0, load.prompt_tokens + load.answer_tokens - requests.tokens)
    return plain + load.streamed * (streamed - plain) + more * requests.token_us[part] / 1e6


def engine_seconds(load: Load, costs: Costs, name: str) -> float:
    """Return the seconds of one unit, a core or a GPU, that a mean request takes on an engine."""
    engine = costs.engines[name]
    read = load.prompt_tokens + load.context_tokens
    reading = read / engine.prompt_tokens_per_second if engine.prompt_tokens_per_second else 0.0
    return reading + load.answer_tokens / engine.answer_tokens_per_second


def people(load: Load) -> float:
    """Return how many experts work all day at what they are asked."""
    return load.per_day * load.experts * load.expert_seconds / (load.expert_hours * 3600)


def _over(most: float, each: float) -> float:
    return most / each if each else math.inf
