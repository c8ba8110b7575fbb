"""How a request comes to be on record, whatever becomes of it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import cache

import msgspec

from schemas.events import Feedback
from services.router import gen_ai
from services.router.admission import Admission
from services.router.domain.errors import GovernanceSilent, Refused, Unrecorded
from services.router.domain.timeline import AUDIT, MONITORING
from services.router.journal import Journal
from services.router.ports import Recorder
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Retryable, ServiceError

# The client of Prometheus looks a label up again each time, and takes long to.
_seconds_of = cache(telemetry.STAGE_SECONDS.labels)


class Records:
    """Writes the records of requests, and counts and times what they tell."""

    def __init__(self, recorder: Recorder, admission: Admission, clock: Clock) -> None:
        self._recorder = recorder
        self._admission = admission
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def ending(self, journal: Journal) -> AsyncIterator[None]:
        """Within it a request is answered; one that ends without an answer is recorded as that."""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            # Whoever waits is being stopped, so the record is written by a task that nobody waits for until `drain`.
            self._later(self._finish_unanswered(journal, "cancelled", "the caller went away"))
            raise
        except Unrecorded:
            raise
        except (Refused, GovernanceSilent) as error:
            await self._finish_unanswered(journal, "refused", str(error))
            raise
        except ServiceError as error:
            await self._finish_unanswered(journal, "error", str(error))
            raise
        except Exception as error:
            await self._finish_unanswered(journal, "error", f"unexpected {type(error).__name__}")
            raise

    async def open(self, journal: Journal) -> None:
        """Have a stream's first record acknowledged before its first byte.

        Raises:
            Unrecorded: It is not.
        """
        if not journal.is_opened:
            await self._record(journal, "opened")
            journal.is_opened = True

    async def finish(self, journal: Journal) -> None:
        """Record a request that has ended, and count it.

        Raises:
            Unrecorded: The record is not acknowledged.
        """
        journal.is_finished = True
        started = self._clock.monotonic()
        telemetry.REQUESTS.labels(
            journal.caller.tenant, journal.task_name, journal.model.name if journal.model else "", journal.finish_reason
        ).inc()
        journal.timeline.add(MONITORING, started, self._clock.monotonic())
        for stage in journal.timeline.stages():
            if stage.name != AUDIT:
                _seconds_of(stage.name).observe(stage.duration_us / 1e6)
        if journal.asked_again:
            self._later(self._tell_asked_again(journal))
        # A caller that leaves while this is on its way must not have it written a second time, as cancelled.
        await asyncio.shield(self._later(self._record_and_settle(journal)))
        gen_ai.answered(journal, self._clock.monotonic() - journal.call.arrived)

    async def drain(self) -> None:
        """Wait for records that nobody else waits for."""
        await asyncio.gather(*self._late, return_exceptions=True)

    async def _finish_unanswered(self, journal: Journal, finish_reason: str, error: str) -> None:
        if journal.is_finished:
            return
        journal.finish_reason, journal.error = finish_reason, error
        try:
            await self.finish(journal)
        except Unrecorded as silent:
            # Nothing was answered, so nothing is released unrecorded: the caller gets the first error.
            telemetry.log().error(
                "unrecorded",
                request_id=journal.call.request_id,
                finish_reason=finish_reason,
                error=str(silent.__cause__),
            )

    async def _record_and_settle(self, journal: Journal) -> None:
        tokens = sum(attempt.prompt_tokens + attempt.completion_tokens for attempt in journal.attempts)
        cost = sum(attempt.cost for attempt in journal.attempts)
        # On its way while the record is.
        told = self._admission.settle(journal.caller, journal.catalogue, tokens, cost)
        await self._record(journal, "finished")
        error = await asyncio.shield(told) if told is not None else None
        if error is not None:
            raise Unrecorded("what the answer took could not be counted, so it is withheld; try again later") from error

    async def _record(self, journal: Journal, phase: str) -> None:
        """Write a record; on return it is acknowledged.

        The stage of its own that a record holds can only be what it took to make it: encoding and acknowledgement end
        after it is sealed. The metric has the whole, and a stream's `finished` record what `opened` took.
        """
        started = self._clock.monotonic()
        interaction = journal.interaction(phase, self._clock.now(), journal.timeline.since_arrival_us(started))
        sealed = self._clock.monotonic()
        journal.timeline.add_repeated(AUDIT, started, sealed)
        try:
            await self._recorder.interaction(msgspec.structs.replace(interaction, stages=journal.timeline.stages()))
        except Retryable as error:
            raise Unrecorded("the answer could not be recorded and is withheld; try again later") from error
        acknowledged = self._clock.monotonic()
        if phase == "opened":
            journal.timeline.add_repeated(AUDIT, sealed, acknowledged)
        _seconds_of(AUDIT).observe(acknowledged - started)

    async def _tell_asked_again(self, journal: Journal) -> None:
        """Write feedback on the answer before: its user asks again. This request goes on without."""
        event = Feedback(
            feedback_id=self._clock.new_id(),
            request_id=journal.asked_again,
            tenant=journal.caller.tenant,
            application=journal.caller.application,
            given_at=self._clock.now(),
            source="implicit",
            kind="asked_again",
            user=journal.request.user,
        )
        try:
            await self._recorder.feedback(event)
        except Retryable as error:
            telemetry.log().error("feedback unrecorded", request_id=journal.asked_again, error=str(error))

    def _later(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        return task
