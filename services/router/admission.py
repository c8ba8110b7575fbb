"""Which requests are let in: no more at once than a replica can bear, and none beyond the limits of its application."""

import asyncio
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from schemas.bundle import Limit, Limits
from services.router.domain.catalogue import Caller, Catalogue
from services.router.domain.errors import LimitReached, Overloaded
from services.router.domain.limits import Ledger, end_of, start_of
from services.router.ports import Recorder
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Retryable


class Admission:
    """Lets requests in, and has the other replicas know what they used.

    Requests count as they are let in, tokens when they are answered. What was used is told as running totals, one
    record for all that is counted while the one before is on its way.
    """

    def __init__(self, ledger: Ledger, recorder: Recorder, clock: Clock, in_flight: int) -> None:
        self._ledger = ledger
        self._recorder = recorder
        self._clock = clock
        self._free = in_flight
        telemetry.PLACES_TAKEN.set_function(lambda: 1 - self._free / in_flight)
        self._untold: set[str] = set()
        self._next: asyncio.Future[Retryable | None] | None = None
        self._telling: asyncio.Task[None] | None = None

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places for requests under way.

        Raises:
            Overloaded: There is none.
        """
        if self._free == 0:
            telemetry.TURNED_AWAY.labels("", "in flight").inc()
            raise Overloaded("this router has as much under way as it can bear; try again later")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1

    def admit(self, caller: Caller, catalogue: Catalogue) -> None:
        """Let a request in and count it.

        Raises:
            LimitReached: Its application, or its tenant, has used up what it may.
        """
        own, shared = _limits(caller, catalogue)
        if not (own or shared):
            return
        now = self._clock.now()
        self._check(f"application {caller.application!r}", own, [caller.application], caller, now)
        if shared:
            applications = catalogue.bundle.applications.items()
            together = [name for name, application in applications if application.tenant == caller.tenant]
            self._check(f"tenant {caller.tenant!r}", shared, together, caller, now)
        self._ledger.count(caller.application, now, requests=1)
        self._told(caller.application)

    def settle(
        self, caller: Caller, catalogue: Catalogue, tokens: int, cost: float
    ) -> asyncio.Future[Retryable | None] | None:
        """Count what a request took, where there are limits.

        Returns:
            What is done when that is acknowledged, with all that was counted before, with the error if it is not.
        """
        if not any(_limits(caller, catalogue)):
            return None
        self._ledger.count(caller.application, self._clock.now(), tokens=tokens, cost=cost)
        return self._told(caller.application)

    def _check(
        self, whose: str, limits: Sequence[Limit], applications: Sequence[str], caller: Caller, now: datetime
    ) -> None:
        limit = self._ledger.exceeded(limits, applications, now)
        if limit is None:
            return
        telemetry.TURNED_AWAY.labels(caller.application, f"{limit.of} a {limit.per}").inc()
        left_seconds = (end_of(limit.per, start_of(limit.per, now)) - now).total_seconds()
        used_up = f"{whose} has used its {limit.at_most:.12g} {limit.of} of this {limit.per}"
        raise LimitReached(f"{used_up}; there are more in {math.ceil(left_seconds)} s", left_seconds)

    def _told(self, application: str) -> asyncio.Future[Retryable | None]:
        """Return what is done when the others have been told what was used, with the error if they were not."""
        self._untold.add(application)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._telling is None:
            self._telling = asyncio.create_task(self._tell())
        return self._next

    async def _tell(self) -> None:
        while self._next is not None:
            told, self._next = self._next, None
            untold, self._untold = self._untold, set()
            now = self._clock.now()
            try:
                await asyncio.gather(*(self._recorder.usage(self._ledger.usage(name, now)) for name in sorted(untold)))
            except Retryable as error:  # the totals are told again, whole, with the next request
                told.set_result(error)
            else:
                told.set_result(None)
        self._telling = None


def _limits(caller: Caller, catalogue: Catalogue) -> tuple[Limits, Limits]:
    """Return the limits of an application, and those that it shares with the others of its tenant."""
    return catalogue.bundle.applications[caller.application].limits, catalogue.bundle.tenants[caller.tenant].limits
