"""How Gyre recovers from a fault under traffic: what is refused meanwhile, when it answers and records again."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from clickhouse_connect.driver.exceptions import Error as ClickHouseError

from gyre.api.triage.v1 import review_pb2, review_pb2_grpc
from tests.chaos.traffic import MASK, RECOVERY_SECONDS, UNCHECKED, Traffic
from tests.whole_stack import CALL_SECONDS, WholeStack, wait_for


@dataclass(frozen=True)
class Recovery:
    """What a fault cost.

    Attributes:
        fault: What failed, and how.
        refused: Requests that were sent while Gyre could not answer.
        answers_seconds: From the fault's end to an answer of a request that was sent after it.
        recorded_seconds: From the fault's end until that answer could be read in ClickHouse.
    """

    fault: str
    refused: int
    answers_seconds: float
    recorded_seconds: float


RECOVERIES: list[Recovery] = []
"""Of this run, for the table in the end."""


def table(recoveries: Sequence[Recovery]) -> str:
    """Return a table in Markdown."""
    rows = [
        f"| {each.fault} | {each.refused} | {each.answers_seconds:.1f} | {each.recorded_seconds:.1f} |"
        for each in recoveries
    ]
    return "\n".join(["| fault | refused | answers after, s | on record after, s |", "|---|--:|--:|--:|", *rows])


def recover(
    gyre: WholeStack,
    what: str,
    fault: AbstractContextManager[None],
    until: Callable[[Traffic], None] = Traffic.meet,
) -> None:
    """Let a fault come and go under traffic, see that nothing is lost, doubled or unchecked, and note what it cost."""
    with Traffic(gyre) as traffic:
        traffic.go_on()
        assert traffic.refusals == []
        with fault:
            until(traffic)
        over = time.monotonic()
        answer = traffic.first_answer_since(over)
        wait_for(lambda: _is_recorded(gyre, answer.request_id), RECOVERY_SECONDS)
        recorded = time.monotonic()
        gyre.wait_ready(seconds=RECOVERY_SECONDS)
        traffic.go_on()
    RECOVERIES.append(Recovery(what, len(traffic.refusals), answer.came - over, recorded - over))
    assert_nothing_is_lost_or_repeated(gyre, [answer.request_id for answer in traffic.answers])
    assert_all_was_checked(traffic.received)


def _is_recorded(gyre: WholeStack, request_id: str) -> bool:
    try:
        return bool(gyre.rows("SELECT 1 FROM gyre.interactions WHERE request_id = {id:String}", id=request_id))
    except ClickHouseError:
        return False  # it is away itself


def assert_all_was_checked(received: Sequence[str]) -> None:
    """See that nothing was received that should have been masked, in whole answers or in such as were cut off."""
    assert any(MASK in text for text in received), "nothing was there to be masked"
    for text in received:
        assert not re.search(rf"\b{UNCHECKED}\b", text, re.IGNORECASE), text


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

    assert set(wait_for(recorded, RECOVERY_SECONDS).values()) == {1}
    wait_for(queued, RECOVERY_SECONDS)
    gyre.assert_every_chain_is_intact()


def open_items(gyre: WholeStack) -> int:
    """How many items wait for experts."""
    with gyre.channel("triage") as channel:
        review = review_pb2_grpc.ReviewStub(channel)
        stats = review.Stats(review_pb2.StatsRequest(), metadata=gyre.expert, timeout=CALL_SECONDS)
    return sum(queue.open for queue in stats.queues)
