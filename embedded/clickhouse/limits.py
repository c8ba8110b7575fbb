"""How much a read-only user may ask for: a server's settings profile and quota, which the engine leaves to the front.

`deploy/clickhouse/analyst.xml` holds the same for a server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from embedded.clickhouse.errors import ClickHouseError

# Of one query.
READ_ONLY_SETTINGS = {
    "max_execution_time": "60",  # seconds
    "max_memory_usage": "4000000000",
    "max_result_rows": "1000000",
    "max_result_bytes": "1000000000",
}
# The one setting that a read-only user may lower, because drivers set it.
TIME = "max_execution_time"
QUOTA_SECONDS = 3600


def read_only_settings(asked: Mapping[str, str]) -> dict[str, str]:
    """Returns the settings of a read-only user's query, `readonly` last, from those that it asks for.

    What it asks for beside its time is left to the engine, which refuses it.

    Raises:
        ClickHouseError: code 452, where it asks for more time than it may have.
    """
    settings = dict(READ_ONLY_SETTINGS)
    if TIME in asked:
        most = int(settings[TIME])
        try:
            seconds = float(asked[TIME])
        except ValueError:
            raise ClickHouseError.named(
                27, "CANNOT_PARSE_INPUT_ASSERTION_FAILED", f"Cannot parse {TIME}: {asked[TIME]!r}."
            ) from None
        if not 1 <= seconds <= most:
            than = f"greater than {most}" if seconds > most else "less than 1"
            raise ClickHouseError.named(452, "SETTING_CONSTRAINT_VIOLATION", f"Setting {TIME} shouldn't be {than}.")
        settings[TIME] = asked[TIME]
    return {**settings, "readonly": "1"}


class Quota:
    """How many queries, and how many seconds of them, a user has left in the current hour.

    Args:
        user: whose.
        queries: in an hour.
        seconds: in an hour, of all queries together; one that has begun may go on.
        clock: seconds since 1970.
    """

    def __init__(self, user: str, queries: int, seconds: float, clock: Callable[[], float] = time.time) -> None:
        self._user = user
        self._clock = clock
        self._most = {"queries": queries, "execution_time": seconds}
        self._used = {"queries": 0, "execution_time": 0.0}
        self._ends = 0.0

    @contextmanager
    def query(self) -> Iterator[None]:
        """Counts one query.

        Raises:
            ClickHouseError: code 201, where the hour has no more.
        """
        started = self._clock()
        if started >= self._ends:
            self._ends = (started // QUOTA_SECONDS + 1) * QUOTA_SECONDS
            self._used = {"queries": 0, "execution_time": 0.0}
        self._used["queries"] += 1
        for name, most in self._most.items():
            if self._used[name] > most:
                ends = datetime.fromtimestamp(self._ends, UTC)
                raise ClickHouseError.named(
                    201,
                    "QUOTA_EXCEEDED",
                    f"Quota for user `{self._user}` for {QUOTA_SECONDS}s has been exceeded: {name} = "
                    f"{self._used[name]:g}/{most:g}. Interval will end at {ends:%Y-%m-%d %H:%M:%S}. "
                    f"Name of quota template: `{self._user}`.",
                )
        try:
            yield
        finally:
            self._used["execution_time"] += self._clock() - started
