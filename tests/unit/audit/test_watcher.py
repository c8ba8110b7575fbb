"""What the watcher makes of batches, without Kafka."""

from collections.abc import Iterable
from datetime import timedelta
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.bundle import Objectives, load_bundle
from schemas.codecs import codec
from schemas.events import BundlePublished, Drift, Interaction
from schemas.topics import Topic
from services.audit.drift.watch import Promise, Watch
from services.audit.watcher import _BATCH_RECORDS, Watcher
from services.runtime.clock import Clock
from services.runtime.settings import KafkaSettings
from tests.unit.audit.test_objectives import BEGIN, SAMPLE, TASK
from tests.unit.audit.test_watch import interaction

LATER = BEGIN + timedelta(days=30)


@pytest.fixture
def watcher() -> Watcher:
    watch = Watch(Promise(requests_per_false_alarm=100_000, parts=1, streams=10), None, Random(1).random)
    made = Watcher(KafkaSettings(), 1.0, watch, Clock(now=lambda: LATER))
    sample = load_bundle(SAMPLE)
    tasks = {
        name: task.model_copy(update={"objectives": Objectives(availability=0.99)} if name == TASK else {})
        for name, task in sample.tasks.items()
    }
    bundle = sample.model_copy(update={"tasks": tasks})
    made._take_bundle(BundlePublished(version=bundle.version, published_at=BEGIN, content=bundle.model_dump_json()))
    return made


def asked(task: str, minutes: float, **changed: object) -> Interaction:
    at = BEGIN + timedelta(minutes=minutes)
    return interaction(tenant="customer-care", task=task, received_at=at, finished_at=at, **changed)


def told(watcher: Watcher, interactions: Iterable[Interaction]) -> list[Drift]:
    """Return the alerts that a batch sets off."""
    messages: list[Any] = [
        SimpleNamespace(key=each.request_id.encode(), value=codec(Topic.INTERACTIONS).encode(each))
        for each in interactions
    ]
    return [each for each in watcher._take(messages) if each.aspect == "objective"]


def test_an_objective_of_what_went_quiet_fires_and_clears_with_others_traffic(watcher: Watcher) -> None:
    failures = [asked(TASK, 0.5, finish_reason="error") for _ in range(500)]
    for start in range(0, len(failures), _BATCH_RECORDS):
        assert not told(watcher, failures[start : start + _BATCH_RECORDS])

    fired = told(watcher, [asked("another", 1)])
    assert {each.state for each in fired} == {"firing"}
    assert {each.task for each in fired} == {TASK}
    assert {each.detected_at for each in fired} == {BEGIN + timedelta(minutes=1)}

    later = [each for minute in range(2, 7 * 60) for each in told(watcher, [asked("another", minute)])]
    assert {(each.method, each.state) for each in later} == {(each.method, "cleared") for each in fired}


def test_a_full_batch_passes_no_time_for_there_may_be_earlier_ones_behind_it(watcher: Watcher) -> None:
    assert not told(watcher, [asked(TASK, 0.5, finish_reason="error") for _ in range(10)])
    assert not told(watcher, [asked("another", 1) for _ in range(_BATCH_RECORDS)])


def test_a_record_of_the_future_keeps_no_objective_from_firing(watcher: Watcher) -> None:
    told(watcher, [asked("another", 365 * 24 * 60)])
    now = (LATER - BEGIN) / timedelta(minutes=1)
    assert not told(watcher, [asked(TASK, now + 0.5, finish_reason="error") for _ in range(10)])
    assert {each.state for each in told(watcher, [asked(TASK, now + 1)])} == {"firing"}
