"""Time, ids and chance, passed in so that tests decide them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from uuid_utils import uuid7


def _now() -> datetime:
    return datetime.now(UTC)


def _new_id() -> str:
    return str(uuid7())


@dataclass(frozen=True)
class Clock:
    """What a use case may know of time and chance.

    Attributes:
        now: The time of day, with its zone.
        monotonic: Seconds that only grow, for durations.
        new_id: A fresh UUIDv7.
        chance: A number in [0, 1).
    """

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = monotonic
    new_id: Callable[[], str] = _new_id
    chance: Callable[[], float] = field(default=random.random)
