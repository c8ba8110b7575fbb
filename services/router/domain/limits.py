"""What applications have used, and whether they may ask for more. Periods are those of the clock, in UTC."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from schemas.bundle import Limit
from schemas.events import PeriodUsage, Usage

PERIODS = ("minute", "hour", "day", "month")


def start_of(period: str, now: datetime) -> datetime:
    """Return when the period began that a time is in."""
    start = now.replace(second=0, microsecond=0)
    if period != "minute":
        start = start.replace(minute=0)
    if period in ("day", "month"):
        start = start.replace(hour=0)
    return start.replace(day=1) if period == "month" else start


def end_of(period: str, start: datetime) -> datetime:
    """Return when the period ends that begins then."""
    if period == "month":
        return (start + timedelta(days=31)).replace(day=1)
    return start + {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}[period]


@dataclass
class _Used:
    """Since a period began."""

    started_at: datetime
    requests: int = 0
    tokens: int = 0
    cost: float = 0.0

    def add(self, requests: int, tokens: int, cost: float) -> None:
        self.requests += requests
        self.tokens += tokens
        self.cost += cost


@dataclass
class _Totals:
    """Of one application, by period; what is of a period that is over counts no more."""

    _periods: dict[str, _Used] = field(default_factory=dict)

    def of(self, period: str, start: datetime) -> _Used:
        used = self._periods.get(period)
        if used is None or used.started_at < start:
            used = self._periods[period] = _Used(start)
        # What is told late, of a period before, goes nowhere.
        return used if used.started_at == start else _Used(start)


class Ledger:
    """What each application has used at this replica, and at all others as far as they have told."""

    def __init__(self, replica: str) -> None:
        """Begin with nothing; `replica` names this run."""
        self._replica = replica
        self._here: dict[str, _Totals] = {}
        self._elsewhere: dict[str, _Totals] = {}
        # What each replica told last, so that the next can take its place.
        self._told: dict[str, Usage] = {}

    def count(self, application: str, now: datetime, requests: int = 0, tokens: int = 0, cost: float = 0.0) -> None:
        """Add to what an application has used at this replica."""
        totals = self._here.setdefault(application, _Totals())
        for period in PERIODS:
            totals.of(period, start_of(period, now)).add(requests, tokens, cost)

    def take(self, usage: Usage) -> None:
        """Take in what another replica told."""
        if usage.replica == self._replica:
            return
        totals = self._elsewhere.setdefault(usage.application, _Totals())
        before = self._told.get(usage.usage_key)
        for period in before.periods if before else ():
            totals.of(period.period, period.started_at).add(-period.requests, -period.tokens, -period.cost)
        for period in usage.periods:
            totals.of(period.period, period.started_at).add(period.requests, period.tokens, period.cost)
        self._told[usage.usage_key] = usage

    def usage(self, application: str, now: datetime) -> Usage:
        """Return what an application has used at this replica, to be told to the others."""
        totals = self._here.setdefault(application, _Totals())
        used = [(period, totals.of(period, start_of(period, now))) for period in PERIODS]
        return Usage(
            usage_key=f"{self._replica}/{application}",
            replica=self._replica,
            application=application,
            counted_at=now,
            periods=tuple(
                PeriodUsage(
                    period=period,
                    started_at=each.started_at,
                    requests=each.requests,
                    tokens=each.tokens,
                    cost=each.cost,
                )
                for period, each in used
            ),
        )

    def exceeded(self, limits: Iterable[Limit], applications: Sequence[str], now: datetime) -> Limit | None:
        """Return the limit that some applications have reached together, of those the one that lasts longest."""
        reached = [limit for limit in limits if self._used(limit, applications, now) >= limit.at_most]
        return max(reached, key=lambda limit: PERIODS.index(limit.per), default=None)

    def _used(self, limit: Limit, applications: Sequence[str], now: datetime) -> float:
        start = start_of(limit.per, now)
        places = [place[name] for name in applications for place in (self._here, self._elsewhere) if name in place]
        used: float = sum(getattr(totals.of(limit.per, start), limit.of) for totals in places)
        return used
