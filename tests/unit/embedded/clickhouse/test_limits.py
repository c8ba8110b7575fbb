"""How much a read-only user may ask for."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.limits import QUOTA_SECONDS, READ_ONLY_SETTINGS, TIME, Quota, read_only_settings
from embedded.clickhouse.settings import Settings

SERVER = Path(__file__).parents[4] / "deploy" / "clickhouse" / "analyst.xml"


def test_a_read_only_user_may_lower_its_time_and_nothing_else() -> None:
    assert read_only_settings({}) == {**READ_ONLY_SETTINGS, "readonly": "1"}
    lowered = read_only_settings({TIME: "5", "max_memory_usage": "0", "readonly": "0"})
    assert lowered == {**READ_ONLY_SETTINGS, TIME: "5", "readonly": "1"}


@pytest.mark.parametrize("seconds", ["0", "61", "-1"])
def test_more_time_than_there_is_is_refused(seconds: str) -> None:
    with pytest.raises(ClickHouseError) as refused:
        read_only_settings({TIME: seconds})
    assert refused.value.code == 452


def spend(quota: Quota, now: list[float], seconds: float) -> None:
    with quota.query():
        now[0] += seconds


def test_an_hour_has_so_many_queries_and_the_next_begins_anew() -> None:
    now = [QUOTA_SECONDS * 1000.0]
    quota = Quota("analyst", 2, 100, lambda: now[0])
    for _ in range(2):
        spend(quota, now, 1)
    with pytest.raises(ClickHouseError) as refused:
        spend(quota, now, 1)
    assert refused.value.code == 201
    assert "queries = 3/2. Interval will end at 1970-02-11 17:00:00." in refused.value.text
    now[0] += QUOTA_SECONDS
    spend(quota, now, 1)


def test_an_hour_has_so_many_seconds_and_a_query_that_has_begun_may_go_on() -> None:
    now = [QUOTA_SECONDS * 1000.0]
    quota = Quota("analyst", 100, 5, lambda: now[0])
    spend(quota, now, 7)
    with pytest.raises(ClickHouseError) as refused:
        spend(quota, now, 0)
    assert refused.value.code == 201
    assert "execution_time = 7/5." in refused.value.text


def test_a_server_has_the_same_limits() -> None:
    profile = ElementTree.parse(SERVER).find("profiles/analyst")
    interval = ElementTree.parse(SERVER).find("quotas/analyst/interval")
    assert profile is not None
    assert interval is not None
    assert {
        each.tag: each.text for each in profile if each.tag not in ("readonly", "constraints")
    } == READ_ONLY_SETTINGS
    assert profile.findtext("readonly") == "1"
    assert profile.findtext(f"constraints/{TIME}/max") == READ_ONLY_SETTINGS[TIME]
    assert {each.tag: float(each.text or 0) for each in interval} == {
        "duration": QUOTA_SECONDS,
        "queries": Settings.model_fields["read_only_queries"].default,
        "execution_time": Settings.model_fields["read_only_seconds"].default,
    }
