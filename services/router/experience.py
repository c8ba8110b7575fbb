"""What this replica knows of how models did: how right, by what triage tells; how fast and long, by its own answers.

Everything is in memory and bounded, so that a decision asks nobody. A new replica reads the outcomes from their topic.
"""

from bisect import bisect_left, insort
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from schemas.events import Deployment, Message, Outcome, Tool
from services.router.domain.catalogue import Candidate
from services.router.domain.preparation import estimated_tokens, last_user_turn, text_tokens
from services.router.domain.routing import Estimate
from services.router.domain.success import PRIOR, Confidence, Features, Success
from services.runtime import telemetry
from services.runtime.embeddings import Space
from services.runtime.errors import Fatal
from services.runtime.logistic import Vector

# Models of tasks that are remembered, at some 10 kB each; those that were heard of least lately are forgotten first.
REMEMBERED = 4096
# An outcome stands for so many at most, however unlikely it was picked: the variance of the rest would drown it.
GREATEST_WEIGHT = 10.0
# Latest answers of a model by which it is timed, the fewest that say anything, and for how long they do.
LATEST, FEWEST, FRESH_SECONDS = 100, 10, 300.0
SLOW_SHARE = 0.95

# Outcomes of a model before its chance is held against that of an answer.
FEWEST_OUTCOMES = 20

K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True)
class Question:
    """What a decision is about.

    Attributes:
        tenant: Whose.
        task: Of which task.
        messages: As a model may see them.
        tools: Functions that are offered.
        max_tokens: Of the answer.
    """

    tenant: str
    task: str
    messages: Sequence[Message]
    tools: Sequence[Tool]
    max_tokens: int


@dataclass(frozen=True)
class _Key:
    """A model at a task. A generic model has no version here: the bundle names none."""

    tenant: str
    task: str
    model: str
    version: str


@dataclass
class _Known:
    success: Success
    outcomes: int = 0
    gates: set[str] = field(default_factory=set)  # candidates whose gates are learned


@dataclass
class _Sure:
    confidence: Confidence = field(default_factory=Confidence)
    gates: set[str] = field(default_factory=set)


@dataclass
class _Pace:
    """How fast and long a model's latest answers were."""

    answers: deque[tuple[float, int]] = field(default_factory=deque)  # seconds, tokens
    seconds: list[float] = field(default_factory=list)  # of the same, in their order
    tokens: int = 0  # of the same, together
    until: float = 0.0  # by the monotonic clock

    def add(self, seconds: float, tokens: int) -> None:
        """Take in one more answer, and forget one where there are enough."""
        self.answers.append((seconds, tokens))
        insort(self.seconds, seconds)
        self.tokens += tokens
        if len(self.answers) > LATEST:
            seconds, tokens = self.answers.popleft()
            del self.seconds[bisect_left(self.seconds, seconds)]
            self.tokens -= tokens

    @property
    def slow_seconds(self) -> float | None:
        """What all but the slowest took no longer than; nothing while there are too few to tell."""
        return self.seconds[int(SLOW_SHARE * len(self.seconds))] if len(self.seconds) >= FEWEST else None


class Experience:
    """What is known of models, kept up to date by outcomes, deployments and answers."""

    def __init__(self, space: Callable[[], Space]) -> None:
        self._space = space
        self._features: Features | None = None
        self._is_deaf = False
        self._known: OrderedDict[_Key, _Known] = OrderedDict()
        self._sure: OrderedDict[_Key, _Sure] = OrderedDict()
        self._paces: OrderedDict[_Key, _Pace] = OrderedDict()

    def listen(self) -> Features:
        """Have what requests look like at hand, and return it.

        Raises:
            Fatal: The embeddings are missing.
        """
        if self._features is None:
            self._features = Features(self._space())
        return self._features

    def take_outcome(self, outcome: Outcome) -> None:
        """Learn what came of an answer."""
        version = outcome.model_version if outcome.tier == "specialist" else ""
        key = _Key(outcome.tenant, outcome.task, outcome.model, version)
        weight = min(1 / outcome.propensity, GREATEST_WEIGHT) if outcome.propensity > 0 else GREATEST_WEIGHT
        if outcome.sum_logprob is not None:
            sure = _remembered(self._sure, key, _Sure)
            sure.confidence.learn(outcome.sum_logprob, outcome.success, weight)
        features = self._listening()
        if features is not None:
            x = features.of(outcome.question, outcome.turns, outcome.tools)
            known = self._of(key, outcome.tier)
            known.success.learn(x, outcome.success, weight)
            known.outcomes += 1

    def take_deployment(self, deployment: Deployment) -> None:
        """Learn what a gate found of a specialist, so that it and its answers are judged by that from the first on."""
        if deployment.state != "live" or not deployment.gate_items:
            return
        tenant, task, items = deployment.tenant, deployment.task, deployment.gate_items
        own = _Key(tenant, task, deployment.model, deployment.model_version)
        # Where this is no generic model but the specialist before, nobody will ask for it under this name.
        before = _Key(tenant, task, deployment.incumbent, "")
        for key, answers in ((own, deployment.candidate_answers), (before, deployment.incumbent_answers)):
            sure = _remembered(self._sure, key, _Sure)
            if deployment.candidate_id not in sure.gates:
                sure.gates.add(deployment.candidate_id)
                for answer in answers:
                    if answer.sum_logprob is not None:
                        sure.confidence.learn(answer.sum_logprob, float(answer.right))
        if self._listening() is None:
            return
        for key, tier, rate in (
            (own, "specialist", deployment.gate_accuracy),
            (before, "small", deployment.incumbent_accuracy),
        ):
            known = self._of(key, tier)
            if deployment.candidate_id not in known.gates:
                known.gates.add(deployment.candidate_id)
                known.success.learn_rate(rate, items)
                known.outcomes += items

    def answered(self, candidate: Candidate, tenant: str, task: str, seconds: float, tokens: int, now: float) -> None:
        """Take in how long a model took to answer whole, and with how many tokens; `now` is of the monotonic clock."""
        key = _key(candidate, tenant, task)
        pace = _remembered(self._paces, key, _Pace)
        if now > pace.until:
            pace = self._paces[key] = _Pace()
        pace.add(seconds, tokens)
        pace.until = now + FRESH_SECONDS

    def confidence(self, candidate: Candidate, tenant: str, task: str, sum_logprob: float) -> float:
        """Return the chance that an answer is right whose tokens' log-probabilities sum up to this."""
        return _remembered(self._sure, _key(candidate, tenant, task), _Sure).confidence.chance(sum_logprob)

    def is_proven(self, candidate: Candidate, tenant: str, task: str) -> bool:
        """Return whether what is expected of a candidate rests on what came of its answers."""
        known = self._known.get(_key(candidate, tenant, task))
        return known is not None and known.outcomes >= FEWEST_OUTCOMES

    def estimates(self, candidates: Sequence[Candidate], question: Question, now: float) -> list[Estimate]:
        """Return what is to be expected of each candidate; `now` is of the monotonic clock."""
        x: Vector | None = None
        if self._features is not None:
            said = question.messages[last_user_turn(question.messages)].content
            x = self._features.of(said, len(question.messages), len(question.tools))
        return [self._estimate(candidate, question, x, now) for candidate in candidates]

    def _estimate(self, candidate: Candidate, question: Question, x: Vector | None, now: float) -> Estimate:
        key = _key(candidate, question.tenant, question.task)
        pace = self._paces.get(key)
        fresh = pace if pace is not None and now <= pace.until else None
        longest = min(candidate.max_tokens, question.max_tokens)
        tokens = min(fresh.tokens / len(fresh.answers), longest) if fresh is not None else longest
        prompt_tokens = sum(map(estimated_tokens, question.messages))
        if candidate.deployment is None:  # a specialist is not shown them
            prompt_tokens += sum(text_tokens(tool.description + tool.parameters) for tool in question.tools)
        return Estimate(
            chance=None if x is None else self._of(key, candidate.tier).success.chance(x),
            price=candidate.price.of(prompt_tokens, tokens),
            seconds=fresh.slow_seconds if fresh is not None else None,
        )

    def _of(self, key: _Key, tier: str) -> _Known:
        return _remembered(
            self._known, key, lambda: _Known(Success(self.listen().dimensions, PRIOR.get(tier, PRIOR["small"])))
        )

    def _listening(self) -> Features | None:
        """Return what requests look like, or nothing where no embeddings are: a bundle with a bar is refused there."""
        if self._is_deaf:
            return None
        try:
            return self.listen()
        except Fatal as error:
            telemetry.log().warning("models are not judged", error=str(error))
            self._is_deaf = True
            return None


def _key(candidate: Candidate, tenant: str, task: str) -> _Key:
    return _Key(tenant, task, candidate.name, candidate.version)


def _remembered(rows: OrderedDict[K, V], key: K, new: Callable[[], V]) -> V:
    if key not in rows:
        rows[key] = new()
    rows.move_to_end(key)
    if len(rows) > REMEMBERED:
        rows.popitem(last=False)
    return rows[key]
