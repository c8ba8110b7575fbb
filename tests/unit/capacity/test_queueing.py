import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyre.capacity.queueing import Wait, erlang_c, saturation, wait

loads = st.floats(min_value=0.01, max_value=0.99)
counts = st.integers(min_value=1, max_value=200)


@pytest.mark.parametrize(
    ("offered", "servers", "chance"),
    [
        # One server waits as often as it is busy; of two, 2 a^2 / (2 (2 + a)) wait: both by hand.
        (0.5, 1, 0.5),
        (1.0, 2, 1 / 3),
        # From tables of Erlang's C.
        (2.0, 3, 0.4444),
        (8.0, 10, 0.4092),
        (20.0, 25, 0.2091),
    ],
)
def test_the_chance_to_wait_is_erlangs(offered: float, servers: int, chance: float) -> None:
    assert erlang_c(offered, servers) == pytest.approx(chance, abs=5e-4)


def test_the_chance_is_that_of_the_sum_it_is_defined_by() -> None:
    offered, servers = 7.3, 11
    last = offered**servers / math.factorial(servers) * servers / (servers - offered)
    whole = sum(offered**count / math.factorial(count) for count in range(servers)) + last
    assert erlang_c(offered, servers) == pytest.approx(last / whole)


def test_one_server_waits_as_pollaczek_and_khinchine_say() -> None:
    rate, service, variation = 80.0, 0.01, 0.25
    second_moment = service**2 * (1 + variation)
    assert wait(rate, service, 1, variation).mean_seconds == pytest.approx(
        rate * second_moment / (2 * (1 - rate * service))
    )


def test_what_never_varies_waits_half_as_long_as_what_is_exponential() -> None:
    assert wait(60, 0.01, 1, 0).mean_seconds == pytest.approx(wait(60, 0.01, 1, 1).mean_seconds / 2)


@given(loads, counts)
def test_as_many_are_in_line_as_come_while_one_waits(load: float, servers: int) -> None:
    # Little's law, with the length of M/M/c's line: C(c, a) a / (c - a).
    service = 0.02
    offered = load * servers
    rate = offered / service
    in_line = erlang_c(offered, servers) * offered / (servers - offered)
    assert rate * wait(rate, service, servers).mean_seconds == pytest.approx(in_line)


@given(loads, counts)
def test_more_servers_wait_less_and_one_line_less_than_several(load: float, servers: int) -> None:
    rate = load * servers / 0.01
    here = wait(rate, 0.01, servers)
    assert wait(rate, 0.01, servers + 1).mean_seconds <= here.mean_seconds
    assert here.mean_seconds <= wait(rate / servers, 0.01, 1).mean_seconds * (1 + 1e-9)


@given(loads, counts)
def test_a_higher_share_waits_no_less(load: float, servers: int) -> None:
    here = wait(load * servers / 0.01, 0.01, servers)
    quantiles = [here.quantile_seconds(share) for share in (0.5, 0.9, 0.99, 0.999)]
    assert quantiles == sorted(quantiles)


def test_the_share_that_never_waits_has_a_quantile_of_nothing() -> None:
    assert Wait(0.3, 0.01).quantile_seconds(0.7) == 0
    # Of those who wait, by the exponential distribution: 0.3 exp(-t / 0.0333) = 0.01.
    assert Wait(0.3, 0.01).quantile_seconds(0.99) == pytest.approx(0.01 / 0.3 * math.log(30))


def test_where_more_comes_than_can_be_served_the_wait_has_no_end() -> None:
    assert wait(101, 0.01, 1) == Wait(1.0, math.inf)


def test_a_machine_is_as_fast_as_its_busiest_part() -> None:
    seconds = {"router": 0.004, "governance": 0.001, "kafka": 0.001}
    assert saturation(seconds, {"router": 1, "governance": 1}, 2) == (pytest.approx(250), "router")
    assert saturation(seconds, {"router": 2, "governance": 1}, 2) == (pytest.approx(2 / 0.006), "processors")
    assert saturation(seconds, {"router": 8, "governance": 1}, 64) == (pytest.approx(1000), "governance")


@given(st.integers(1, 32), st.floats(0.1, 64))
def test_another_process_or_processor_never_makes_it_slower(processes: int, processors: float) -> None:
    seconds = {"router": 0.004, "governance": 0.001}
    here, _ = saturation(seconds, {"router": processes}, processors)
    assert saturation(seconds, {"router": processes + 1}, processors)[0] >= here
    assert saturation(seconds, {"router": processes}, processors * 2)[0] >= here
