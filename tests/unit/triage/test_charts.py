"""Column charts: where rectangles lie, and what the axis says."""

import pytest

from services.triage.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Series, columns


def tops(chart: Chart) -> list[float]:
    return [bar.y for bar in chart.bars]


def test_the_axis_ends_at_a_round_number_that_the_highest_column_does_not_pass() -> None:
    chart = columns(("a", "b"), (Series("requests", (37.0, 140.0)),))
    assert [value.text for value in chart.values] == ["0", "50", "100", "150"]
    assert all(top >= TOP for top in tops(chart))
    assert chart.values[0].at == chart.ground == HEIGHT - BOTTOM


def test_columns_are_as_high_as_their_values() -> None:
    small, large = columns(("a", "b"), (Series("requests", (20.0, 80.0)),)).bars
    assert large.height == pytest.approx(4 * small.height)
    assert small.y + small.height == pytest.approx(large.y + large.height) == pytest.approx(HEIGHT - BOTTOM)


def test_stacked_values_stand_on_one_another_without_a_gap() -> None:
    lower, upper = columns(("a",), (Series("x", (3.0,)), Series("y", (5.0,))), stacked=True).bars
    assert (lower.x, lower.width) == (upper.x, upper.width)
    assert upper.y + upper.height == pytest.approx(lower.y)


def test_values_side_by_side_do_not_overlap() -> None:
    left, right = columns(("a",), (Series("x", (3.0,)), Series("y", (5.0,)))).bars
    assert left.x + left.width <= right.x


def test_a_negative_value_hangs_from_the_ground() -> None:
    chart = columns(("a", "b"), (Series("saved", (-2.0, 4.0)),))
    loss, gain = chart.bars
    assert loss.y == pytest.approx(chart.ground) == pytest.approx(gain.y + gain.height)
    assert loss.y + loss.height == pytest.approx(HEIGHT - BOTTOM)


def test_every_column_lies_within_the_box_and_not_all_of_many_are_named() -> None:
    steps = [f"day {number}" for number in range(30)]
    chart = columns(steps, (Series("requests", tuple(float(number) for number in range(30))),))
    assert len(chart.bars) == 29  # nothing is drawn of 0
    assert all(bar.x >= LEFT and bar.x + bar.width <= WIDTH - RIGHT for bar in chart.bars)
    assert [label.text for label in chart.labels][:2] == ["day 0", "day 4"]


def test_nothing_at_all_is_an_empty_chart_with_an_axis() -> None:
    chart = columns(("a", "b"), (Series("requests", (0.0, 0.0)),))
    assert chart.is_empty
    assert [value.text for value in chart.values] == ["0", "1"]


def test_a_column_says_what_it_stands_for() -> None:
    (bar,) = columns(("Mon 3",), (Series("by specialists", (12_345.0,)),)).bars
    assert bar.says == "Mon 3: 12,345 by specialists"
