"""What experts have said so far, for the next decision: which requests they saw, what failed, how long they took.

Every replica follows all edge cases, labels and erasures, so that all of them know the same. Everything is in memory
and bounded; a new replica reads it from the topics.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

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


class Experience:
    """What is known of each tenant's tasks."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._tasks: defaultdict[tuple[str, str], _Task] = defaultdict(_Task)
        self._compared: dict[str, Asked] = {}  # what was compared last; some of it experts will be asked about
        self._erased: set[str] = set()  # topics are read in no order: what was erased may come after

    def known(self, interaction: Interaction) -> Known:
        """Return what is known of answers like one."""
        (known,) = self.compared([interaction])
        return known()

    def compared(self, interactions: Sequence[Interaction]) -> list[Callable[[], Known]]:
        """Compare interactions with what experts were asked, all at once.

        Returns:
            For each what gives what is known of answers like it by then.
        """
        vectors = self._vectors([question_of(each.messages) for each in interactions])
        of_tasks: defaultdict[tuple[str, str], list[Asked]] = defaultdict(list)
        places = []
        for interaction, vector in zip(interactions, vectors, strict=True):
            answer, model = answer_of(interaction), _model(interaction.model, interaction.model_version)
            asked = of_tasks[interaction.tenant, interaction.task]
            places.append(len(asked))
            asked.append(_asked(interaction.request_id, vector, interaction.messages, model, answer))
        self._compared = {each.request_id: each for asked in of_tasks.values() for each in asked}
        compared = {name: self._tasks[name].neighbours.compare(asked) for name, asked in of_tasks.items()}
        return [
            partial(compared[each.tenant, each.task].known, place)
            for each, place in zip(interactions, places, strict=True)
        ]

    def chance(self, tenant: str, task: str, model: str, found: Iterable[Signal]) -> float:
        """Return the chance that an answer of a model with these signals is wrong."""
        return self._tasks[tenant, task].estimators[model].chance(found)

    def seconds_per_item(self, tenant: str, task: str) -> float:
        """Return how long an expert takes for an item, in seconds."""
        return self._tasks[tenant, task].seconds

    def take_edge_case(self, edge_case: EdgeCase) -> None:
        """Remember that experts are asked about a request."""
        task = self._tasks[edge_case.tenant, edge_case.task]
        # One that was taken when it was picked is not looked at again when its topic tells of it.
        is_new = edge_case.request_id not in self._erased and edge_case.request_id not in task.neighbours
        if is_new and not edge_case.same_as:
            model = _model(edge_case.model, edge_case.model_version)
            asked = self._compared.get(edge_case.request_id)
            task.neighbours.add(asked or self._asked(edge_case.request_id, edge_case.messages, model, edge_case.answer))

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
            if label.request_id not in task.neighbours:
                task.neighbours.add(self._asked(label.request_id, asked, model, label.model_answer))
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
            self._compared.pop(erasure.request_id, None)
            for (tenant, _), task in self._tasks.items():
                if tenant == erasure.tenant:
                    task.neighbours.forget(erasure.request_id)

    def _asked(self, request_id: str, messages: Sequence[Message], model: str, answer: str) -> Asked:
        (vector,) = self._vectors([question_of(messages)])
        return _asked(request_id, vector, messages, model, answer)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        away: Vectors = self._space.embed(texts) - self._space.background.mean
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        return away


def _asked(request_id: str, vector: Vectors, messages: Iterable[Message], model: str, answer: str) -> Asked:
    return Asked(request_id, vector, words_of(conversation_of(messages)), model, called(answer), answer)


def _model(name: str, version: str) -> str:
    return f"{name}/{version}"
