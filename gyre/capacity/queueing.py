"""Waiting in line: what a load does to those who serve it.

- Erlang's C formula by the recursion of his B formula (Kleinrock, Queueing Systems I, 1975, section 3.6).
- The wait of M/G/c by Lee and Longton (1959): that of M/M/c times (1 + cs^2) / 2. It is exact for one server (Pollaczek
  and Khinchine) and where service times are exponential; for others it is off by some per cent (Allen, Probability,
  Statistics and Queueing Theory, 1990, section 5.3).
- Quantiles take the wait of those who wait to be exponential: exact for M/M/c, near for others under load.
- Saturation is the bound of Denning and Buzen (1978): nothing is faster than its busiest part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Wait:
    """How long is waited before service begins.

    Attributes:
        chance: That one waits at all.
        mean_seconds: Of all, those who don't wait included; infinite where more comes than can be served.
    """

    chance: float
    mean_seconds: float

    def quantile_seconds(self, share: float) -> float:
        """Return what so large a share waits at most."""
        if self.chance <= 1 - share:
            return 0.0
        return self.mean_seconds / self.chance * math.log(self.chance / (1 - share))


def erlang_c(offered: float, servers: int) -> float:
    """Return the chance to wait, of M/M/c.

    Args:
        offered: Rate times mean service time, in Erlangs.
        servers: How many there are, one or more.

    Returns:
        1 where more is offered than can be served.
    """
    if offered >= servers:
        return 1.0
    blocked = 1.0  # Erlang's B
    for count in range(1, servers + 1):
        blocked = offered * blocked / (count + offered * blocked)
    return servers * blocked / (servers - offered * (1 - blocked))


def wait(per_second: float, service_seconds: float, servers: int, variation: float = 1.0) -> Wait:
    """Return the wait of M/G/c.

    Args:
        per_second: What comes.
        service_seconds: What one takes, in the mean.
        servers: Who serve out of one line.
        variation: The squared coefficient of variation of service times: 0 if all are alike, 1 if exponential.
    """
    offered = per_second * service_seconds
    if offered >= servers:
        return Wait(1.0, math.inf)
    chance = erlang_c(offered, servers)
    return Wait(chance, chance * service_seconds / (servers - offered) * (1 + variation) / 2)


def saturation(seconds: Mapping[str, float], processes: Mapping[str, int], processors: float) -> tuple[float, str]:
    """Return the most that can be answered in a second on one machine, and what is then the busiest part.

    Args:
        seconds: Processor time that one request takes in each part.
        processes: How many of each there are, of parts that take one processor each at most.
        processors: Of the machine, for all parts together.
    """
    bounds = {name: count / seconds[name] for name, count in processes.items()}
    bounds["processors"] = processors / sum(seconds.values())
    return min((bound, name) for name, bound in bounds.items())
