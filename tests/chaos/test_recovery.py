"""Parts that are killed, stand still, are stopped or are left by their clients, under traffic."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psutil
import pytest
from openai import InternalServerError

from embedded.parts import PARTS, ports_of
from tests.chaos.clocks import Clock
from tests.chaos.extent import IS_WHOLE
from tests.chaos.recovery import assert_nothing_is_lost_or_repeated, recover
from tests.chaos.traffic import Traffic
from tests.disks import filled
from tests.whole_stack import RETRIES, WholeStack

pytestmark = pytest.mark.timeout(600)  # the first test starts the stack

BREAKS = 5
HOUR_SECONDS = 3600
STORY = "Tell me a very long story about the sea."


def chosen(*few: str) -> tuple[str, ...]:
    """All parts for `make chaos`, else a few."""
    return PARTS if IS_WHOLE else few


@contextmanager
def killed(gyre: WholeStack, *parts: str) -> Iterator[None]:
    """End parts at once, without warning."""
    for pid in [gyre.states()[part].pid for part in parts]:
        os.kill(pid, signal.SIGKILL)
    yield


@contextmanager
def held(gyre: WholeStack, part: str) -> Iterator[None]:
    """Have a part stand still: its connections stay open, and nothing comes from them."""
    first = psutil.Process(gyre.states()[part].pid)
    processes = [first, *first.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def break_connections(gyre: WholeStack, part: str) -> int:
    """End every connection to a part, at both of its ends, and return how many there were."""
    ports = " or ".join(f"dport = {gyre.stack.settings.port(variable)}" for variable in ports_of(part))
    ended = subprocess.run(
        ["ss", "--no-header", "-K", "-t", f"( {ports} )"], capture_output=True, text=True, check=False
    )
    if "not permitted" in ended.stderr:
        pytest.skip("wants a user who may end the connections of others")
    return len(ended.stdout.splitlines())


@pytest.mark.parametrize("part", chosen("kafka", "governance", "audit", "router"))
def test_a_part_that_is_killed_loses_and_repeats_nothing(gyre: WholeStack, part: str) -> None:
    recover(gyre, f"{part} killed", killed(gyre, part))


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(chosen("clickhouse", "triton"), 2)))
def test_two_parts_that_are_killed_together_lose_and_repeat_nothing(gyre: WholeStack, one: str, other: str) -> None:
    recover(gyre, f"{one} and {other} killed", killed(gyre, one, other))


@pytest.mark.parametrize("part", chosen("kafka"))
def test_a_part_that_stands_still_loses_and_repeats_nothing(gyre: WholeStack, part: str) -> None:
    recover(gyre, f"{part} stood still", held(gyre, part))


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS] if IS_WHOLE else [HOUR_SECONDS])
def test_a_clock_that_jumps_and_jumps_back_loses_and_repeats_nothing(
    gyre: WholeStack, clock: Clock, seconds: int
) -> None:
    if not clock.is_movable:
        pytest.skip("wants a C compiler, as cc")
    times = "SELECT toUnixTimestamp(min(received_at)), toUnixTimestamp(max(received_at)) FROM gyre.interactions"
    before = gyre.analyst.query(times).first_row
    recover(gyre, f"the clock {seconds / HOUR_SECONDS:+.0f} h and back", clock.jumped(seconds))
    after = gyre.analyst.query(times).first_row
    assert abs(after[seconds > 0] - before[seconds > 0]) > HOUR_SECONDS / 2


@pytest.mark.parametrize("part", chosen("kafka"))
def test_connections_that_break_lose_and_repeat_nothing(gyre: WholeStack, part: str) -> None:
    # What was sent and not acknowledged is sent again, and what was fetched and not taken is fetched again.
    def again_and_again(traffic: Traffic) -> None:
        for _ in range(BREAKS):
            assert break_connections(gyre, part) > 0
            traffic.meet()

    recover(gyre, f"connections to {part} broke {BREAKS} times", nullcontext(), again_and_again)


def test_a_full_disk_is_waited_for_and_loses_and_repeats_nothing(gyre: WholeStack) -> None:
    disk = gyre.stack.settings.state_dir
    if not disk.is_mount():
        pytest.skip("wants a user who may mount a disk")
    recover(gyre, "the disk of all but ClickHouse was full", filled(disk), Traffic.be_refused)


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
