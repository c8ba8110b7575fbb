"""What experts have said so far, for the next decision: which requests they saw, what failed, how long they took.

Every replica follows all edge cases, labels and erasures, so that all of them know the same. Everything is in memory
and bounded; a new replica reads it from the topics.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from schemas.events import EdgeCase, Erasure, Interaction, Label, Message, Signal
from schemas.labels import JUDGEMENTS, Kind, Outcome
from services.runtime.embeddings import Space, Vectors
from services.triage.domain.estimation import Estimator
from services.triage.domain.neighbours import Asked, Known, Neighbours, words_of
from services.triage.domain.texts import answer_of, called, conversation_of, question_of

# How long an item takes before anything is known, as if so many had; how many of the latest count, each up to how long.
SECONDS, SUPPOSED = 60.0, 5
LATEST = 200
LONGEST_SECONDS = 1800.0


@dataclass
class _Task:
    neighbours: Neighbours = field(default_factory=Neighbours)
    estimators: defaultdict[str, Estimator] = field(default_factory=lambda: defaultdict(Estimator))  # by model
    seconds: float = SECONDS
    timed: int = SUPPOSED
    repeats: Counter[str] = field(default_factory=Counter)  # by the request that was asked again


class Experience:
    """What is known of each tenant's tasks."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._tasks: defaultdict[tuple[str, str], _Task] = defaultdict(_Task)
        self._erased: set[str] = set()  # topics are read in no order: what was erased may come after

    def known(self, interaction: Interaction) -> Known:
        """Return what is known of answers like one."""
        return self._tasks[interaction.tenant, interaction.task].neighbours.of(
            self._asked(
                interaction.request_id,
                interaction.messages,
                answer_of(interaction),
                _model(interaction.model, interaction.model_version),
            )
        )

    def chance(self, tenant: str, task: str, model: str, found: Iterable[Signal]) -> float:
        """Return the chance that an answer of a model with these signals is wrong."""
        return self._tasks[tenant, task].estimators[model].chance(found)

    def seconds_per_item(self, tenant: str, task: str) -> float:
        """Return how long an expert takes for an item, in seconds."""
        return self._tasks[tenant, task].seconds

    def repeats(self, tenant: str, task: str, request_id: str) -> int:
        """Return how often a request was made again since experts were asked about it."""
        return self._tasks[tenant, task].repeats[request_id]

    def take_edge_case(self, edge_case: EdgeCase) -> None:
        """Remember that experts are asked about a request, or that it is one of which they were."""
        task = self._tasks[edge_case.tenant, edge_case.task]
        if edge_case.same_as:
            task.repeats[edge_case.same_as] += 1
        elif edge_case.request_id not in self._erased:
            model = _model(edge_case.model, edge_case.model_version)
            _remember(task, self._asked(edge_case.request_id, edge_case.messages, edge_case.answer, model))

    def take_label(self, label: Label) -> None:
        """Learn from what an expert said: of an answer the first word counts, of requests like it the last."""
        if label.kind == Kind.GOLD or label.outcome not in (*JUDGEMENTS, Outcome.RETRACTED):
            return
        task = self._tasks[label.tenant, label.task]
        if label.outcome == Outcome.RETRACTED:
            task.neighbours.judge(label.request_id, None)
            return
        failed = label.outcome != Outcome.CONFIRMED
        known = task.neighbours.judged(label.request_id)
        if label.request_id not in self._erased:
            asked, model = (Message(role="user", content=label.question),), _model(label.model, label.model_version)
            _remember(task, self._asked(label.request_id, asked, label.model_answer, model))
            task.neighbours.judge(label.request_id, failed)
        if known:
            return
        if label.propensity > 0:
            weight = label.share / label.propensity
            task.estimators[label.model].learn(label.signals, failed, weight, label.model_version)
        if label.seconds_spent > 0:
            task.timed = min(task.timed + 1, LATEST)
            task.seconds += (min(label.seconds_spent, LONGEST_SECONDS) - task.seconds) / task.timed

    def take_erasure(self, erasure: Erasure) -> None:
        """Forget a request."""
        if erasure.is_whole:
            self._erased.add(erasure.request_id)
            for (tenant, _), task in self._tasks.items():
                if tenant == erasure.tenant:
                    task.neighbours.forget(erasure.request_id)
                    task.repeats.pop(erasure.request_id, None)

    def _asked(self, request_id: str, messages: Iterable[Message], answer: str, model: str) -> Asked:
        vector, words = self._vector(question_of(messages)), words_of(conversation_of(messages))
        return Asked(request_id, vector, words, model, called(answer), answer)

    def _vector(self, text: str) -> Vectors:
        away: Vectors = self._space.embed([text])[0] - self._space.background.mean
        return away / max(float(np.linalg.norm(away)), 1e-9)


def _remember(task: _Task, asked: Asked) -> None:
    gone = task.neighbours.add(asked)
    if gone is not None:
        task.repeats.pop(gone, None)


def _model(name: str, version: str) -> str:
    return f"{name}/{version}"
