"""The use case of the traffic: decide what is worth an expert's time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from schemas.bundle import Bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Feedback, Interaction, Signal
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Rejected
from services.triage.domain.neighbours import Known
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Budget, Decision, Selector
from services.triage.domain.signals import asked_about, signals
from services.triage.domain.spans import on_record
from services.triage.domain.texts import answer_of
from services.triage.experience import Experience

DAY_SECONDS = 24 * 3600.0
# How much an answer's chance counts for in its rank, where experts were asked about many like it of late.
CROWDED = 0.25


@dataclass(frozen=True)
class Considered:
    """What came of an interaction or of feedback.

    Attributes:
        remembered: What is to be known of the request from now on.
        selector: What is to be known of its tenant and task; nothing when that has not changed.
        edge_case: For the experts, or one that repeats what they are asked already; nothing when it was not picked.
    """

    remembered: Remembered
    selector: Selector | None = None
    edge_case: EdgeCase | None = None


@dataclass(frozen=True)
class _Judged:
    """An answer as it looks now."""

    known: Known
    found: tuple[Signal, ...]
    chance: float

    @property
    def rank(self) -> float:
        """What it is ranked by among others: its chance of being wrong, unless there are many like it."""
        return self.chance * CROWDED if self.known.crowded else self.chance


@dataclass(frozen=True)
class Picker:
    """Picks the answers that experts are asked about.

    Attributes:
        experience: What experts have said so far.
        clock: Gives time and chance.
        partitions: That share out what a budget allows a day.
    """

    experience: Experience
    clock: Clock
    partitions: int

    def consider(
        self,
        interaction: Interaction,
        record: bytes,
        remembered: Remembered,
        selector: Selector,
        bundle: Bundle,
        drift: float = 0.0,
        known: Callable[[], Known] | None = None,
    ) -> Considered | None:
        """Decide about an interaction; nothing when it is none to ask about, was decided about before, or was erased.

        Args:
            interaction: To decide about.
            record: Its bytes, as the topic holds them.
            remembered: What is known of the request already.
            selector: Of its tenant and task.
            bundle: Holds the budget.
            drift: Least part of the budget that is spent at random, because the task has changed; 0 where it has not.
            known: Gives what is known of answers like it, where it was compared together with others (`compared`).

        Raises:
            Rejected: The bundle does not know its tenant, so there is no budget for it.
        """
        if remembered.erased or remembered.decided or not asked_about(interaction):
            return None
        said = tuple(each for each in remembered.feedback if each.tenant == interaction.tenant)
        judged = self._judged(interaction, said, bundle, drift > 0, known)
        budget = self._budget(bundle, interaction, drift)
        selector, decision = selector.decide(
            judged.rank, budget, self.clock.chance(), interaction.received_at.timestamp()
        )
        row = Remembered(
            partition=remembered.partition,
            decided=True,
            flagged=decision.flagged,
            interaction=b"" if decision.flagged else record,
            feedback=said,
        )
        return self._considered(interaction, row, selector, decision, judged, bundle)

    def reconsider(
        self, feedback: Feedback, remembered: Remembered, selector: Selector, bundle: Bundle
    ) -> Considered | None:
        """Decide again about an interaction that was not picked.

        Nothing comes of feedback that is a repeat, nor where all was erased. Feedback that comes
        before its interaction waits for it.

        Raises:
            Rejected: The request is another tenant's, or the bundle does not know its tenant.
        """
        if remembered.erased or any(each.feedback_id == feedback.feedback_id for each in remembered.feedback):
            return None
        said = (*remembered.feedback, feedback)
        waiting = Remembered(
            partition=remembered.partition,
            decided=remembered.decided,
            flagged=remembered.flagged,
            interaction=remembered.interaction,
            feedback=said,
        )
        if not remembered.decided or remembered.flagged:
            return Considered(waiting)
        interaction: Interaction = codec(Topic.INTERACTIONS).decode(remembered.interaction)
        if feedback.tenant != interaction.tenant:
            raise Rejected(f"tenant: {feedback.tenant!r} has no say in a request of {interaction.tenant!r}")
        before = self._judged(interaction, remembered.feedback, bundle)
        now = self._judged(interaction, said, bundle)
        if now.chance <= before.chance:
            return Considered(waiting)
        budget = self._budget(bundle, interaction)
        selector, decision = selector.reconsider(now.rank, budget, self.clock.chance())
        if not decision.flagged:
            return Considered(waiting, selector)
        flagged = Remembered(partition=remembered.partition, decided=True, flagged=True, feedback=said)
        return self._considered(interaction, flagged, selector, decision, now, bundle)

    def _judged(
        self,
        interaction: Interaction,
        feedback: Sequence[Feedback],
        bundle: Bundle,
        drifted: bool = False,
        compared: Callable[[], Known] | None = None,
    ) -> _Judged:
        known = compared() if compared is not None else self.experience.known(interaction)
        function_call = bundle.wants_call(interaction.task)
        found = signals(interaction, feedback, known, function_call=function_call, drifted=drifted)
        chance = self.experience.chance(interaction.tenant, interaction.task, interaction.model, found)
        return _Judged(known, found, chance)

    def _budget(self, bundle: Bundle, interaction: Interaction, drift: float = 0.0) -> Budget:
        tenant, task = interaction.tenant, interaction.task
        if tenant not in bundle.tenants:
            raise Rejected(f"tenant: {tenant!r} is not in bundle {bundle.version}, so there is no budget for it")
        experts = bundle.experts_of(tenant, task)
        a_day = [
            *([experts.items_per_day] if experts.items_per_day is not None else []),
            *(
                [60 * experts.minutes_per_day / self.experience.seconds_per_item(tenant, task)]
                if experts.minutes_per_day is not None
                else []
            ),
        ]
        per_second = min(a_day) / DAY_SECONDS / self.partitions if a_day else None
        return Budget(experts.share, max(experts.exploration, drift), per_second)

    def _considered(
        self,
        interaction: Interaction,
        remembered: Remembered,
        selector: Selector,
        decision: Decision,
        judged: _Judged,
        bundle: Bundle,
    ) -> Considered:
        if not decision.flagged:
            return Considered(remembered, selector)
        tenant, task, same_as = interaction.tenant, interaction.task, judged.known.same_as
        found = [each for each in interaction.findings if each.direction == "output"]
        edge_case = EdgeCase(
            request_id=interaction.request_id,
            tenant=tenant,
            task=task,
            flagged_at=self.clock.now(),
            score=judged.chance,
            threshold=min(1.0, decision.threshold * judged.chance / judged.rank),  # as a chance
            explored=decision.explored,
            propensity=decision.propensity,
            share=decision.share,
            value=judged.chance / (self.experience.seconds_per_item(tenant, task) / 60),
            overlap=self.clock.chance() < bundle.experts_of(tenant, task).overlap,
            same_as=same_as or "",
            signals=judged.found,
            messages=interaction.messages,
            tools=interaction.tools,
            answer=answer_of(interaction),
            model=interaction.model,
            model_version=interaction.model_version,
            sum_logprob=interaction.sum_logprob,
            sensitivity=interaction.sensitivity,
            bundle_version=interaction.bundle_version,
            # Of a call that the router read out of an answer the answer itself is not on record.
            findings=on_record(found, interaction.answer),
            citations=interaction.citations,
            memory_turns=interaction.memory_turns,
        )
        return Considered(remembered, selector if same_as is None else selector.not_asked(), edge_case)
