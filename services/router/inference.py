"""How a request comes to its answer: who is asked, again where one fails, and another where one is unsure.

A stream is tried again only while nothing of it has come; after that its failure is the caller's to know.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass

import msgspec
from opentelemetry.trace import Span

from schemas.events import WRONG_FORM, Attempt
from schemas.prompts import Generated
from services.router import gen_ai
from services.router.domain.answers import doubt, prompt
from services.router.domain.catalogue import TIERS, Candidate
from services.router.domain.errors import Overloaded
from services.router.domain.timeline import INFERENCE
from services.router.domain.upstreams import Breaker, RetryBudget
from services.router.experience import Experience
from services.router.journal import Journal
from services.router.ports import Models
from services.runtime import telemetry, tracing
from services.runtime.clock import Clock
from services.runtime.errors import DeadlineExceeded, InvalidArgument, Retryable, ServiceError

# Of the time that is left, the part that an answer may take: its verdict and its record come after it.
ANSWER_SHARE = 0.95
# While another could be asked instead, a model must begin to answer within this part of the time.
BEGINNING_SHARE = 0.5
# How often one model is asked for one answer, and about how long it is left alone in between.
TRIES = 2
PAUSE_SECONDS = 0.05
# What the newest answer counts for in the mean of how long they take.
NEWEST_SHARE = 0.2


@dataclass(frozen=True)
class _Patience:
    """How long a model is waited for: until it begins to answer, and until it has."""

    beginning_seconds: float
    seconds: float


class _Slots:
    """The answers that an upstream may be writing at once, and the queue for them."""

    def __init__(self, concurrency: int) -> None:
        self.free = asyncio.Semaphore(concurrency)
        self.waiting = 0
        self._concurrency = concurrency
        self._mean_seconds = 0.0

    def wait_seconds(self) -> float:
        """Return how long another request is likely to wait."""
        return (self.waiting + 1) * self._mean_seconds / self._concurrency if self.free.locked() else 0.0

    def took(self, seconds: float) -> None:
        """Take in how long an answer held its place."""
        self._mean_seconds += (seconds - self._mean_seconds) * (NEWEST_SHARE if self._mean_seconds else 1.0)


class Inference:
    """Has models answer. What it knows of them and their upstreams is this replica's own."""

    def __init__(self, models: Models, experience: Experience, clock: Clock) -> None:
        self._models = models
        self._experience = experience
        self._clock = clock
        # Of models that failed when they were last asked.
        self._breakers: defaultdict[Candidate, Breaker] = defaultdict(Breaker)
        self._budgets: defaultdict[str, RetryBudget] = defaultdict(RetryBudget)
        self._slots: dict[tuple[str, int], _Slots] = {}

    @asynccontextmanager
    async def answering(self, journal: Journal, *, whole: bool = False) -> AsyncIterator[AsyncIterator[str]]:
        """Yield the pieces of the answer; by then it is settled who gives it.

        Args:
            journal: Of the request; it takes in who is asked, and how that ends.
            whole: Nothing of the answer leaves before its end, so any failure can be made good.

        Raises:
            ServiceError: Nobody answers.
        """
        begun, attempt = await self._settled(journal, whole)
        async with aclosing(attempt):
            yield _chained(begun, attempt)

    def has_room(self, candidate: Candidate) -> bool:
        """Return whether a model would begin to answer at once, and keep nobody waiting that is there now."""
        slots = self._slots.get((candidate.upstream_name, candidate.upstream.concurrency))
        return slots is None or not (slots.waiting or slots.free.locked())

    async def _settled(self, journal: Journal, whole: bool) -> tuple[list[str], AsyncGenerator[str, None]]:
        """Return the beginning of an answer, or all of it, and where the rest comes from."""
        assert journal.decision is not None
        assert journal.decision.chosen is not None
        waiting = [journal.decision.chosen, *journal.decision.fallbacks]
        unsure: tuple[Candidate, list[str], Generated | None] | None = None
        failure: ServiceError | None = None
        while waiting:
            candidate = waiting.pop(0)
            for number in range(TRIES):
                now = self._clock.monotonic()
                seconds = ANSWER_SHARE * journal.remaining_seconds(now)
                if candidate in self._breakers and not self._breakers[candidate].lets_ask(now):
                    failure = Retryable(f"model {candidate.name!r} is not asked for now, for it fails; try again later")
                    self._note(journal, candidate, "skipped", str(failure), now, None)
                    break
                if not self._affords(candidate, number):
                    break
                patience = _Patience(BEGINNING_SHARE * seconds if waiting else seconds, seconds)
                attempt = self._attempt(journal, candidate, patience)
                try:
                    begun = [piece async for piece in attempt] if whole else [await anext(attempt, "")]
                except (Retryable, InvalidArgument) as error:
                    failure = error
                    if isinstance(error, (InvalidArgument, DeadlineExceeded, Overloaded)):
                        break  # it would say the same again, or take as long
                    if number + 1 < TRIES:
                        await asyncio.sleep(2 * PAUSE_SECONDS * self._clock.chance())
                    continue
                reason, better = self._doubt(journal, candidate, "".join(begun), waiting) if whole else ("", [])
                if reason:
                    outcome = "unsure" if better else "answered"
                    journal.attempts[-1] = msgspec.structs.replace(journal.attempts[-1], outcome=outcome, reason=reason)
                if not better:
                    return begun, attempt
                unsure, waiting = (candidate, begun, journal.generated), better
                break
        if unsure is None:
            assert failure is not None
            raise failure
        # An answer that is not sure is better than none.
        candidate, begun, generated = unsure
        journal.take(candidate)
        journal.generated = generated
        return begun, _nothing()

    def _doubt(
        self, journal: Journal, candidate: Candidate, answer: str, waiting: Sequence[Candidate]
    ) -> tuple[str, list[Candidate]]:
        """Return why an answer is not good enough, and those of higher tiers who promise a better one."""
        assert journal.generated is not None
        assert journal.decision is not None
        if journal.task.cascade is None:
            return "", []
        sure, chance = journal.generated.sum_logprob, None
        if sure is not None:
            chance = self._experience.confidence(candidate, journal.caller.tenant, journal.task_name, sure)
        reason = doubt(candidate, journal.task, journal.tools, journal.request.sampling, answer, chance)
        if not reason:
            return "", []
        promised = {estimate.model: estimate.chance for estimate in journal.decision.estimates}
        better = [each for each in waiting if TIERS.index(each.tier) > TIERS.index(candidate.tier)]
        if reason == WRONG_FORM:
            return reason, better
        tenant, task = journal.caller.tenant, journal.task_name
        return reason, [
            each
            for each in better
            if not self._experience.is_proven(each, tenant, task) or _at_least(promised.get(each.name), chance)
        ]

    def _affords(self, candidate: Candidate, number: int) -> bool:
        """Return whether a model may be asked: the first time always, again as its upstream's budget allows."""
        budget = self._budgets[candidate.upstream_name]
        if number == 0:
            budget.asked()
        return number == 0 or budget.takes_another()

    async def _attempt(self, journal: Journal, candidate: Candidate, patience: _Patience) -> AsyncGenerator[str, None]:
        """Yield a model's answer; how it ends, the journal takes in."""
        journal.take(candidate)
        assert journal.decision is not None
        question = prompt(
            candidate,
            journal.task,
            journal.messages,
            journal.tools,
            journal.decision.knowledge,
            journal.request.sampling,
        )
        outcome, reason, started = "failed", "given up", self._clock.monotonic()
        span, error_type = gen_ai.asking(journal, candidate), "cancelled"
        try:
            async with (
                self._slot(candidate, patience.beginning_seconds),
                aclosing(self._models.generate(question, patience.seconds)) as pieces,
            ):
                seconds: float | None = patience.beginning_seconds
                while not isinstance(piece := await self._piece(journal, candidate, pieces, seconds, span), Generated):
                    yield piece
                    seconds = None  # from here on the model's own limit holds
                journal.generated = piece
                outcome, reason, error_type = "answered", "", ""
        except ServiceError as error:
            reason, error_type = str(error), type(error).__name__
            raise
        finally:
            gen_ai.asked(span, candidate, journal.generated, error_type, self._clock.monotonic() - started)
            self._note(journal, candidate, outcome, reason, started, journal.generated)

    async def _piece(
        self,
        journal: Journal,
        candidate: Candidate,
        pieces: AsyncGenerator[str | Generated, None],
        seconds: float | None,
        span: Span,
    ) -> str | Generated:
        """Return the next piece. The stage is the time spent waiting for models, not for those who take its pieces."""
        started = self._clock.monotonic()
        try:
            # The upstream is told of the span; what the router does between two pieces is no part of it.
            with tracing.inside(span):
                async with asyncio.timeout(seconds) if seconds is not None else nullcontext():
                    piece = await anext(pieces, None)
            if piece is None:
                raise Retryable("the model ended without saying how")
        except Retryable:
            self._breakers[candidate].failed(self._clock.monotonic())
            raise
        except TimeoutError as error:
            self._breakers[candidate].failed(self._clock.monotonic())
            raise DeadlineExceeded(f"model {candidate.name!r} did not answer in time") from error
        finally:
            ended = self._clock.monotonic()
            journal.timeline.add_repeated(INFERENCE, started, ended)
        self._breakers.pop(candidate, None)
        journal.first_token_us = journal.first_token_us or journal.timeline.since_arrival_us(ended)
        return piece

    @asynccontextmanager
    async def _slot(self, candidate: Candidate, seconds: float) -> AsyncIterator[None]:
        """Hold one of the answers that the upstream may be writing at once; wait for one only if it comes in time."""
        name, concurrency = candidate.upstream_name, candidate.upstream.concurrency
        slots = self._slots.setdefault((name, concurrency), _Slots(concurrency))
        if slots.wait_seconds() > seconds:
            raise Overloaded(f"upstream {name!r} has {slots.waiting} requests waiting, too many; try again later")
        slots.waiting += 1
        try:
            async with asyncio.timeout(seconds) if slots.free.locked() else nullcontext():
                await slots.free.acquire()
        except TimeoutError as error:
            raise DeadlineExceeded(f"upstream {name!r} is busy; try again later") from error
        finally:
            slots.waiting -= 1
        started = self._clock.monotonic()
        try:
            yield
        finally:
            slots.free.release()
            slots.took(self._clock.monotonic() - started)

    def _note(
        self,
        journal: Journal,
        candidate: Candidate,
        outcome: str,
        reason: str,
        started: float,
        generated: Generated | None,
    ) -> None:
        """Put on record what became of asking a model."""
        telemetry.ATTEMPTS.labels(candidate.upstream_name, candidate.name, outcome).inc()
        start_us = journal.timeline.since_arrival_us(started)
        journal.attempts.append(
            Attempt(
                model=candidate.name,
                model_version=generated.model_version if generated else candidate.version,
                tier=candidate.tier,
                outcome=outcome,
                reason=reason,
                start_us=start_us,
                duration_us=journal.timeline.since_arrival_us(self._clock.monotonic()) - start_us,
                prompt_tokens=generated.prompt_tokens if generated else 0,
                completion_tokens=generated.completion_tokens if generated else 0,
                cost=candidate.price.of(generated.prompt_tokens, generated.completion_tokens) if generated else 0.0,
            )
        )


def _at_least(promised: float | None, chance: float | None) -> bool:
    """Return whether a model promises as much as an answer holds; where one is not known, whether it may."""
    return promised is None or chance is None or promised >= chance


async def _chained(begun: Sequence[str], rest: AsyncIterator[str]) -> AsyncIterator[str]:
    for piece in begun:
        yield piece
    async for piece in rest:
        yield piece


async def _nothing() -> AsyncGenerator[str, None]:
    return
    yield ""
