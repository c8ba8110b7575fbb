from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.bundle import Bundle, LatencyObjective, Objectives, load_bundle
from schemas.events import Drift
from services.audit.drift.objectives import Budgets
from tests.unit.audit.test_watch import interaction

BEGIN = datetime(2026, 5, 4, 9, 0, tzinfo=UTC)
SAMPLE = Path(__file__).parents[3] / "deploy/bundle"
TASK, APPLICATION = "consumer-services", "concierge"


def bundle(task: Objectives | None = None, application: Objectives | None = None) -> Bundle:
    sample = load_bundle(SAMPLE)
    changed = sample.tasks[TASK].model_copy(update={"objectives": task or Objectives()})
    caller = sample.applications[APPLICATION].model_copy(update={"objectives": application or Objectives()})
    return sample.model_copy(update={"tasks": {TASK: changed}, "applications": {APPLICATION: caller}})


class Played:
    """Requests of one a second, and the alerts that they set off."""

    def __init__(self, bundle: Bundle) -> None:
        self.budgets = Budgets()
        self.bundle = bundle
        self.now = BEGIN
        self.alerts: list[Drift] = []

    def seconds(self, count: int, failing: int = 0, total_us: int = 1000, every: int = 1) -> None:
        """Play a while in which of each 1,000 requests so many fail."""
        for number in range(0, count, every):
            self.now += timedelta(seconds=every)
            self.alerts += self.budgets.observe(
                interaction(
                    tenant="customer-care",
                    task=TASK,
                    application=APPLICATION,
                    received_at=self.now,
                    finished_at=self.now,
                    finish_reason="error" if number // every * failing % 1000 < failing else "stop",
                    total_us=total_us,
                ),
                self.bundle,
            )

    def states(self) -> list[tuple[str, str]]:
        return [(each.method, each.state) for each in self.alerts]


AVAILABLE = bundle(task=Objectives(availability=0.99))


def test_within_the_budget_there_is_no_alert() -> None:
    played = Played(AVAILABLE)
    played.seconds(4 * 3600, failing=8)
    assert not played.alerts


def test_a_fast_burn_fires_within_minutes_and_clears_soon_after_its_end() -> None:
    played = Played(AVAILABLE)
    played.seconds(3600)
    began = played.now
    played.seconds(1200, failing=500)

    fired = [each for each in played.alerts if each.method.startswith("burn rate 14.4x")]
    (alert,) = fired
    # 14.4 % of an hour's requests have failed after 17 minutes of 50 %.
    assert timedelta(minutes=15) < alert.detected_at - began < timedelta(minutes=21)
    assert (alert.measure, alert.aspect, alert.state) == ("objective: availability", "objective", "firing")
    assert (alert.task_key, alert.application, alert.before) == ("customer-care/consumer-services", "", 0.99)
    assert alert.statistic >= alert.threshold == 14.4
    assert alert.after == pytest.approx(1 - alert.statistic * 0.01)

    ended = played.now
    played.seconds(600)
    cleared = next(each for each in played.alerts if each.method == alert.method and each.state == "cleared")
    assert timedelta() < cleared.detected_at - ended <= timedelta(minutes=6)


def test_a_slow_burn_fires_over_days_and_not_before() -> None:
    played = Played(AVAILABLE)
    played.seconds(4 * 86_400, failing=18, every=20)
    assert played.states() == [("burn rate 1x over 72 h", "firing")]


def test_an_alert_clears_when_nobody_asks_any_more() -> None:
    played = Played(AVAILABLE)
    played.seconds(900, failing=500)
    firing = {method for method, state in played.states() if state == "firing"}
    assert firing

    cleared = played.budgets.pass_time(played.now + timedelta(days=4))

    assert {each.method for each in cleared if each.state == "cleared"} == firing
    assert not any(fires for *_, fires in played.budgets.rates())


def test_a_few_failures_of_few_requests_are_no_alert() -> None:
    played = Played(AVAILABLE)
    played.seconds(4, failing=1000)
    played.seconds(120)
    assert not played.alerts


def test_slow_answers_are_an_applications_alert() -> None:
    promised = Objectives(latency=LatencyObjective(ms=800, share=0.95))
    played = Played(bundle(application=promised))
    played.seconds(600, total_us=700_000)
    assert not played.alerts
    played.seconds(3600, total_us=900_000)
    alert = played.alerts[0]
    assert (alert.measure, alert.application, alert.task) == ("objective: latency", APPLICATION, "")
    assert alert.task_key == "customer-care/"


def test_an_objective_that_is_no_longer_wanted_is_forgotten() -> None:
    played = Played(AVAILABLE)
    played.seconds(900, failing=500)
    played.bundle = bundle()
    played.seconds(900, failing=500)
    assert not list(played.budgets.rates())


def test_a_late_record_counts_in_its_own_minute() -> None:
    played = Played(AVAILABLE)
    played.seconds(3600)
    played.now -= timedelta(minutes=30)
    played.seconds(600, failing=1000)
    played.now += timedelta(minutes=21)
    played.seconds(60)
    (rate,) = {rate for key, rule, rate, _ in played.budgets.rates() if rule.long_minutes == 60}
    assert rate == pytest.approx(100 * 600 / 4200, rel=0.05)
