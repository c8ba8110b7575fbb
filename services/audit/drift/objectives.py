"""Service objectives: how fast their error budgets burn, and alerts when that is too fast.

The burn rate is the share of requests that failed over the share that may: at 1 the budget lasts just as long as the
objective is for. An alert wants a high rate over a long window and still over a short one, so that it is neither set
off by a few requests nor outlives its cause ("The Site Reliability Workbook", Beyer et al. 2018, chapter 5).
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from schemas.bundle import Bundle, Objectives
from schemas.events import Drift, Interaction
from services.audit.drift.measures import unavailable


@dataclass(frozen=True)
class Rule:
    """When it is an alert. Of 30 days' budget, 14.4x over an hour is 2 %, 6x over 6 hours 5 %, 1x over 3 days 10 %."""

    rate: float
    long_minutes: int
    short_minutes: int

    @property
    def name(self) -> str:
        """As events and metrics have it."""
        return f"{self.rate:g}x over {self.long_minutes / 60:g} h"


RULES = (Rule(14.4, 60, 5), Rule(6.0, 360, 30), Rule(1.0, 4320, 360))
# Fewer failures in the long window are no alert: where few ask, one failure would be a high rate.
FEWEST_FAILURES = 5
_MINUTES = max(rule.long_minutes for rule in RULES)


class Key(NamedTuple):
    """Whose objective: a task's or an application's."""

    tenant: str
    task: str
    application: str
    objective: str  # availability or latency


class _Budget:
    """Requests and failures of each of the last minutes, in a ring."""

    def __init__(self) -> None:
        self.now = 0  # the latest minute heard of, since 1970
        self.firing: set[Rule] = set()
        self._requests = array("I", bytes(4 * _MINUTES))
        self._failures = array("I", bytes(4 * _MINUTES))

    def turn(self, minute: int) -> bool:
        """Go on to a minute; say whether it is a new one."""
        if minute <= self.now:
            return False
        for passed in range(max(self.now + 1, minute - _MINUTES + 1), minute + 1):
            self._requests[passed % _MINUTES] = self._failures[passed % _MINUTES] = 0
        self.now = minute
        return True

    def count(self, minute: int, failed: bool) -> None:
        """Count a request of a minute that is not older than the ring."""
        if minute > self.now - _MINUTES:
            self._requests[minute % _MINUTES] += 1
            self._failures[minute % _MINUTES] += failed

    def over(self, minutes: int) -> tuple[int, int]:
        """Return the requests and failures of the latest whole minutes."""
        begin, end = (self.now - minutes) % _MINUTES, self.now % _MINUTES
        if begin < end:
            return sum(self._requests[begin:end]), sum(self._failures[begin:end])
        requests = sum(self._requests[begin:]) + sum(self._requests[:end])
        return requests, sum(self._failures[begin:]) + sum(self._failures[:end])


class Budgets:
    """The error budgets of a bundle's objectives."""

    def __init__(self) -> None:
        self._shares: dict[Key, float] = {}  # that may fail
        self._budgets: dict[Key, _Budget] = {}
        self._bundle: Bundle | None = None

    def observe(self, interaction: Interaction, bundle: Bundle | None) -> list[Drift]:
        """Count a request, and return the alerts that fire or clear with the minutes before it.

        Args:
            interaction: As it is on record.
            bundle: In force, if any: it has the objectives.
        """
        self._take(bundle)
        if bundle is None or interaction.phase != "finished" or interaction.finish_reason == "cancelled":
            return []
        failed, minute = unavailable(interaction), int(interaction.finished_at.timestamp() // 60)
        found: list[Drift] = []
        task, application = bundle.tasks.get(interaction.task), bundle.applications.get(interaction.application)
        for owner, name, caller in ((task, interaction.task, ""), (application, "", interaction.application)):
            latency = owner.objectives.latency if owner is not None else None
            for objective, misses in (
                ("availability", failed),
                ("latency", latency is not None and interaction.total_us > 1000 * latency.ms),
            ):
                key = Key(interaction.tenant, name, caller, objective)
                budget = self._budgets.get(key)
                if budget is None or (objective == "latency" and (failed or interaction.finish_reason == "refused")):
                    continue
                found += self._turn(key, budget, minute)
                budget.count(minute, misses)
        return found

    def pass_time(self, now: datetime) -> list[Drift]:
        """Return the alerts that clear although nobody asks any more."""
        minute = int(now.timestamp() // 60)
        return [each for key, budget in self._budgets.items() for each in self._turn(key, budget, minute)]

    def rates(self) -> Iterator[tuple[Key, Rule, float, bool]]:
        """Yield of each objective and rule the burn rate over the long window, and whether it is an alert now."""
        for key, budget in self._budgets.items():
            for rule in RULES:
                yield key, rule, self._rate(key, budget, rule.long_minutes), rule in budget.firing

    def _take(self, bundle: Bundle | None) -> None:
        if bundle is self._bundle or bundle is None:
            return
        self._bundle = bundle
        self._shares = {
            key: share
            for tenant, task, application, objectives in (
                *((each.tenant, name, "", each.objectives) for name, each in bundle.tasks.items()),
                *((each.tenant, "", name, each.objectives) for name, each in bundle.applications.items()),
            )
            for key, share in _shares(tenant, task, application, objectives)
        }
        self._budgets = {key: self._budgets.get(key) or _Budget() for key in self._shares}

    def _rate(self, key: Key, budget: _Budget, minutes: int) -> float:
        requests, failures = budget.over(minutes)
        return failures / requests / self._shares[key] if requests else 0.0

    def _turn(self, key: Key, budget: _Budget, minute: int) -> Iterator[Drift]:
        if not budget.turn(minute):
            return
        for rule in RULES:
            rate, failures = self._rate(key, budget, rule.long_minutes), budget.over(rule.long_minutes)[1]
            burns = failures >= FEWEST_FAILURES and rate >= rule.rate
            burns = burns and self._rate(key, budget, rule.short_minutes) >= rule.rate
            if burns != (rule in budget.firing):
                (budget.firing.add if burns else budget.firing.remove)(rule)
                yield self._alert(key, budget, rule, rate, "firing" if burns else "cleared")

    def _alert(self, key: Key, budget: _Budget, rule: Rule, rate: float, state: str) -> Drift:
        now = datetime.fromtimestamp(60 * budget.now, UTC)
        return Drift(
            task_key=f"{key.tenant}/{key.task}",
            tenant=key.tenant,
            task=key.task,
            application=key.application,
            model="",
            measure=f"objective: {key.objective}",
            aspect="objective",
            method=f"burn rate {rule.name}",
            state=state,
            statistic=rate,
            threshold=rule.rate,
            window_start=now - timedelta(minutes=rule.long_minutes),
            detected_at=now,
            before=1 - self._shares[key],
            after=1 - rate * self._shares[key],
            requests=budget.over(rule.long_minutes)[0],
        )


def _shares(tenant: str, task: str, application: str, objectives: Objectives) -> Iterator[tuple[Key, float]]:
    if objectives.availability is not None:
        yield Key(tenant, task, application, "availability"), 1 - objectives.availability
    if objectives.latency is not None:
        yield Key(tenant, task, application, "latency"), 1 - objectives.latency.share
