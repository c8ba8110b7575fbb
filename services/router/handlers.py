"""The pipeline that every request goes through, in the order of its steps."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from opentelemetry import trace

from schemas import events
from schemas.events import Sensitivity
from services.router.admission import Admission
from services.router.domain.answers import tool_call
from services.router.domain.catalogue import Catalogue
from services.router.domain.errors import InvalidField, Refused, Unrecorded
from services.router.domain.knowledge import NOTHING, Knowledge, without_said
from services.router.domain.preparation import fit, language_of, last_user_turn, normalise_messages
from services.router.domain.request import Feedback, Request, check, check_feedback
from services.router.domain.routing import UNEXPLORED, decide
from services.router.domain.timeline import (
    CONTEXT_STITCHING,
    DATA_PREP,
    ROUTING,
    Timeline,
)
from services.router.domain.windows import Window
from services.router.experience import Experience, Question
from services.router.inference import Inference
from services.router.journal import NO_PART, Call, Completion, Journal, Part, Piece
from services.router.ports import Context, Governance, Models, Recorder
from services.router.records import Records
from services.router.shadows import Shadows
from services.router.verdicts import Verdicts
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Retryable, ServiceError


@dataclass(frozen=True)
class Patience:
    """How long the router waits for the services beside it, within the request's own deadline."""

    governance_seconds: float
    context_seconds: float


@dataclass(frozen=True)
class Explanation:
    """What would be decided about a request. `refusal` says why it would not be answered; empty: it would."""

    journal: Journal
    refusal: str


@dataclass
class Router:
    """The use cases of applications. `catalogue` answers with the present state of bundle and deployments."""

    catalogue: Callable[[], Catalogue]
    governance: Governance
    context: Context
    models: Models
    recorder: Recorder
    admission: Admission
    experience: Experience
    clock: Clock
    patience: Patience

    def __post_init__(self) -> None:
        self._records = Records(self.recorder, self.admission, self.clock)
        self._inference = Inference(self.models, self.experience, self.clock)
        self._verdicts = Verdicts(self.governance, self.clock, self.patience.governance_seconds)
        self._shadows = Shadows(self._inference, self._verdicts, self.recorder, self.clock)

    async def complete(self, call: Call, request: Request) -> Completion:
        """Answer a request; on return the record of it is acknowledged.

        Raises:
            ServiceError: It is not answered. Once the request was understood, that is recorded too.
        """
        async with self._let_in(call, request, streamed=False) as journal:
            await self._decide(journal, self.clock.chance())
            async with self._inference.answering(journal, whole=True) as pieces:
                text = "".join([piece async for piece in pieces])
            rest = await self._verdicts.rest(journal, text)
            self._check_key(journal)
            await self._conclude(journal, rest)
            return journal.completion()

    async def stream(self, call: Call, request: Request) -> AsyncGenerator[Piece | Completion, None]:
        """Answer a request piece by piece; the last is the `Completion`.

        No piece leaves without a verdict that covers it, none before `opened` is acknowledged, none for a key that was
        taken back meanwhile, and the last not before `finished` is. Closing the generator stops the model.

        Raises:
            ServiceError: As `complete`; also in the middle.
        """
        async with self._let_in(call, request, streamed=True) as journal:
            await self._decide(journal, self.clock.chance())
            async with self._inference.answering(journal, whole=journal.leaves_whole) as pieces:
                window = Window(journal.guardrails, journal.asked.instructions)
                async for piece in pieces:
                    window.add(piece)
                    due = "" if journal.leaves_whole else window.due()
                    part = await self._verdicts.part(journal, window, due) if due else NO_PART
                    if part.text:
                        self._check_key(journal)
                        await self._records.open(journal)
                        journal.release(part)
                        yield journal.piece(part.text)
            rest = await self._verdicts.rest(journal, window.text, window.start)
            self._check_key(journal)
            await self._records.open(journal)
            await self._conclude(journal, rest)
            if rest.text and not journal.tool_calls:
                yield journal.piece(rest.text)
            yield journal.completion()

    async def explain(self, call: Call, request: Request) -> Explanation:
        """Decide about a request as `complete` would, ask no model, record nothing.

        Raises:
            ServiceError: Nothing could be decided.
        """
        with self.admission.place():
            journal = self._prepare(call, request, streamed=False)
            try:
                await self._decide(journal, UNEXPLORED)
            except Refused as refused:
                return Explanation(journal, str(refused))
            return Explanation(journal, "")

    async def send_feedback(self, call: Call, feedback: Feedback) -> str:
        """Record what an application says of an earlier answer, masked as a request would be. Returns its id.

        Raises:
            ServiceError: It is not recorded.
        """
        catalogue = self.catalogue()
        caller = catalogue.caller(call.key)
        check_feedback(feedback)
        text, comment = await self._verdicts.on_feedback(caller, feedback)
        feedback_id = self.clock.new_id()
        event = events.Feedback(
            feedback_id=feedback_id,
            request_id=feedback.request_id,
            tenant=caller.tenant,
            application=caller.application,
            given_at=self.clock.now(),
            source="explicit",
            kind=feedback.kind,
            rating=feedback.rating,
            text=text,
            comment=comment,
            user=feedback.user,
        )
        try:
            await self.recorder.feedback(event)
        except Retryable as error:
            raise Unrecorded("the feedback could not be recorded; send it again later") from error
        return feedback_id

    def application_of(self, key: str) -> str:
        """Return the application that a key belongs to.

        Raises:
            ServiceError: The key is not known, or nothing is known yet.
        """
        return self.catalogue().caller(key).application

    def model_names(self, key: str) -> list[str]:
        """Return what the owner of a key may write as the model.

        Raises:
            ServiceError: The key is not known, or nothing is known yet.
        """
        catalogue = self.catalogue()
        return catalogue.model_names(catalogue.caller(key))

    async def drain(self) -> None:
        """Wait for records that nobody else waits for."""
        await asyncio.gather(self._records.drain(), self._shadows.drain())

    # The steps, in their order.

    @asynccontextmanager
    async def _let_in(self, call: Call, request: Request, *, streamed: bool) -> AsyncIterator[Journal]:
        """Let a request in, if it is one and its limits allow; whatever then becomes of it is on record."""
        with self.admission.place():
            journal = self._prepare(call, request, streamed)
            self.admission.admit(journal.caller, journal.catalogue)
            trace.get_current_span().set_attribute("gyre.request_id", call.request_id)
            async with self._records.ending(journal):
                yield journal

    def _prepare(self, call: Call, request: Request, streamed: bool) -> Journal:
        """Authenticate and data-prep: the time of both is data-prep's."""
        catalogue = self.catalogue()
        caller = catalogue.caller(call.key)
        check(request)
        messages = normalise_messages(request.messages)
        said = messages[last_user_turn(messages)].content
        settled = catalogue.settle(caller, request.task, request.model, said)
        task = catalogue.task(settled.task)
        if request.tools and task.answers != "function-call":
            raise InvalidField("tools", f"the task {settled.task!r} answers in text; wanted none")
        fitted = fit(messages, task.prompt_budget_tokens, task.cut)
        limits = [task.deadline_ms / 1000]
        if call.deadline_seconds is not None:
            limits.append(call.deadline_seconds)
        journal = Journal(
            call=call,
            catalogue=catalogue,
            caller=caller,
            task_name=settled.task,
            task_by=settled.task_by,
            task=task,
            asked_for=settled.model,
            request=request,
            messages=fitted.messages,
            tools=request.tools,
            language=language_of(said),
            cuts=fitted.cuts,
            streamed=streamed,
            deadline=call.arrived + min(limits),
            timeline=Timeline(call.arrived),
        )
        journal.remaining_seconds(self.clock.monotonic())
        journal.timeline.add(DATA_PREP, call.arrived, self.clock.monotonic())
        return journal

    def _check_key(self, journal: Journal) -> None:
        """Let nothing leave for a key that was taken back since the request was let in.

        Raises:
            Unauthenticated: It was.
        """
        catalogue = self.catalogue()
        if catalogue.bundle is not journal.catalogue.bundle:
            catalogue.caller(journal.call.key)

    async def _decide(self, journal: Journal, draw: float) -> None:
        """Governance and context at the same time, then routing, which explores by the draw."""
        stitching = asyncio.create_task(self._stitch(journal))
        try:
            await self._verdicts.take_request(journal)
            knowledge = journal.vault.apart(without_said(await stitching, journal.messages))
        finally:
            stitching.cancel()
        assert journal.verdict is not None
        started = self.clock.monotonic()
        candidates = journal.catalogue.candidates(journal.caller.tenant, journal.task_name, journal.who)
        question = Question(
            journal.caller.tenant,
            journal.task_name,
            journal.messages,
            journal.tools,
            min(journal.request.sampling.max_tokens or journal.task.max_tokens, journal.task.max_tokens),
        )
        journal.decision = decide(
            candidates,
            self.experience.estimates(candidates, question, started),
            journal.catalogue.bundle.routing_of(journal.task_name),
            draw,
            journal.asked_for,
            journal.verdict.sensitivity,
            journal.verdict.clearances,
            knowledge,
        )
        journal.timeline.add(ROUTING, started, self.clock.monotonic())
        if journal.decision.chosen is None:
            asked_for = f"model {journal.asked_for!r}" if journal.asked_for else "live model"
            raise Refused(f"refused: no {asked_for} is cleared for {journal.decision.sensitivity} requests")
        journal.take(journal.decision.chosen)

    async def _stitch(self, journal: Journal) -> Knowledge:
        started = self.clock.monotonic()
        try:
            knowledge = await self.context.stitch(
                tenant=journal.caller.tenant,
                task=journal.task_name,
                query=journal.messages[last_user_turn(journal.messages)].content,
                conversation_id=journal.request.conversation_id,
                budget_tokens=journal.task.context_budget_tokens,
                # Governance is asked at the same time, so what may be seen is not known yet: routing drops the rest.
                max_sensitivity=Sensitivity.RESTRICTED,
                timeout_seconds=min(self.patience.context_seconds, journal.remaining_seconds(self.clock.monotonic())),
            )
            journal.context_available = True
            if journal.messages[-1].role == "user":  # what brings the results of tools repeats its question
                journal.asked_again = knowledge.asked_again
        except ServiceError as error:
            telemetry.log().warning("context did not answer", request_id=journal.call.request_id, error=str(error))
            knowledge = NOTHING
        journal.timeline.add(CONTEXT_STITCHING, started, self.clock.monotonic())
        return knowledge

    async def _conclude(self, journal: Journal, rest: Part) -> None:
        """The answer is complete: say how it ended, and have that acknowledged."""
        assert journal.generated is not None
        journal.release(rest)
        journal.finish_reason = journal.generated.finish_reason
        self._learn_pace(journal)
        if journal.answers_with_calls:
            call = tool_call(journal.answer, journal.tools, f"call_{journal.call.request_id.replace('-', '')}")
            if call is not None:
                journal.tool_calls, journal.finish_reason = (call,), "tool_calls"
        await self._records.finish(journal)
        self._shadows.ask(journal)

    def _learn_pace(self, journal: Journal) -> None:
        assert journal.decision is not None
        asked = {
            candidate.name: candidate
            for candidate in (journal.decision.chosen, *journal.decision.fallbacks)
            if candidate
        }
        for attempt in journal.attempts:
            if attempt.outcome in ("answered", "unsure"):
                self.experience.answered(
                    asked[attempt.model],
                    journal.caller.tenant,
                    journal.task_name,
                    attempt.duration_us / 1e6,
                    attempt.completion_tokens,
                    self.clock.monotonic(),
                )
