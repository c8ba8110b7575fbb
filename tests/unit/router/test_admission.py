"""Limits hold over all that was used, wherever; what is beyond them is turned away and told when to come back."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from schemas.bundle import Bundle, Limit, Price
from schemas.events import Usage
from services.router.admission import Admission
from services.router.domain.errors import LimitReached, Overloaded, Unrecorded
from services.router.domain.limits import Ledger, end_of, start_of
from services.runtime.errors import Unauthenticated
from tests.unit.router.fakes import Stack, ask, bundle

NOON = datetime(2026, 2, 28, 12, 34, 56, 789, tzinfo=UTC)


def limited(*limits: Limit, tenant: tuple[Limit, ...] = ()) -> Bundle:
    """The bundle with limits for the application `web` and its tenant, which has another application, `app`."""
    plain = bundle()
    web = plain.applications["web"].model_copy(update={"limits": limits})
    app = plain.applications["web"].model_copy(update={"key_sha256": ("0" * 64,)})
    shop = plain.tenants["shop"].model_copy(update={"limits": tenant})
    return plain.model_copy(
        update={
            "applications": {**plain.applications, "web": web, "app": app},
            "tenants": {**plain.tenants, "shop": shop},
        }
    )


def stack_with(*limits: Limit, tenant: tuple[Limit, ...] = ()) -> Stack:
    stack = Stack()
    object.__setattr__(stack.catalogue, "bundle", limited(*limits, tenant=tenant))
    return stack


def requests(at_most: int, per: str = "day") -> Limit:
    return Limit.model_validate({"of": "requests", "per": per, "at_most": at_most})


def tokens(at_most: int, per: str = "day") -> Limit:
    return Limit.model_validate({"of": "tokens", "per": per, "at_most": at_most})


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("minute", datetime(2026, 2, 28, 12, 34, tzinfo=UTC), datetime(2026, 2, 28, 12, 35, tzinfo=UTC)),
        ("hour", datetime(2026, 2, 28, 12, tzinfo=UTC), datetime(2026, 2, 28, 13, tzinfo=UTC)),
        ("day", datetime(2026, 2, 28, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
        ("month", datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)),
    ],
)
def test_periods_are_those_of_the_clock(period: str, start: datetime, end: datetime) -> None:
    assert (start_of(period, NOON), end_of(period, start_of(period, NOON))) == (start, end)


class TestLedger:
    def test_what_was_used_in_a_period_that_is_over_counts_no_more(self) -> None:
        ledger = Ledger("a")
        ledger.count("web", NOON, requests=3)
        assert ledger.exceeded([requests(3, "minute")], ["web"], NOON)
        assert not ledger.exceeded([requests(3, "minute")], ["web"], NOON + timedelta(minutes=1))
        assert ledger.exceeded([requests(3, "hour")], ["web"], NOON + timedelta(minutes=1))

    def test_what_other_replicas_told_is_added_once_however_often_they_tell(self) -> None:
        here, there = Ledger("a"), Ledger("b")
        here.count("web", NOON, requests=1)
        for _ in range(3):
            there.count("web", NOON, requests=1, tokens=10)
            here.take(there.usage("web", NOON))
        here.take(there.usage("web", NOON))
        assert here.exceeded([requests(4)], ["web"], NOON)
        assert not here.exceeded([requests(5)], ["web"], NOON)
        assert here.exceeded([tokens(30)], ["web"], NOON)
        assert not here.exceeded([tokens(31)], ["web"], NOON)

    def test_ones_own_word_is_not_added_to_what_one_knows(self) -> None:
        ledger = Ledger("a")
        ledger.count("web", NOON, requests=1)
        ledger.take(ledger.usage("web", NOON))
        assert not ledger.exceeded([requests(2)], ["web"], NOON)

    def test_what_is_told_late_of_a_period_before_does_not_count_for_this_one(self) -> None:
        here, there = Ledger("a"), Ledger("b")
        there.count("web", NOON, requests=9)
        late = there.usage("web", NOON)
        there.count("web", NOON + timedelta(minutes=1), requests=1)
        here.take(there.usage("web", NOON + timedelta(minutes=1)))
        here.take(late)
        assert not here.exceeded([requests(2, "minute")], ["web"], NOON + timedelta(minutes=1))

    def test_a_new_run_of_a_replica_goes_on_from_what_the_one_before_told(self) -> None:
        before, after = Ledger("run-1"), Ledger("run-2")
        before.count("web", NOON, requests=5, tokens=70)
        after.take(before.usage("web", NOON))
        after.count("web", NOON, requests=1)
        assert after.exceeded([requests(6)], ["web"], NOON)

    def test_of_several_limits_reached_the_longest_is_named(self) -> None:
        ledger = Ledger("a")
        ledger.count("web", NOON, requests=5)
        reached = ledger.exceeded([requests(5, "minute"), requests(5, "month"), requests(5, "day")], ["web"], NOON)
        assert reached is not None
        assert reached.per == "month"


async def test_an_application_gets_what_it_may_and_is_then_told_when_to_come_back() -> None:
    stack = stack_with(requests(2, "minute"))
    for _ in range(2):
        await stack.router.complete(stack.call(), ask("Hi"))
    asked = len(stack.log)
    with pytest.raises(LimitReached, match="application 'web' has used its 2 requests of this minute") as caught:
        await stack.router.complete(stack.call(), ask("Hi"))
    assert caught.value.retry_after_seconds == 20.0  # the scripted clock stands at 100 s
    assert len(stack.log) == asked
    stack.time.advance(caught.value.retry_after_seconds)
    await stack.router.complete(stack.call(), ask("Hi"))


async def test_tokens_count_with_those_of_answers_that_were_not_given() -> None:
    stack = stack_with(tokens(26))
    await stack.router.complete(stack.call(), ask("Hi"))
    await stack.router.complete(stack.call(), ask("Hi"))
    with pytest.raises(LimitReached, match="26 tokens of this day"):
        await stack.router.complete(stack.call(), ask("Hi"))


async def test_cost_counts_by_the_prices_of_the_models_that_were_asked() -> None:
    stack = stack_with(Limit.model_validate({"of": "cost", "per": "month", "at_most": 0.05}))
    bundle = stack.catalogue.bundle
    price = Price(per_million_prompt_tokens=1000.0, per_million_completion_tokens=7000.0)
    models = {name: model.model_copy(update={"price": price}) for name, model in bundle.models.items()}
    object.__setattr__(stack.catalogue, "bundle", bundle.model_copy(update={"models": models}))
    for _ in range(2):
        await stack.router.complete(stack.call(), ask("Hi"))
    assert stack.recorder.last.attempts[0].cost == pytest.approx(0.025)
    with pytest.raises(LimitReached, match=r"'web' has used its 0\.05 cost of this month"):
        await stack.router.complete(stack.call(), ask("Hi"))


async def test_the_applications_of_a_tenant_share_its_limits() -> None:
    stack = stack_with(tenant=(requests(2),))
    other = Ledger("other")
    other.count("app", stack.clock.now(), requests=1)
    stack.ledger.take(other.usage("app", stack.clock.now()))
    await stack.router.complete(stack.call(), ask("Hi"))
    with pytest.raises(LimitReached, match="tenant 'shop' has used its 2 requests"):
        await stack.router.complete(stack.call(), ask("Hi"))


async def test_without_limits_nothing_is_counted_and_nothing_told() -> None:
    stack = Stack()
    await stack.router.complete(stack.call(), ask("Hi"))
    assert stack.recorder.usages == []


async def test_an_answer_is_released_only_when_what_it_took_is_told() -> None:
    stack = stack_with(requests(9))
    await stack.router.complete(stack.call(), ask("Hi"))
    (day,) = [period for period in stack.recorder.usages[-1].periods if period.period == "day"]
    assert (day.requests, day.tokens) == (1, 13)

    async def unacknowledged(usage: Usage) -> None:
        raise Unrecorded("silent")

    stack.recorder.usage = unacknowledged  # type: ignore[method-assign]
    with pytest.raises(Unrecorded, match="could not be counted"):
        await stack.router.complete(stack.call(), ask("Hi"))


async def test_requests_at_once_are_told_of_together() -> None:
    stack = stack_with(requests(1000))
    await asyncio.gather(*(stack.router.complete(stack.call(), ask("Hi")) for _ in range(50)))
    (day,) = [period for period in stack.recorder.usages[-1].periods if period.period == "day"]
    assert (day.requests, day.tokens) == (50, 50 * 13)
    assert len(stack.recorder.usages) < 50


async def test_whoever_shows_no_key_uses_up_nothing() -> None:
    stack = stack_with(requests(1))
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            await stack.router.complete(stack.call(key="wrong"), ask("Hi"))
    await stack.router.complete(stack.call(), ask("Hi"))


async def test_a_full_replica_turns_requests_away_at_once_and_takes_others_when_it_is_not() -> None:
    stack = Stack()
    stack.router.admission = Admission(stack.ledger, stack.recorder, stack.clock, in_flight=1)
    stack.models.hangs_after = 0
    first = asyncio.create_task(stack.router.complete(stack.call(), ask("Hi")))
    await stack.models.hanging.wait()
    with pytest.raises(Overloaded):
        await stack.router.complete(stack.call(), ask("Hi"))
    with pytest.raises(Overloaded):
        await anext(stack.router.stream(stack.call(), ask("Hi")))
    stack.models.hangs_after = None
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await stack.router.complete(stack.call(), ask("Hi"))
