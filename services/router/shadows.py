"""Specialists in the shadow: asked what others have answered, on record, and never heard.

They go through what every answer goes through, verdict included, with time of their own, after the caller has got its
answer. Callers come first: where the upstream is busy, or enough are under way, a request is left out, and counted.
"""

import asyncio
from dataclasses import dataclass, replace

from schemas.events import Shadow
from services.router.domain.answers import Asked, tool_call
from services.router.domain.catalogue import Candidate
from services.router.domain.errors import GovernanceSilent, Refused
from services.router.domain.timeline import Timeline
from services.router.inference import Inference
from services.router.journal import Journal
from services.router.ports import Recorder
from services.router.verdicts import Verdicts
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Retryable, ServiceError

# Answers of specialists in the shadow that a replica waits for at once.
AT_ONCE = 4


@dataclass
class Shadows:
    """Asks specialists in the shadow."""

    inference: Inference
    verdicts: Verdicts
    recorder: Recorder
    clock: Clock

    def __post_init__(self) -> None:
        self._asking: set[asyncio.Task[None]] = set()

    def ask(self, answered: Journal) -> None:
        """Have the task's specialist in the shadow, if there is one, be asked what was just answered; wait for nothing.

        Not where a model was asked for by its name, nor where no policy clears the specialist for what it would see.
        """
        shadow = answered.catalogue.shadow(answered.caller.tenant, answered.task_name)
        if shadow is None or answered.asked_for or not _is_cleared(shadow, answered):
            return
        if len(self._asking) >= AT_ONCE or not self.inference.has_room(shadow):
            _count(answered, "left out")
            return
        task = asyncio.create_task(self._ask(shadow, self._journal(shadow, answered)))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def drain(self) -> None:
        """Give up what is under way: nobody waits for it."""
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    def _journal(self, shadow: Candidate, answered: Journal) -> Journal:
        assert answered.decision is not None
        now = self.clock.monotonic()
        return replace(
            answered,
            decision=replace(answered.decision, chosen=shadow, fallbacks=()),
            timeline=Timeline(now),
            deadline=now + answered.task.deadline_ms / 1000,
            model=None,
            attempts=[],
            asked=Asked(),
            generated=None,
            output_verdict="",
            findings=[],
            releases=[],
            answer="",
            tool_calls=(),
            finish_reason="",
        )

    async def _ask(self, shadow: Candidate, journal: Journal) -> None:
        try:
            async with self.inference.answering(journal, whole=True) as pieces:
                text = "".join([piece async for piece in pieces])
            journal.release(await self.verdicts.rest(journal, text))
            assert journal.generated is not None
            is_call = journal.answers_with_calls and tool_call(journal.answer, journal.tools, "") is not None
            journal.finish_reason = "tool_calls" if is_call else journal.generated.finish_reason
        except GovernanceSilent:
            _count(journal, "left out")  # what no verdict covers is not kept either
            return
        except Refused as error:
            journal.finish_reason, journal.error = "refused", str(error)
        except ServiceError as error:
            journal.finish_reason, journal.error = "error", str(error)
        try:
            await self.recorder.shadow(self._record(shadow, journal))
        except Retryable as error:
            telemetry.log().error("shadow unrecorded", request_id=journal.call.request_id, error=str(error))
            _count(journal, "left out")
            return
        _count(journal, "failed" if journal.finish_reason == "error" else "answered")

    def _record(self, shadow: Candidate, journal: Journal) -> Shadow:
        assert shadow.deployment is not None
        generated = journal.generated
        return Shadow(
            request_id=journal.call.request_id,
            tenant=journal.caller.tenant,
            task=journal.task_name,
            candidate_id=shadow.deployment.candidate_id,
            model=shadow.name,
            model_version=shadow.version,
            answered_at=self.clock.now(),
            temperature=journal.request.sampling.temperature,
            answer=journal.answer,
            finish_reason=journal.finish_reason,
            error=journal.error,
            attempts=tuple(journal.attempts),
            bundle_version=journal.bundle_version,
            sensitivity=journal.sensitivity,
            findings=tuple(journal.findings),
            prompt_tokens=generated.prompt_tokens if generated else 0,
            completion_tokens=generated.completion_tokens if generated else 0,
            sum_logprob=generated.sum_logprob if generated else None,
            mean_logprob=generated.mean_logprob if generated else None,
            min_logprob=generated.min_logprob if generated else None,
        )


def _is_cleared(shadow: Candidate, answered: Journal) -> bool:
    assert answered.verdict is not None
    clearance = answered.verdict.clearances.get(answered.sensitivity)
    return clearance is not None and shadow.cleared_as in clearance.models


def _count(journal: Journal, outcome: str) -> None:
    telemetry.SHADOWED.labels(journal.caller.tenant, journal.task_name, outcome).inc()
