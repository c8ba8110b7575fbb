import pytest

from services.runtime.errors import ResourceExhausted
from services.triage.domain.limits import Attempts, Pace


def test_the_first_attempts_are_free_and_then_each_wait_is_twice_the_one_before() -> None:
    attempts, now = Attempts(free=3, longest_seconds=8), 0.0
    for _ in range(3):
        attempts.begin("ann", now)
    for wait_seconds in (1, 2, 4, 8, 8):
        with pytest.raises(ResourceExhausted) as refused:
            attempts.begin("ann", now + wait_seconds - 0.5)
        assert refused.value.retry_after_seconds == 0.5
        now += wait_seconds
        attempts.begin("ann", now)
    attempts.begin("bob", now)


def test_an_attempt_that_comes_too_early_does_not_make_the_wait_longer() -> None:
    attempts = Attempts(free=1, longest_seconds=8)
    attempts.begin("ann", 0.0)
    for now in (0.1, 0.5, 0.9):
        with pytest.raises(ResourceExhausted):
            attempts.begin("ann", now)
    attempts.begin("ann", 1.0)


def test_success_and_time_make_forget() -> None:
    attempts = Attempts(free=1, longest_seconds=8)
    attempts.begin("ann", 0.0)
    attempts.succeeded("ann")
    attempts.begin("ann", 0.0)
    attempts.begin("ann", 17.0)
    with pytest.raises(ResourceExhausted, match="in 1 s"):
        attempts.begin("ann", 17.0)


def test_an_attempt_taken_back_leaves_those_before_it() -> None:
    attempts = Attempts(free=2, longest_seconds=8)
    attempts.begin("here", 0.0)
    for _ in range(9):
        attempts.begin("here", 0.0)
        attempts.take_back("here")
    attempts.begin("here", 0.0)
    with pytest.raises(ResourceExhausted):
        attempts.begin("here", 0.0)


def test_memory_is_bounded_however_many_try() -> None:
    attempts, pace = Attempts(free=1, longest_seconds=8), Pace(60)
    for number in range(30_000):
        attempts.begin(f"name-{number}", number / 10_000)
        pace.take(f"session-{number}", number / 10)
    assert len(attempts._of) <= 10_000
    assert len(pace._of) <= 10_000


def test_a_minutes_worth_may_come_at_once_and_then_as_many_as_the_pace_allows() -> None:
    pace = Pace(per_minute=60)
    for _ in range(60):
        pace.take("ann", 0.0)
    with pytest.raises(ResourceExhausted, match="more than 60 requests a minute") as refused:
        pace.take("ann", 0.5)
    assert refused.value.retry_after_seconds == 0.5
    pace.take("ann", 1.0)
    pace.take("bob", 1.0)
    with pytest.raises(ResourceExhausted):
        pace.take("ann", 1.0)
