"""What was labelled already, by what was asked: alike questions have alike answers to begin with."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.events import Erasure, Label, Sensitivity
from schemas.labels import Kind
from services.runtime.embeddings import Vectors
from services.triage.domain.labels import CONFIRMED, CORRECTED

# A longer answer is not kept: it is no starting point that a person takes in at a glance.
LONGEST_ANSWER = 8_000
# The level of a place that is free: above every clearance.
_NOBODY = 127


@dataclass(frozen=True)
class Answered:
    """A labelled item.

    Attributes:
        request_id: Of the item.
        question: What was asked, its beginning.
        answer: The right one.
        outcome: confirmed or corrected.
        likeness: Cosine of both questions' embeddings, at most 1.
    """

    request_id: str
    question: str
    answer: str
    outcome: str
    likeness: float = 0.0


class _Shelf:
    """The labelled items of one tenant and task, the latest of them; exact search, for there are not many."""

    def __init__(self, most: int, dimensions: int) -> None:
        self._most = most
        self._vectors: Vectors = np.zeros((0, dimensions), np.float32)
        self._levels = np.zeros(0, np.int8)
        self._places: OrderedDict[str, int] = OrderedDict()  # by request, oldest first
        self._items: dict[int, Answered] = {}
        self._free: list[int] = []

    def put(self, item: Answered, vector: Vectors, level: int) -> None:
        self.remove(item.request_id)
        if len(self._places) == self._most:
            self.remove(next(iter(self._places)))
        if not self._free:
            self._grow()
        place = self._free.pop()
        self._vectors[place], self._levels[place] = vector, level
        self._places[item.request_id], self._items[place] = place, item

    def remove(self, request_id: str) -> None:
        place = self._places.pop(request_id, None)
        if place is not None:
            del self._items[place]
            self._levels[place] = _NOBODY
            self._free.append(place)

    def nearest(self, vector: Vectors, level: int, count: int) -> list[tuple[float, Answered]]:
        # On one core: the threads that `@` would start wait for one another longer than this takes.
        cosines = np.where(self._levels <= level, np.einsum("ij,j->i", self._vectors, vector), -np.inf)
        best = [int(each) for each in np.argsort(-cosines)[:count]]
        return [(float(cosines[each]), self._items[each]) for each in best if np.isfinite(cosines[each])]

    def _grow(self) -> None:
        size = len(self._vectors)
        added = min(max(64, size), self._most - size)
        self._vectors = np.vstack([self._vectors, np.zeros((added, self._vectors.shape[1]), np.float32)])
        self._levels = np.concatenate([self._levels, np.full(added, _NOBODY, np.int8)])
        self._free += range(size + added - 1, size - 1, -1)


class Alike:
    """Labelled items by tenant and task, in memory, rebuilt from the topics of labels and erasures at each start."""

    def __init__(
        self, embed: Callable[[Sequence[str]], Vectors], dimensions: int, most: int, minimum_likeness: float
    ) -> None:
        """Begin empty.

        Args:
            embed: Gives texts their vectors, of length 1.
            dimensions: Of those.
            most: Items kept of each tenant and task, the latest labelled.
            minimum_likeness: Cosine below which two questions have nothing to do with one another.
        """
        self._embed = embed
        self._dimensions = dimensions
        self._most = most
        self._minimum_likeness = minimum_likeness
        self._shelves: dict[tuple[str, str], _Shelf] = {}
        self._erased: set[str] = set()  # a label may be read after the erasure of its request

    def take_label(self, label: Label) -> None:
        """Take what an expert said; the last word on an item holds."""
        if label.request_id in self._erased or label.kind == Kind.GOLD:
            return
        shelf = self._shelves.setdefault((label.tenant, label.task), _Shelf(self._most, self._dimensions))
        kept = label.outcome in (CONFIRMED, CORRECTED) and label.question and label.answer
        if not kept or len(label.answer) > LONGEST_ANSWER:
            shelf.remove(label.request_id)
            return
        item = Answered(label.request_id, label.question, label.answer, label.outcome)
        shelf.put(item, self._embed([label.question])[0], label.sensitivity.level)

    def take_erasure(self, erasure: Erasure) -> None:
        """Forget an item whose request was erased."""
        if erasure.is_whole:
            self._erased.add(erasure.request_id)
            for shelf in self._shelves.values():
                shelf.remove(erasure.request_id)

    def nearest(
        self,
        question: str,
        tenant: str,
        task: str,
        *,
        clearance: Sensitivity,
        tenants: Collection[str] | None = None,
        but: str = "",
        count: int = 3,
    ) -> list[Answered]:
        """Return the labelled items of a tenant and task whose question is most alike, best first, each answer once.

        Args:
            question: What is asked now.
            tenant: Whose.
            task: Of which task.
            clearance: Nothing more sensitive is returned.
            tenants: Those whose items the reader may see; none named: all.
            but: The request that is asked about: what others said of it is not for who judges it.
            count: At most so many.
        """
        shelf = self._shelves.get((tenant, task))
        if shelf is None or not question or (tenants is not None and tenant not in tenants):
            return []
        found: dict[str, Answered] = {}
        for likeness, item in shelf.nearest(self._embed([question])[0], clearance.level, 8 * count):
            if likeness >= self._minimum_likeness and item.answer not in found and item.request_id != but:
                found[item.answer] = Answered(item.request_id, item.question, item.answer, item.outcome, likeness)
        return list(found.values())[:count]
