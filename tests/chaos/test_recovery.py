"""Parts that are killed, stopped or left by their clients, under traffic."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pytest
from openai import InternalServerError

from gyre.api.triage.v1 import review_pb2, review_pb2_grpc
from tests.whole_stack import CALL_SECONDS, RETRIES, WholeStack, wait_for

pytestmark = pytest.mark.timeout(600)  # the first test starts the stack

IN_FLIGHT = 2
ASKED_BEFORE_AND_AFTER = 4
# The same asked again, by another test too, would be asked of experts once.
NUMBERS = itertools.count()
STORY = "Tell me a very long story about the sea."


class Traffic:
    """An application that asks all the time, and tries again where it gets no answer."""

    def __init__(self, gyre: WholeStack) -> None:
        self._gyre = gyre
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(IN_FLIGHT)
        self._asking: list[Future[None]] = []
        self.answered: list[str] = []

    def __enter__(self) -> Self:
        self._asking = [self._pool.submit(self._ask) for _ in range(IN_FLIGHT)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._pool.shutdown()
        if error is None:
            for asking in self._asking:
                asking.result()

    def go_on(self) -> None:
        """Wait until some more requests are answered."""
        goal = len(self.answered) + ASKED_BEFORE_AND_AFTER
        wait_for(lambda: len(self.answered) >= goal or any(asking.done() for asking in self._asking))

    def _ask(self) -> None:
        while not self._stopped.is_set():
            answer = self._gyre.ask(f"How do you spell the number {next(NUMBERS)}?", retries=RETRIES)
            assert answer.choices[0].message.content
            self.answered.append(answer.id)


def assert_nothing_is_lost_or_repeated(gyre: WholeStack, answered: list[str]) -> None:
    """Wait until all that was answered is on record, once, and in the experts' queue, once; the chains are intact."""
    assert len(answered) == len(set(answered))
    finished = "SELECT request_id, count() AS rows FROM gyre.interactions WHERE state = 'finished' GROUP BY request_id"
    flagged = "SELECT DISTINCT request_id FROM gyre.edge_cases"

    def recorded() -> dict[str, int]:
        rows = {row["request_id"]: row["rows"] for row in gyre.rows(finished)}
        return rows if set(answered) <= set(rows) else {}

    def queued() -> bool:
        cases = {row["request_id"] for row in gyre.rows(flagged)}
        return set(answered) <= cases and open_items(gyre) == len(cases)

    assert set(wait_for(recorded).values()) == {1}
    wait_for(queued)
    gyre.assert_every_chain_is_intact()


def open_items(gyre: WholeStack) -> int:
    with gyre.channel("triage") as channel:
        review = review_pb2_grpc.ReviewStub(channel)
        stats = review.Stats(review_pb2.StatsRequest(), metadata=gyre.expert, timeout=CALL_SECONDS)
    return sum(queue.open for queue in stats.queues)


@pytest.mark.parametrize("victim", ["audit", "triage", "router"])
def test_a_service_that_is_killed_under_traffic_loses_and_repeats_nothing(gyre: WholeStack, victim: str) -> None:
    with Traffic(gyre) as traffic:
        traffic.go_on()
        gyre.kill(victim)
        traffic.go_on()
    assert_nothing_is_lost_or_repeated(gyre, traffic.answered)


def test_a_stream_that_the_routers_death_cut_off_has_left_its_trace(gyre: WholeStack) -> None:
    with gyre.openai() as client:
        stream = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": STORY}], temperature=0, stream=True
        )
        request_id = next(iter(stream)).id
        gyre.kill("router")
    row = gyre.interaction(request_id, state="unfinished")
    assert (row["streamed"], row["finish_reason"]) == (True, "")


def test_a_client_that_leaves_in_the_middle_of_a_stream_is_on_record_as_cancelled(gyre: WholeStack) -> None:
    with gyre.openai() as client:
        stream = client.chat.completions.create(
            model="auto", messages=[{"role": "user", "content": STORY}], temperature=0, stream=True
        )
        first = next(iter(stream))
        stream.close()
    row = gyre.interaction(first.id)
    assert row["finish_reason"] == "cancelled"
    assert row["answer"].startswith(first.choices[0].delta.content or "nothing was said")


def test_without_kafka_nothing_is_answered_unrecorded_and_all_recovers_when_it_is_back(gyre: WholeStack) -> None:
    gyre.stop("kafka")
    with pytest.raises(InternalServerError) as refused:
        gyre.ask("Is anybody there?")
    assert (refused.value.status_code, refused.value.code) == (503, "unavailable")
    assert "could not be recorded" in refused.value.message

    gyre.stack.start(("kafka",))
    answer = gyre.ask("Is anybody there again?", retries=RETRIES)
    gyre.interaction(answer.id, seconds=60)
    assert_nothing_is_lost_or_repeated(gyre, [answer.id])
    gyre.wait_ready()
