"""How far a consumer is behind, as Prometheus is told it."""

import time
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from prometheus_client import REGISTRY

from services.runtime.kafka import Lag

FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)
NOW_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW_MS / 1000)


def told(name: str, place: TopicPartition = FIRST) -> float | None:
    labels = {"consumer": "c", "topic": place.topic, "partition": str(place.partition)}
    return REGISTRY.get_sample_value(name, labels)


def consumer(highwater: int | None, *assigned: TopicPartition) -> Any:
    return SimpleNamespace(highwater=lambda _: highwater, assignment=lambda: set(assigned))


def messages(*seconds_ago: float) -> list[Any]:
    return [SimpleNamespace(timestamp=NOW_MS - round(seconds * 1000)) for seconds in seconds_ago]


def test_while_a_batch_is_in_hand_its_first_record_is_the_oldest() -> None:
    Lag("c").polled(consumer(9, FIRST), {FIRST: messages(30, 20)})
    assert told("gyre_lag_seconds") == 30


def test_nothing_waits_behind_a_batch_that_ends_the_partition() -> None:
    lag = Lag("c")
    lag.taken(FIRST, NOW_MS - 30_000)
    assert lag.handled(consumer(9, FIRST), FIRST, offset=8, timestamp_ms=NOW_MS - 20_000) == 0
    assert (told("gyre_lag_records"), told("gyre_lag_seconds")) == (0, 0)


def test_what_is_behind_a_batch_is_no_older_than_its_last_record() -> None:
    lag = Lag("c")
    lag.taken(FIRST, NOW_MS - 30_000)
    assert lag.handled(consumer(12, FIRST), FIRST, offset=8, timestamp_ms=NOW_MS - 20_000) == 3
    assert (told("gyre_lag_records"), told("gyre_lag_seconds")) == (3, 20)


def test_markers_of_transactions_that_nobody_reads_do_not_wait() -> None:
    lag = Lag("c")
    lag.taken(FIRST, NOW_MS - 30_000)
    lag.handled(consumer(10, FIRST), FIRST, offset=8, timestamp_ms=NOW_MS - 20_000)
    lag.polled(consumer(10, FIRST), {})
    assert (told("gyre_lag_records"), told("gyre_lag_seconds")) == (0, 0)


def test_a_partition_that_is_another_s_does_not_wait_here() -> None:
    lag = Lag("c")
    lag.polled(consumer(9, FIRST, SECOND), {FIRST: messages(30), SECOND: messages(10)})
    lag.polled(consumer(9, SECOND), {SECOND: messages(10)})
    assert (told("gyre_lag_seconds", FIRST), told("gyre_lag_seconds", SECOND)) == (0, 10)
    assert lag.handled(consumer(9, FIRST), SECOND, offset=1, timestamp_ms=NOW_MS) == 0
    assert told("gyre_lag_seconds", SECOND) == 0


def test_a_partition_that_goes_the_moment_it_is_asked_about_does_not_wait_here() -> None:
    def gone(_: TopicPartition) -> int:
        raise AssertionError("Partition is not assigned")

    lag = Lag("c")
    lag.taken(FIRST, NOW_MS - 30_000)
    going = SimpleNamespace(highwater=gone, assignment=lambda: {FIRST})
    assert lag.handled(going, FIRST, offset=1, timestamp_ms=NOW_MS) == 0
    assert told("gyre_lag_seconds") == 0
