"""What is reckoned from a run: costs of a request, of each token more, of what every replica follows."""

from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from benchmarks.capacity_costs import COSTED, PARTS, Costed, Kept, requests_costs, write
from gyre.capacity.costs import COSTS, Requests, load_costs

PROCESSES: Any = {part: SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=100 * 2**20)) for part in PARTS}


def costed(each: float, count: int = 1000) -> Costed:
    return Costed(dict.fromkeys(COSTED, each), count, 1234.4, 1.8)


def kept(interaction_bytes: int, clickhouse_bytes: int = 2_000_000) -> Kept:
    return Kept(
        {"router.interactions.v1": interaction_bytes, "router.usage.v1": 50_000, "__consumer_offsets": 10**9},
        {"router.interactions.v1": 1000, "router.usage.v1": 500, "triage.labels.v1": 3},
        clickhouse_bytes,
    )


def costs_of(long: float) -> Requests:
    return requests_costs(
        {"plain": costed(0.002), "streamed": costed(0.003), "long": costed(long)},
        {"plain": kept(1_500_000), "streamed": kept(2_500_000)},
        followed={"following context": 0.2, "router 2": 0.01},
        tokens=60,
        more_tokens=750,
        parts=PROCESSES,
    )


def test_costs_are_those_of_one_request_and_of_one_token_more() -> None:
    found = costs_of(long=0.0035)
    assert found.plain_ms["router"] == pytest.approx(2)
    assert found.streamed_ms["kafka"] == pytest.approx(3)
    assert found.token_us["governance"] == pytest.approx(2)
    assert found.follow_us["context"] == pytest.approx(200)
    assert found.follow_us["router"] == pytest.approx(20)  # 1,000 requests told 500 totals
    # Kafka's own topics aside, and what has a record now and then.
    assert found.plain_kept.topic_bytes == {"router.interactions.v1": 1500, "router.usage.v1": 50}
    assert found.plain_kept.topic_records == {"router.interactions.v1": 1, "router.usage.v1": 0.5}
    assert found.streamed_kept.topic_bytes["router.interactions.v1"] == 2500
    assert found.plain_kept.clickhouse_bytes == 2000
    assert found.memory_mib["triage"] == 100
    assert "of which other work left 1.8" in found.source.machine


def test_what_a_longer_request_seemed_to_save_is_noise() -> None:
    assert set(costs_of(long=0.0019).token_us.values()) == {0}


def test_costs_of_requests_are_written_and_the_others_left_as_they_are(tmp_path: Any) -> None:
    file = tmp_path / "costs.yaml"
    file.write_text(COSTS.read_text())
    before = load_costs(file)
    write(file, before.requests.model_copy(update={"speed": 4321}))
    assert load_costs(file) == before.model_copy(
        update={"requests": before.requests.model_copy(update={"speed": 4321})}
    )
    assert list(yaml.safe_load(file.read_text())) == ["requests", "records", "holdings", "hardware", "engines"]
