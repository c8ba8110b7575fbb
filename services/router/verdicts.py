"""What governance says of requests, answers and feedback: without a verdict that lets it, nothing passes."""

from collections.abc import Sequence

from schemas.events import Finding
from services.router.domain.catalogue import Caller
from services.router.domain.errors import GovernanceSilent, Refused
from services.router.domain.knowledge import InputVerdict, OutputVerdict
from services.router.domain.masking import instructions_among, texts_of, with_texts, without_texts
from services.router.domain.request import Feedback
from services.router.domain.timeline import GOVERNANCE, POLICY
from services.router.domain.windows import Window
from services.router.journal import NO_PART, Journal, Part
from services.router.ports import Governance
from services.runtime.clock import Clock
from services.runtime.errors import ServiceError


class Verdicts:
    """Asks governance, no longer than `seconds` for one verdict, and puts what it says into the journal."""

    def __init__(self, governance: Governance, clock: Clock, seconds: float) -> None:
        self._governance = governance
        self._clock = clock
        self._seconds = seconds

    async def take_request(self, journal: Journal) -> None:
        """Ask about a request, and leave of its texts what may be seen.

        Raises:
            ServiceError: It may not pass.
        """
        texts = texts_of(journal.messages, journal.tools)
        started = self._clock.monotonic()
        remaining_seconds = journal.remaining_seconds(started)
        try:
            verdict = await self._input_verdict(
                journal.caller.application,
                journal.task_name,
                texts,
                instructions_among(journal.messages, journal.tools),
                remaining_seconds,
            )
        except GovernanceSilent:
            # Raises when it was the request's own deadline that passed.
            journal.remaining_seconds(self._clock.monotonic())
            raise
        ended = self._clock.monotonic()
        start_us, policy_us = journal.timeline.since_arrival_us(started), verdict.policy_us
        whole_us = journal.timeline.since_arrival_us(ended) - start_us
        # Policy is decided within the call; the two stages share its time, so that neither is counted twice.
        journal.timeline.add_us(GOVERNANCE, start_us, max(0, whole_us - policy_us))
        journal.timeline.add_us(POLICY, start_us + max(0, whole_us - policy_us), min(policy_us, whole_us))
        if verdict.verdict == "refuse" and len(verdict.texts) != len(texts):
            journal.messages, journal.tools = without_texts(journal.messages), ()
        else:
            journal.messages, journal.tools = with_texts(journal.messages, journal.tools, verdict.texts)
            journal.vault.keep(verdict.masks, journal.messages, journal.tools)
        journal.verdict = verdict  # only now: from here on the texts are fit for the record
        if verdict.verdict == "refuse":
            raise Refused(f"refused: the request holds {_named(verdict.findings)}")

    async def part(self, journal: Journal, window: Window, due: str) -> Part:
        """Return what may leave of an answer that is still being written, and move the window past it."""
        verdict = await self._output_verdict(journal, due, window.start)
        characters = window.releasable(due, verdict.findings)
        if not characters:
            return NO_PART
        part, start = window.text[:characters], window.start
        found = [finding for finding in verdict.findings if finding.end <= characters]
        if verdict.verdict == "mask":
            # The verdict covers what is held back too; only `part` leaves, so `part` is asked about by itself. Where it
            # shows less than the whole did, what told a number for what it is follows it, and both wait.
            verdict = await self._output_verdict(journal, part, start)
            if _masked(verdict.findings) != _masked(found):
                return NO_PART
            part = journal.vault.named(verdict.text, verdict.masks)
        journal.take_findings(found, start)  # what was found in what is held back will be found again
        window.release(characters)
        return Part(part, verdict.verdict, verdict.bundle_version)

    async def rest(self, journal: Journal, text: str, start: int = 0) -> Part:
        """Return what may leave of an answer, or of the rest of one from character `start` on."""
        if not text and not journal.asked.schema:
            return NO_PART
        verdict = await self._output_verdict(journal, text, start)
        journal.take_findings(verdict.findings, start)
        return Part(journal.vault.named(verdict.text, verdict.masks), verdict.verdict, verdict.bundle_version)

    async def on_feedback(self, caller: Caller, feedback: Feedback) -> tuple[str, str]:
        """Return the text and the comment of feedback as they may be kept.

        Raises:
            ServiceError: They may not be.
        """
        texts = [text for text in (feedback.text, feedback.comment) if text]
        if not texts:
            return "", ""
        verdict = await self._input_verdict(caller.application, caller.tasks[0], texts, [], self._seconds)
        if verdict.verdict == "refuse":
            raise Refused(f"refused: the feedback holds {_named(verdict.findings)}")
        masked = list(verdict.texts)
        return (masked.pop(0) if feedback.text else ""), (masked.pop(0) if feedback.comment else "")

    async def _input_verdict(
        self, application: str, task: str, texts: list[str], instructions: list[int], remaining_seconds: float
    ) -> InputVerdict:
        try:
            verdict = await self._governance.check_input(
                application, task, texts, instructions, min(self._seconds, remaining_seconds)
            )
        except ServiceError as error:
            raise GovernanceSilent("refused: governance gave no verdict; try again later") from error
        if verdict.verdict != "refuse" and len(verdict.texts) != len(texts):
            raise GovernanceSilent(f"refused: governance answered {len(verdict.texts)} texts for {len(texts)}")
        return verdict

    async def _output_verdict(self, journal: Journal, text: str, start: int) -> OutputVerdict:
        """Return the verdict on a part of the answer that begins at character `start`, if it may leave."""
        started = self._clock.monotonic()
        timeout_seconds = min(self._seconds, journal.remaining_seconds(self._clock.monotonic()))
        try:
            verdict = await self._governance.check_output(
                journal.caller.application, journal.task_name, text, journal.asked, timeout_seconds
            )
        except ServiceError as error:
            # Raises when it was the request's own deadline that passed.
            journal.remaining_seconds(self._clock.monotonic())
            raise GovernanceSilent("refused: governance gave no verdict on the answer; try again later") from error
        finally:
            journal.timeline.add_repeated(GOVERNANCE, started, self._clock.monotonic())
        if verdict.verdict != "pass":
            journal.output_verdict = verdict.verdict
        journal.output_verdict = journal.output_verdict or "pass"
        if verdict.verdict == "refuse":
            journal.take_findings(verdict.findings, start)
            raise Refused(f"refused: the answer holds {_named(verdict.findings)}")
        return verdict


def _masked(findings: Sequence[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.action == "mask"]


def _named(findings: Sequence[Finding]) -> str:
    kinds = sorted({finding.kind for finding in findings if finding.action == "refuse"})
    return f"text that is not allowed ({', '.join(kinds)})" if kinds else "text that is not allowed"
