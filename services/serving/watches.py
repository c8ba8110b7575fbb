"""What is known of the answers of each task, and the watches on the specialists that went live of late.

Everything is in memory and bounded. After a restart it is read again from the topics.
"""

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from msgspec.structs import replace

from schemas.events import Deployment, Feedback, Interaction, Shadow
from services.serving.domain.signals import (
    BURSTS,
    COMPLAINTS,
    CORRECTIONS,
    TOLD_WRONG,
    Signal,
    answer_of,
    is_complaint,
    of_feedback,
    of_gate,
    of_request,
)
from services.serving.domain.watching import Alarm, Watch
from services.serving.state import WATCHED, DesiredState

# Versions whose latest answers are remembered, and how many values of each signal.
VERSIONS, LATEST = 256, 500
# Answers that feedback is waited for, and the longest that is compared with a correct one.
ANSWERS, LONGEST_ANSWER = 10_000, 4096
# A complaint counts that comes so soon after its answer: later ones are the fewer, the younger a specialist is.
AT_ONCE = timedelta(seconds=30)
# What went before a deployment is read again from so long before it, after a restart.
READ_AGAIN = timedelta(hours=1)
# In which a record that was written comes to be read.
ON_THE_WAY = timedelta(seconds=2)
# Of failures within one such time after another the first alone counts.
BURST_SECONDS = 30.0

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class _By:
    """Who was asked for a task: a version of its specialist, or with none, the generic models."""

    task_key: str
    version: str


@dataclass
class _Known:
    """The latest values of each signal, and when a burst of bad ones began."""

    values: defaultdict[Signal, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=LATEST)))
    bad_at: dict[Signal, float] = field(default_factory=dict)


@dataclass
class _Answer:
    by: _By
    at: datetime
    text: str | None  # none: it is too long to be kept
    is_shadow: bool = False  # nobody got it, so that it can be told wrong, and not be complained of
    complained_of: bool = False
    told_wrong: bool = False
    judged_by: set[Signal] = field(default_factory=set)


@dataclass
class _Watched:
    deployment: Deployment
    watch: Watch
    before: _By


@dataclass(frozen=True)
class Finding:
    """That a specialist is bad, or that one in the shadow, or a canary, has answered enough without an alarm."""

    deployment: Deployment
    alarm: Alarm | None
    answers: int


class Watches:
    """Follows interactions and feedback, and tells which specialists are bad."""

    def __init__(self, state: DesiredState, chance: Callable[[], float]) -> None:
        """Take the desired state, whose bundle says what is wanted of answers, and a source of chance in [0, 1)."""
        self._state = state
        self._chance = chance
        self._watched: dict[str, _Watched] = {}  # by task
        self._known: OrderedDict[_By, _Known] = OrderedDict()
        self._answers: OrderedDict[str, _Answer] = OrderedDict()  # by request
        self._shadows: OrderedDict[str, _Answer] = OrderedDict()  # what specialists in the shadow say, by request
        # Of each kind the first, by request, for it may be read before the answer.
        self._said: OrderedDict[str, dict[str, Feedback]] = OrderedDict()
        # Answers that may still be complained of at once, oldest first.
        self._unsettled: deque[_Answer] = deque(maxlen=ANSWERS)

    def read_from(self, now: datetime) -> datetime:
        """Return from when on interactions and feedback are to be read, so that no evidence is missing."""
        since = [
            each.deployed_at
            for each in self._state.deployments.values()
            if each.false_rollbacks and each.state == "live" and now - each.deployed_at < WATCHED
        ]
        return min(since, default=now) - READ_AGAIN

    def take_deployment(self, deployment: Deployment) -> None:
        """Begin to watch what goes live, and end the watch on what was live before in its task."""
        key = deployment.task_key
        self._watched.pop(key, None)
        if deployment.state != "live" or not deployment.false_rollbacks:
            return
        watched = _Watched(
            deployment,
            Watch(deployment.false_rollbacks),
            _By(key, next((each.model_version for each in deployment.before), "")),
        )
        for answer in deployment.candidate_answers:
            for signal, value in of_gate(answer):
                watched.watch.learn(signal, value)
        if watched.before in self._known:
            for signal, values in self._known[watched.before].values.items():
                for value in values if not signal.of_gate else ():
                    watched.watch.learn(signal, value)
        self._watched[key] = watched

    def take_interaction(self, interaction: Interaction) -> None:
        """Take what a request tells of who was asked, and be ready for what is said of its answer."""
        key, at = f"{interaction.tenant}/{interaction.task}", interaction.finished_at
        for attempt, signal, value in of_request(interaction, self._state.bundle):
            by = _By(key, attempt.model_version if attempt.tier == "specialist" else "")
            self._take(by, signal, value, at)
        if interaction.phase != "finished" or interaction.finish_reason in ("refused", "cancelled", "error"):
            return
        by = _By(key, interaction.model_version if interaction.tier == "specialist" else "")
        answer = _Answer(by, at, _kept(answer_of(interaction)))
        self._take_answer(self._answers, interaction.request_id, answer)

    def take_shadow(self, shadow: Shadow) -> None:
        """Take what a specialist in the shadow says to a request, and be ready for what is said of that."""
        by = _By(f"{shadow.tenant}/{shadow.task}", shadow.model_version)
        for _, signal, value in of_request(shadow, self._state.bundle):
            self._take(by, signal, value, shadow.answered_at)
        if shadow.finish_reason not in ("refused", "error"):
            answer = _Answer(by, shadow.answered_at, _kept(shadow.answer), is_shadow=True)
            self._take_answer(self._shadows, shadow.request_id, answer)

    def take_feedback(self, feedback: Feedback) -> None:
        """Take what is said of an answer: of each kind the first."""
        said = self._said.get(feedback.request_id) or {}
        # What is longer than any answer that is kept is none of them, however it goes on.
        said.setdefault(feedback.kind, replace(feedback, text=feedback.text[: LONGEST_ANSWER + 1], comment=""))
        _put(self._said, feedback.request_id, said, ANSWERS)
        for answers in (self._answers, self._shadows):
            if feedback.request_id in answers:
                self._judge(answers[feedback.request_id], feedback)

    def look(self, now: datetime) -> list[Finding]:
        """Settle which answers were found fault with at once, and return what is to be done about specialists."""
        while self._unsettled and now - self._unsettled[0].at >= AT_ONCE + ON_THE_WAY:
            answer = self._unsettled.popleft()
            if not answer.is_shadow:
                self._take(answer.by, COMPLAINTS, float(answer.complained_of), answer.at)
            self._take(answer.by, TOLD_WRONG, float(answer.told_wrong), answer.at)
        found = []
        for key, watched in [*self._watched.items()]:
            deployment, answers = watched.deployment, watched.watch.count(TOLD_WRONG)
            if deployment.share >= 1 and now - deployment.deployed_at >= WATCHED:
                del self._watched[key]
            elif watched.watch.alarm is not None or (deployment.share < 1 and answers >= self._enough(deployment)):
                found.append(Finding(deployment, watched.watch.alarm, answers))
        return found

    def _enough(self, deployment: Deployment) -> int:
        if self._state.bundle is None:
            return 0
        rollout = self._state.bundle.rollout_of(deployment.task)
        return rollout.canary_requests if deployment.share > 0 else rollout.shadow_requests

    def _take_answer(self, answers: OrderedDict[str, _Answer], request_id: str, answer: _Answer) -> None:
        _put(answers, request_id, answer, ANSWERS)
        self._unsettled.append(answer)
        for feedback in self._said.get(request_id, {}).values():
            self._judge(answer, feedback)

    def _judge(self, answer: _Answer, feedback: Feedback) -> None:
        if feedback.tenant != answer.by.task_key.partition("/")[0]:
            return
        if answer.text is None and feedback.kind == "correct_answer":
            return
        judged = of_feedback(feedback, answer.text or "")
        if answer.is_shadow and feedback.kind != "correct_answer":
            return  # it is said of the answer that its user got
        if feedback.given_at - answer.at < AT_ONCE:
            answer.complained_of |= is_complaint(feedback, answer.text or "")
            answer.told_wrong |= judged == (CORRECTIONS, 1.0)
        if judged is not None and judged[0] not in answer.judged_by:
            answer.judged_by.add(judged[0])
            self._take(answer.by, *judged, feedback.given_at)

    def _take(self, by: _By, signal: Signal, value: float, at: datetime) -> None:
        known = self._known.get(by) or _Known()
        _put(self._known, by, known, VERSIONS)
        if signal in BURSTS and value:
            seconds = at.timestamp()
            if abs(seconds - known.bad_at.get(signal, -BURST_SECONDS)) < BURST_SECONDS:
                return
            known.bad_at[signal] = seconds
        known.values[signal].append(value)
        watched = self._watched.get(by.task_key)
        if watched is None:
            return
        if by.version == watched.deployment.model_version:
            watched.watch.observe(signal, value, self._chance())
        elif by == watched.before and not signal.of_gate:
            watched.watch.learn(signal, value)


def _kept(text: str) -> str | None:
    return text if len(text) <= LONGEST_ANSWER else None


def _put(rows: OrderedDict[K, V], key: K, value: V, at_most: int) -> None:
    """Keep a row, the youngest now, and forget the oldest where there are too many."""
    rows[key] = value
    rows.move_to_end(key)
    if len(rows) > at_most:
        rows.popitem(last=False)
