"""Column charts, as rectangles and texts that a template writes as SVG. Lengths are in units of the chart's own box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 640.0, 220.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 4.0, 10.0, 26.0
MOST_LABELS = 8
TICKS = 4


@dataclass(frozen=True)
class Series:
    """One kind of number, a value for each step."""

    title: str
    values: tuple[float, ...]


@dataclass(frozen=True)
class Bar:
    """One value: where its rectangle lies, of which series it is (counted from 0), and what it says."""

    x: float
    y: float
    width: float
    height: float
    series: int
    says: str


@dataclass(frozen=True)
class Label:
    """A text beside an axis, and where along it."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """What a template draws.

    Attributes:
        steps: Names of the columns.
        series: What stands in them.
        bars: Those that are not of height 0.
        values: Labels and lines of the vertical axis, at their heights.
        labels: Of the horizontal axis, for as many steps as have room.
        ground: Height of the line on which bars stand.
    """

    steps: tuple[str, ...]
    series: tuple[Series, ...]
    bars: tuple[Bar, ...]
    values: tuple[Label, ...]
    labels: tuple[Label, ...]
    ground: float

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return not self.bars


def columns(steps: Sequence[str], series: Sequence[Series], *, stacked: bool = False) -> Chart:
    """Return a chart with a column for each step.

    Args:
        steps: Names of the columns.
        series: With a value for each step; a negative one hangs from the ground.
        stacked: Whether the values of a step stand on one another, and not side by side. They are none below 0 then.
    """
    by_step = list(zip(*(each.values for each in series), strict=True))
    tops = [sum(values) if stacked else max(values) for values in by_step]
    highest, lowest = max([0.0, *tops]), min([0.0, *(min(values) for values in by_step)])
    tick = _tick(highest - lowest)
    top, bottom = math.ceil(highest / tick) * tick, math.floor(lowest / tick) * tick
    scale = (HEIGHT - TOP - BOTTOM) / (top - bottom or tick)
    room = (WIDTH - LEFT - RIGHT) / len(steps)

    def y(value: float) -> float:
        return TOP + ((top or tick) - value) * scale

    bars = []
    for step, (name, values) in enumerate(zip(steps, by_step, strict=True)):
        width = room * 0.76 / (1 if stacked else len(series))
        below = 0.0
        for number, (each, value) in enumerate(zip(series, values, strict=True)):
            if value:
                left = LEFT + room * (step + 0.12) + (0 if stacked else number * width)
                upper = y(max(below + value, below))
                bars.append(
                    Bar(left, upper, width, scale * abs(value), number, f"{name}: {_short(value)} {each.title}")
                )
            below += value if stacked else 0
    every = math.ceil(len(steps) / MOST_LABELS)
    ticks = round((top - bottom or tick) / tick)
    return Chart(
        steps=tuple(steps),
        series=tuple(series),
        bars=tuple(bars),
        values=tuple(Label(y(bottom + number * tick), _short(bottom + number * tick)) for number in range(ticks + 1)),
        labels=tuple(Label(LEFT + room * (step + 0.5), name) for step, name in enumerate(steps) if step % every == 0),
        ground=y(0.0),
    )


def _tick(span: float) -> float:
    """Return the distance of round numbers of which a few make up a span."""
    if span <= 0:
        return 1.0
    power = math.pow(10, math.floor(math.log10(span / TICKS)))
    return next(power * times for times in (1, 2, 5, 10) if power * times * TICKS >= span)


def _short(value: float) -> str:
    if abs(value) >= 1_000_000:
        return f"{value / 1_000_000:.3g}M"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
