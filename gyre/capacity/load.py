"""What is asked of an installation: how much, when, by whom, for what; and so the rate to size it for.

The rate follows the day: each time zone's opening hours, behind one another. Within the busiest hour requests come by
chance: those of many independent callers are a Poisson process, whatever each caller is like (Palm and Khinchine); and
the rate itself wavers, by `burstiness`, as a gamma distribution has it. What comes within one second is then a negative
binomial number, whose high percentile is the peak.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from gyre.capacity.costs import InvalidError, first_of, read_yaml
from schemas.bundle.base import Frozen, Name, Share

LOADS = Path(__file__).with_name("loads")
DAY_SECONDS = 24 * 3600
_STEPS = 48  # of a day: time zones lie half an hour apart, some of them
_TOLERANCE = 0.005
# From there on the exact sum takes long, and the approximation is off by a thousandth; at a burstiness of 1, by 2 %.
_SUMMED_AT_MOST = 2000.0
_LEAST = 1e-9
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TaskLoad(Frozen):
    """One task's part of the load."""

    # Of all requests.
    share: Share
    # Of the task's requests.
    streamed: Share = 0.0
    # Of what the application sends.
    prompt_tokens: NotNegative
    # Of the passages and earlier turns that context adds, for the model alone.
    context_tokens: NotNegative = 0.0
    answer_tokens: Positive
    # Of the task's requests, that experts are asked about.
    experts: Share = 0.0


class Volume(Frozen):
    """How much is asked: in a mean day, in the busiest hour of a day, or in a mean second of that hour."""

    count: Positive
    per: Literal["day", "hour", "second"]


class Load(Frozen):
    """All of it. In a YAML file, its fields are these."""

    title: Annotated[str, Field(min_length=1, max_length=120)]
    requests: Volume
    stores: Annotated[int, Field(ge=1)] = 1
    # What one store asks in each hour of its own day, by weight, from midnight on.
    hours: Annotated[tuple[NotNegative, ...], Field(min_length=24, max_length=24)] = (1.0,) * 24
    # By how many hours a store's clock is behind headquarters', and for what share of the stores.
    zones: Annotated[dict[float, Share], Field(default_factory=lambda: {0.0: 1.0}, min_length=1)]
    # Times a mean day.
    busiest_day: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    # How far the rate wavers within the hour, beyond chance: its standard deviation over its mean.
    burstiness: Annotated[float, Field(ge=0, le=1)] = 0.1
    # Of the seconds of the busiest hour, so many in a hundred are to be served without a queue that grows.
    percentile: Annotated[float, Field(gt=50, lt=100)] = 99.9
    tasks: Annotated[dict[Name, TaskLoad], Field(min_length=1)]
    # Which share of the requests is answered on which engine of the file of costs; the rest is answered elsewhere, by
    # models that others run.
    engines: dict[str, Share] = Field(default_factory=dict)
    # What an expert takes for an item, and works a day.
    expert_seconds: Positive = 60.0
    expert_hours: Annotated[float, Field(gt=0, le=24)] = 6.0
    documents: Annotated[int, Field(ge=0)] = 0
    # How many applications have limits in the bundle.
    limited_applications: Annotated[int, Field(ge=0)] = 0
    # How long ClickHouse keeps the record on its disks.
    record_days: Positive = 365.0
    kafka_copies: Annotated[int, Field(ge=1, le=5)] = 3
    clickhouse_copies: Annotated[int, Field(ge=1, le=5)] = 2
    # How busy whoever serves may be, at the peak.
    utilisation: Annotated[float, Field(gt=0, lt=1)] = 0.7

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        for field, shares in (
            ("zones", self.zones.values()),
            ("tasks", [task.share for task in self.tasks.values()]),
        ):
            if abs(sum(shares) - 1) > _TOLERANCE:
                raise ValueError(f"{field}: the shares come to {sum(shares):.3f}; wanted 1")
        if sum(self.engines.values()) > 1 + _TOLERANCE:
            raise ValueError(f"engines: the shares come to {sum(self.engines.values()):.3f}; wanted 1 at most")
        if not any(self.hours):
            raise ValueError("hours: all are 0; wanted what a store asks in each hour of its day")
        for behind in self.zones:
            if not -24 < behind < 24 or (2 * behind) % 1:
                raise ValueError(f"zones.{behind}: wanted hours behind headquarters, in halves, within a day")
        return self

    def _mean(self, of: Callable[[TaskLoad], float]) -> float:
        return sum(task.share * of(task) for task in self.tasks.values())

    @property
    def streamed(self) -> float:
        """Share of the requests."""
        return self._mean(lambda task: task.streamed)

    @property
    def prompt_tokens(self) -> float:
        """Of a mean request."""
        return self._mean(lambda task: task.prompt_tokens)

    @property
    def context_tokens(self) -> float:
        """That context adds to a mean request."""
        return self._mean(lambda task: task.context_tokens)

    @property
    def answer_tokens(self) -> float:
        """Of a mean request."""
        return self._mean(lambda task: task.answer_tokens)

    @property
    def experts(self) -> float:
        """Share of the requests."""
        return self._mean(lambda task: task.experts)

    @cached_property
    def day_shape(self) -> tuple[float, ...]:
        """The rate in each half hour of headquarters' day, over the mean of the day."""
        mean = sum(self.hours) / 24
        return tuple(
            sum(share * self.hours[int((step / 2 - behind) % 24)] for behind, share in self.zones.items()) / mean
            for step in range(_STEPS)
        )

    @property
    def busiest_per_second(self) -> float:
        """The mean rate in the busiest hour of the busiest day."""
        count, per = self.requests.count, self.requests.per
        if per == "day":
            return count / DAY_SECONDS * self._busiest_hour * self.busiest_day
        return count / {"hour": 3600, "second": 1}[per] * self.busiest_day

    @property
    def per_day(self) -> float:
        """Requests of a mean day."""
        return self.busiest_per_second / self.busiest_day / self._busiest_hour * DAY_SECONDS

    @property
    def peak_per_second(self) -> float:
        """What comes in a second of the busiest hour, at most, in `percentile` of a hundred."""
        return peak(self.busiest_per_second, self.burstiness, self.percentile)

    @property
    def _busiest_hour(self) -> float:
        shape = self.day_shape
        return max((shape[step] + shape[(step + 1) % _STEPS]) / 2 for step in range(_STEPS))


def peak(per_second: float, burstiness: float, percentile: float) -> float:
    """Return what comes in one second at most, in so many of a hundred.

    Args:
        per_second: In the mean.
        burstiness: Standard deviation of the rate over its mean; 0: all else is chance.
        percentile: Above 50.

    Returns:
        A quantile of the negative binomial distribution (of Poisson's, without burstiness): by its sum, and where many
        come by Wilson and Hilferty's (1931) quantile of the gamma distribution with the same mean and variance.
    """
    share = percentile / 100
    variance = per_second + (burstiness * per_second) ** 2
    if per_second > _SUMMED_AT_MOST:
        ninth = variance / per_second**2 / 9
        return per_second * float(1 - ninth + NormalDist().inv_cdf(share) * math.sqrt(ninth)) ** 3
    # Panjer's recursion: each chance from the one before.
    beyond = burstiness**2 * per_second  # by how much the variance is more than Poisson's, over the mean
    log_chance = -per_second * (math.log1p(beyond) / beyond if beyond > _LEAST else 1.0)
    total, count = math.exp(log_chance), 0
    while total < share and count < 100 * _SUMMED_AT_MOST:
        log_chance += math.log((beyond * count + per_second) / ((1 + beyond) * (count + 1)))
        count += 1
        total += math.exp(log_chance)
    return float(count)


def presets() -> list[str]:
    """Return the names of the loads that come with Gyre, the smallest first."""
    found = {path.stem: load_of(path).busiest_per_second for path in LOADS.glob("*.yaml")}
    return sorted(found, key=found.__getitem__)


def load_of(which: str | Path, changes: dict[str, object] | None = None) -> Load:
    """Read a load.

    Args:
        which: The name of one that comes with Gyre, or a YAML file.
        changes: Fields that take the place of the file's.

    Raises:
        InvalidError: There is no such, or it holds something that was not wanted.
    """
    path = LOADS / f"{which}.yaml"
    if not path.is_file():
        path = Path(which)
        if not path.is_file():
            names = ", ".join(sorted(preset.stem for preset in LOADS.glob("*.yaml")))
            raise InvalidError(f"{which} is no file and none of the loads that come with Gyre ({names})")
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InvalidError(f"{path}: wanted the fields of a load, as docs/capacity.md has them")
    try:
        return Load.model_validate(content | (changes or {}))
    except ValidationError as error:
        raise InvalidError(f"{path}: {first_of(error)}") from error
