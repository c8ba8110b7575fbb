"""The day that the orchestration's figures come from: its size, its shape, and that it is the same every time."""

from collections import Counter

import pytest

from benchmarks.store_day import (
    APPLICATIONS,
    DAY_SECONDS,
    INJECTION,
    LANGUAGES,
    PERSONAL,
    STORES,
    TEXTS,
    Asked,
    requests_of_day,
)

PRODUCTS = {"Desk Lamp": ("black", "white"), "T-Shirt": ("blue", "size M")}


@pytest.fixture(scope="module")
def day() -> list[Asked]:
    return requests_of_day(50_000, PRODUCTS)


def test_a_seed_gives_the_same_day_every_time_and_another_seed_another() -> None:
    assert requests_of_day(500, PRODUCTS) == requests_of_day(500, PRODUCTS)
    assert requests_of_day(500, PRODUCTS) != requests_of_day(500, PRODUCTS, seed=2)


def test_it_has_as_many_requests_as_asked_for_in_the_order_of_their_times(day: list[Asked]) -> None:
    seconds = [asked.second for asked in day]
    assert len(day) == 50_000
    assert seconds == sorted(seconds)
    assert all(0 <= second < DAY_SECONDS for second in seconds)


def test_every_store_asks_and_a_tenth_of_them_ask_over_a_third_of_everything(day: list[Asked]) -> None:
    by_store = Counter(asked.store for asked in day)
    assert set(by_store) == set(range(STORES))
    largest = sum(count for _, count in by_store.most_common(STORES // 10))
    assert 0.33 < largest / len(day) < 0.5


def test_stores_sleep_at_night_and_are_busiest_at_lunch_and_after_work(day: list[Asked]) -> None:
    by_hour = Counter(int(asked.second // 3600) for asked in day)
    assert by_hour.keys().isdisjoint({2, 3, 4})
    mean = len(day) / 24
    assert by_hour[12] > by_hour[15] < by_hour[18]
    assert min(by_hour[12], by_hour[18]) > 1.8 * mean
    assert by_hour[7] < mean


def test_every_application_asks_in_every_language_for_all_that_it_is_for(day: list[Asked]) -> None:
    seen = {(asked.application, asked.task, asked.language) for asked in day}
    assert seen == {
        (name, task, lang) for name, each in APPLICATIONS.items() for task in each.tasks for lang in LANGUAGES
    }
    assert {task for each in APPLICATIONS.values() for task in each.tasks} == set(TEXTS)


def test_follow_ups_come_after_what_they_follow_from_the_same_store(day: list[Asked]) -> None:
    conversations: dict[str, list[Asked]] = {}
    for asked in day:
        conversations.setdefault(asked.conversation_id, []).append(asked)
    several = [turns for turns in conversations.values() if len(turns) > 1]
    assert 0.3 < len(several) / len(conversations) < 0.45
    assert all(len({(asked.store, asked.task) for asked in turns}) == 1 for turns in several)


def test_some_requests_hold_personal_data_and_a_few_try_to_take_the_model_over(day: list[Asked]) -> None:
    held = Counter(asked.holds for asked in day)
    assert 0.05 < held[PERSONAL] / len(day) < 0.07
    assert 0.001 < held[INJECTION] / len(day) < 0.003
    with_address = [asked for asked in day if "@example.com" in asked.text]
    assert with_address
    assert {asked.holds for asked in with_address} == {PERSONAL}
