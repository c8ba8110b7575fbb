import statistics
from collections import Counter
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.store_day import APPLICATIONS, requests_of_day
from gyre.capacity.costs import InvalidError
from gyre.capacity.load import LOADS, Load, load_of, peak, presets

ONE_TASK = {"everything": {"share": 1, "prompt_tokens": 10, "answer_tokens": 10}}


def a_load(**changes: object) -> Load:
    return Load.model_validate(
        {"title": "one", "requests": {"count": 86400, "per": "day"}, "tasks": ONE_TASK, **changes}
    )


@pytest.mark.parametrize("per_second", [0.3, 2.4, 50, 1900, 2100, 50_000])
@pytest.mark.parametrize("burstiness", [0.05, 0.2, 1.0])
@pytest.mark.parametrize("percentile", [95, 99.9])
def test_the_peak_is_the_percentile_of_a_negative_binomial(
    per_second: float, burstiness: float, percentile: float
) -> None:
    size = burstiness**-2
    exact = stats.nbinom.ppf(percentile / 100, size, size / (size + per_second))
    assert peak(per_second, burstiness, percentile) == pytest.approx(exact, rel=0.025, abs=0.5)


@pytest.mark.parametrize("per_second", [0.3, 2.4, 50, 1900, 50_000])
def test_without_burstiness_it_is_poissons(per_second: float) -> None:
    assert peak(per_second, 0, 99.9) == pytest.approx(stats.poisson.ppf(0.999, per_second), rel=0.005, abs=0.5)


@given(st.floats(0.1, 1e7), st.floats(0, 1), st.floats(50.1, 99.99))
def test_the_peak_is_no_lower_for_more_requests_more_bursts_or_more_of_the_seconds(
    per_second: float, burstiness: float, percentile: float
) -> None:
    # Where the exact sum ends, its approximation is off by up to 2 %.
    here = peak(per_second, burstiness, percentile) * 0.97 - 1
    assert peak(per_second * 1.1, burstiness, percentile) >= here
    assert peak(per_second, burstiness, 99.995) >= here


def test_a_flat_day_of_one_request_a_second_has_one_in_its_busiest_hour() -> None:
    load = a_load()
    assert load.busiest_per_second == pytest.approx(1)
    assert load.per_day == pytest.approx(86400)


def test_opening_hours_make_the_busiest_hour() -> None:
    from_nine_to_five = [0] * 9 + [1] * 8 + [0] * 7
    assert a_load(hours=from_nine_to_five).busiest_per_second == pytest.approx(3)


def test_time_zones_flatten_it() -> None:
    at_noon = [0] * 12 + [1] + [0] * 11
    assert a_load(hours=at_noon).busiest_per_second == pytest.approx(24)
    assert a_load(hours=at_noon, zones={0: 0.5, 3: 0.5}).busiest_per_second == pytest.approx(12)
    # Half an hour behind: the last half hour of the one meets the first of the other.
    assert a_load(hours=at_noon, zones={0: 0.5, 0.5: 0.5}).busiest_per_second == pytest.approx(18)


@pytest.mark.parametrize(("count", "per"), [(5e6, "hour"), (5e6 / 3600, "second")])
def test_an_hour_and_a_second_are_those_of_the_busiest_hour(count: float, per: str) -> None:
    load = load_of("retailer", {"requests": {"count": count, "per": per}, "busiest_day": 1})
    assert load.busiest_per_second == pytest.approx(5e6 / 3600)
    # And the day that such an hour belongs to has that hour.
    day = load_of("retailer", {"requests": {"count": load.per_day, "per": "day"}, "busiest_day": 1})
    assert day.busiest_per_second == pytest.approx(load.busiest_per_second)


def test_the_retailers_load_is_that_of_the_day_which_benchmarks_replay() -> None:
    shares = {task: caller.share * weight for caller in APPLICATIONS.values() for task, weight in caller.tasks.items()}
    streamed = {task for caller in APPLICATIONS.values() if caller.is_streamed for task in caller.tasks}
    load = load_of("retailer")
    assert {name: task.share for name, task in load.tasks.items()} == pytest.approx(shares)
    assert {name for name, task in load.tasks.items() if task.streamed} == streamed


def test_the_drawn_day_has_the_hours_and_the_peak_that_its_load_promises() -> None:
    load = load_of("retailer", {"busiest_day": 1, "burstiness": 0})
    count = int(load.requests.count)
    day = requests_of_day(count, {"Desk Lamp": ("black", "white")})
    by_half_hour = Counter(int(asked.second // 1800) for asked in day)
    for step, relative in enumerate(load.day_shape):
        # Conversations: what follows comes minutes later, so what an hour has is not quite Poisson's.
        expected = relative * count / 48
        assert by_half_hour[step] == pytest.approx(expected, rel=0.06, abs=12 * max(1, expected) ** 0.5)
    (busiest, _), *_ = Counter(int(asked.second // 3600) for asked in day).most_common()
    by_second = Counter(int(asked.second) for asked in day)
    seconds = [by_second[second] for second in range(busiest * 3600, busiest * 3600 + 3600)]
    assert statistics.mean(seconds) == pytest.approx(load.busiest_per_second, rel=0.1)
    beyond = sum(each > load.peak_per_second for each in seconds)
    assert beyond <= 12  # 3.6 are expected at most, of 3,600
    assert max(seconds) >= load.peak_per_second - 1


def test_the_loads_that_come_with_it_are_valid_and_listed_by_size() -> None:
    assert presets() == ["retailer", "five-million-an-hour", "million-a-second"]
    assert len(list(LOADS.glob("*.yaml"))) == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"requests": {"count": 0, "per": "day"}}, "requests.count: Input should be greater than 0"),
        ({"requests": {"count": 1, "per": "week"}}, "requests.per: Input should be 'day', 'hour' or 'second'"),
        ({"zones": {0: 0.5}}, "zones: the shares come to 0.500; wanted 1"),
        ({"zones": {0.3: 1}}, "zones.0.3: wanted hours behind headquarters, in halves, within a day"),
        ({"hours": [0] * 24}, "hours: all are 0; wanted what a store asks in each hour of its day"),
        ({"hours": [1, 2]}, "hours: Tuple should have at least 24 items after validation, not 2"),
        ({"engines": {"a": 0.7, "b": 0.7}}, "engines: the shares come to 1.400; wanted 1 at most"),
        ({"utilization": 0.7}, "utilization: Extra inputs are not permitted"),
        ({"tasks": {"a": {"share": 1, "prompt_tokens": -1, "answer_tokens": 1}}}, "tasks.a.prompt_tokens: "),
    ],
)
def test_what_is_wrong_with_a_load_is_told_with_its_field(
    changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    file = tmp_path / "load.yaml"
    content = yaml.safe_load((LOADS / "retailer.yaml").read_text()) | changes
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(InvalidError) as error:
        load_of(file)
    assert str(error.value).startswith(f"{file}: {said}")


def test_a_load_that_is_none_is_told_beside_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidError, match="five-million-an-hour, million-a-second, retailer"):
        load_of("retailers")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(InvalidError, match="is not YAML"):
        load_of(broken)
    broken.write_text("just words")
    with pytest.raises(InvalidError, match="wanted the fields of a load"):
        load_of(broken)
