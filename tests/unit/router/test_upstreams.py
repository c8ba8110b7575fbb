"""A model that fails is left alone for a while, and nobody tries again without end."""

import pytest

from services.router.domain.upstreams import (
    FAILURES,
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    RETRIES_SAVED,
    RETRY_SHARE,
    Breaker,
    RetryBudget,
)


def broken(at: float) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker.failed(at)
    return breaker


def test_a_model_is_asked_until_it_has_failed_too_often_in_a_row() -> None:
    breaker = Breaker()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert breaker.lets_ask(0.0)
    breaker.succeeded()
    for _ in range(FAILURES - 1):
        breaker.failed(0.0)
    assert breaker.lets_ask(0.0)
    breaker.failed(0.0)
    assert not breaker.lets_ask(0.0)


def test_after_the_pause_one_request_may_ask_and_the_others_wait_for_what_becomes_of_it() -> None:
    breaker = broken(at=0.0)
    assert not breaker.lets_ask(FIRST_PAUSE_SECONDS - 0.01)
    assert breaker.lets_ask(FIRST_PAUSE_SECONDS)
    assert not breaker.lets_ask(FIRST_PAUSE_SECONDS)
    breaker.succeeded()
    assert breaker.lets_ask(FIRST_PAUSE_SECONDS)
    assert breaker.lets_ask(FIRST_PAUSE_SECONDS)


def test_the_pause_doubles_up_to_the_longest() -> None:
    breaker, now, pauses = broken(at=0.0), 0.0, []
    for _ in range(8):
        pause = next(seconds for seconds in range(1, 100) if breaker.lets_ask(now + seconds))
        pauses.append(pause)
        now += pause
        breaker.failed(now)
    assert pauses == [1, 2, 4, 8, 16, *[LONGEST_PAUSE_SECONDS] * 3]


def test_an_upstream_is_tried_again_for_a_share_of_its_requests() -> None:
    budget = RetryBudget()
    assert sum(budget.takes_another() for _ in range(100)) == RETRIES_SAVED
    granted = 0
    for _ in range(round(10 / RETRY_SHARE)):
        budget.asked()
        granted += budget.takes_another()
    assert granted == pytest.approx(10, abs=1)
