"""What experts do goes on record, in order, however long Kafka is away, and what does not is in the log."""

import asyncio
from typing import Any

import pytest
import structlog

from schemas.events import ReviewAction
from services.runtime.errors import Rejected, Retryable
from services.runtime.kafka import clients
from services.triage import adapters
from services.triage.adapters import KafkaActions
from tests.unit.triage.builders import NOW


class Topic:
    """A producer whose broker may be away, or refuse."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.is_away = False
        self.refused = ""

    async def send(self, topic: str, action: ReviewAction) -> None:
        await asyncio.sleep(0)
        if self.is_away:
            raise Retryable("Kafka is away")
        if action.action_id == self.refused:
            raise Rejected("too large")
        self.written.append(action.action_id)


def action(action_id: str) -> ReviewAction:
    return ReviewAction(action_id=action_id, at=NOW, expert="ann", action="claimed")


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(clients, "RETRY_SECONDS", 0)
    return Topic()


async def test_what_is_acknowledged_was_written_in_the_order_in_which_it_was_done(topic: Any) -> None:
    async with KafkaActions(topic) as actions:
        names = [str(number) for number in range(20)]
        await asyncio.gather(*(actions.record(action(name)) for name in names))
        assert topic.written == names


async def test_what_is_done_while_kafka_is_away_is_written_when_it_is_back(topic: Any) -> None:
    topic.is_away = True
    async with KafkaActions(topic) as actions:
        done = [actions.record(action(name)) for name in ("1", "2")]
        for _ in range(9):
            await asyncio.sleep(0)
        assert not any(each.done() for each in done)
        topic.is_away = False
        await asyncio.gather(*done)
    assert sorted(topic.written) == ["1", "2"]


async def test_no_more_is_taken_than_can_be_remembered(topic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "MOST_WAITING", 2)
    topic.is_away = True
    async with KafkaActions(topic) as actions:
        for name in ("1", "2"):
            actions.check_room()
            actions.record(action(name))
        with pytest.raises(Retryable, match="cannot be put on record now"):
            actions.check_room()
        topic.is_away = False


async def test_a_process_that_ends_writes_what_waits(topic: Any) -> None:
    async with KafkaActions(topic) as actions:
        for name in ("1", "2"):
            actions.record(action(name))
    assert topic.written == ["1", "2"]


async def test_what_could_not_be_written_is_in_the_log(topic: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "STOP_SECONDS", 0.01)
    topic.refused = "1"
    with structlog.testing.capture_logs() as logged:
        async with KafkaActions(topic) as actions:
            await actions.record(action("1"))
            topic.is_away = True
            actions.record(action("2"))
    lost = [each for each in logged if each["event"] == "action is not on record"]
    assert [(each["action_action_id"], each["reason"]) for each in lost] == [
        ("1", "too large"),
        ("2", "the process ends"),
    ]
