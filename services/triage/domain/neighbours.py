"""Requests that experts were asked about, and what they said: what is known of others like them."""

import math
import re
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Sequence
from weakref import WeakSet

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from services.runtime.embeddings import Vectors
from services.runtime.logistic import log_odds, logistic

# Requests that are remembered of one tenant and task, the latest.
REMEMBERED = 2048
# How many of the nearest are looked at, and how fast one counts for less the further away it is.
NEAREST = 8
REACH = 0.15
# From here on two requests are alike enough to be told of as such.
ALIKE = 0.85
# Requests of the same words are one request made twice. So are those of nearly the same that got the same answer: from
# this cosine and this share of common words on.
SAME_DIRECTION, SAME_WORDS = 0.95, 0.8
# Of the latest requests that experts were asked about, if there are some, no more than this part is to be much alike.
LATEST, SOME, CROWD = 100, 20, 0.2
# What is believed before anything is known: this share of answers fail, as if so many had been seen.
SHARE, DOUBT = 0.5, 2.0
# A label of another model's answer tells less of this one's.
OTHER_MODEL = 0.25
_WORD = re.compile(r"\w+")


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A request that experts were asked about.

    Attributes:
        request_id: Which.
        vector: What it asks, (D,), of length 1.
        words: Of the conversation.
        model: Who answered, with its version.
        called: The function that was called; empty where none was.
        answer: What was answered.
        failed: Whether an expert found the answer wrong; None while nobody has said.
    """

    request_id: str
    vector: Vectors
    words: frozenset[str]
    model: str
    called: str
    answer: str
    failed: bool | None = None


class Known(msgspec.Struct, frozen=True):
    """What the neighbours say of an answer.

    Attributes:
        same_as: The request that experts were asked about already, if this is that one again.
        nearest: Cosine between the request and the most alike that was asked about; None where nothing was.
        similar: Labelled requests that are much like it.
        similar_failed: Answers to these that were wrong.
        similar_share: How likely such answers are wrong beside all of the task's, in (0, 1): 0.5 just as likely.
        called: Labelled answers that called the same function.
        called_failed: Those of them that were wrong.
        called_share: The same of these.
        crowded: Experts were asked about many much like it of late.
    """

    same_as: str | None = None
    nearest: float | None = None
    similar: int = 0
    similar_failed: int = 0
    similar_share: float = 0.5
    called: int = 0
    called_failed: int = 0
    called_share: float = 0.5
    crowded: bool = False


def words_of(text: str) -> frozenset[str]:
    """Return the words of a text, as two are compared by."""
    return frozenset(_WORD.findall(text.casefold()))


class Comparison:
    """New requests beside those that experts were asked about, and beside those that they are asked about meanwhile.

    All are compared at once, in one product of matrices: one after the other would take several times as long.
    """

    def __init__(self, neighbours: "Neighbours", new: Sequence[Asked]) -> None:
        self._neighbours = neighbours
        self._new = new
        self._vectors = np.stack([each.vector for each in new])
        self._cosines: Vectors

    def known(self, place: int) -> Known:
        """Return what is known of one of them by now."""
        return self._neighbours._known(self._new[place], self._cosines[place])

    def compare(self, vectors: Vectors, taken: npt.NDArray[np.bool_]) -> None:
        """Compare them with the vectors of all rows (rows, D), of which some are not taken."""
        self._cosines = self._vectors @ vectors.T if len(vectors) else np.zeros((len(self._new), 0), np.float32)
        if not taken.all():
            self._cosines[:, ~taken] = -np.inf

    def put(self, row: int, vector: Vectors) -> None:
        """Compare them with a new row."""
        self._cosines[:, row] = self._vectors @ vector

    def drop(self, row: int) -> None:
        """Compare them with a row no more."""
        self._cosines[:, row] = -np.inf


class Neighbours:
    """The latest requests of one tenant and task that experts were asked about, in memory."""

    def __init__(self) -> None:
        self._rows: OrderedDict[str, int] = OrderedDict()  # by request, oldest first
        self._asked: dict[int, Asked] = {}
        self._vectors: Vectors = np.zeros((0, 0), np.float32)
        self._taken: npt.NDArray[np.bool_] = np.zeros(0, np.bool_)
        self._free: list[int] = []
        self._latest: deque[int] = deque()  # rows
        self._much_alike: Vectors = np.zeros(0, np.float32)  # by row, the cosine from which it is; none of earlier ones
        self._judged: Counter[bool] = Counter()
        self._calls: defaultdict[str, defaultdict[str, Counter[bool]]] = defaultdict(lambda: defaultdict(Counter))
        self._comparisons: WeakSet[Comparison] = WeakSet()

    def __contains__(self, request_id: str) -> bool:
        """Say whether a request is remembered."""
        return request_id in self._rows

    def add(self, asked: Asked) -> None:
        """Take in a request, unless it is known; the oldest is forgotten for it where there are too many."""
        if asked.request_id in self._rows:
            return
        if len(self._rows) >= REMEMBERED:
            self.forget(next(iter(self._rows)))
        if not self._free:
            self._grow(len(asked.vector))
        row = self._free.pop()
        self._rows[asked.request_id] = row
        self._asked[row] = asked
        self._vectors[row] = asked.vector
        self._taken[row] = True
        if len(self._latest) == LATEST:
            self._much_alike[self._latest.popleft()] = np.inf
        self._latest.append(row)
        self._much_alike[row] = ALIKE
        for comparison in self._comparisons:
            comparison.put(row, asked.vector)
        self._count(asked, 1)

    def judged(self, request_id: str) -> bool:
        """Say whether an expert's word on a request is known."""
        return request_id in self._rows and self._asked[self._rows[request_id]].failed is not None

    def judge(self, request_id: str, failed: bool | None) -> None:
        """Take in what an expert said of a request, or that it is taken back."""
        if request_id in self._rows:
            row = self._rows[request_id]
            self._count(self._asked[row], -1)
            self._asked[row] = replace(self._asked[row], failed=failed)
            self._count(self._asked[row], 1)

    def forget(self, request_id: str) -> None:
        """Drop a request, if it is there."""
        row = self._rows.pop(request_id, None)
        if row is not None:
            self._count(self._asked.pop(row), -1)
            self._taken[row] = False
            if row in self._latest:
                self._latest.remove(row)
                self._much_alike[row] = np.inf
            for comparison in self._comparisons:
                comparison.drop(row)
            self._free.append(row)

    def compare(self, new: Sequence[Asked]) -> Comparison:
        """Compare requests that experts are not asked about yet; there is at least one."""
        comparison = Comparison(self, new)
        comparison.compare(self._vectors, self._taken)
        self._comparisons.add(comparison)
        return comparison

    def of(self, new: Asked) -> Known:
        """Return what is known of an answer that experts are not asked about yet."""
        return self.compare([new]).known(0)

    def _known(self, new: Asked, cosines: Vectors) -> Known:
        """Return what is known of an answer, given the cosine of its request with each row, (rows,)."""
        if not self._rows:
            return Known()
        count = min(NEAREST, len(self._rows))
        crowd = int(np.count_nonzero(cosines >= self._much_alike))
        rows = cosines.argpartition(len(cosines) - count)[-count:]
        nearest = [
            (cosine, self._asked[row]) for cosine, row in zip(cosines[rows].tolist(), rows.tolist(), strict=True)
        ]
        labelled = [(cosine, asked) for cosine, asked in nearest if asked.failed is not None]
        close = [asked for cosine, asked in labelled if cosine >= ALIKE]
        weights = [_weight(cosine, asked.model == new.model) for cosine, asked in labelled]
        failed = sum(weight for weight, (_, asked) in zip(weights, labelled, strict=True) if asked.failed)
        calls = self._calls[new.called].items() if new.called in self._calls else ()
        counted = [(1.0 if name == new.model else OTHER_MODEL, counts) for name, counts in calls]
        return Known(
            same_as=next((asked.request_id for cosine, asked in nearest if _is_same(cosine, new, asked)), None),
            nearest=max(cosine for cosine, _ in nearest),
            similar=len(close),
            similar_failed=sum(bool(asked.failed) for asked in close),
            similar_share=self._against_the_rest(failed, sum(weights)),
            called=sum(counts.total() for _, counts in counted),
            called_failed=sum(counts[True] for _, counts in counted),
            called_share=self._against_the_rest(
                sum(weight * counts[True] for weight, counts in counted),
                sum(weight * counts.total() for weight, counts in counted),
            ),
            crowded=len(self._latest) >= SOME and crowd > CROWD * len(self._latest),
        )

    def _against_the_rest(self, failed: float, seen: float) -> float:
        rate = (self._judged[True] + DOUBT * SHARE) / (self._judged.total() + DOUBT)
        share = (failed + DOUBT * rate) / (seen + DOUBT)
        return logistic(log_odds(share) - log_odds(rate))

    def _count(self, asked: Asked, by: int) -> None:
        if asked.failed is None:
            return
        self._judged[asked.failed] += by
        if asked.called:
            self._calls[asked.called][asked.model][asked.failed] += by

    def _grow(self, dimensions: int) -> None:
        size = len(self._vectors)
        more = np.zeros((max(64, size), dimensions), np.float32)
        self._vectors = np.concatenate((self._vectors.reshape(size, dimensions), more))
        self._taken = np.concatenate((self._taken, np.zeros(len(more), np.bool_)))
        self._much_alike = np.concatenate((self._much_alike, np.full(len(more), np.inf, np.float32)))
        self._free = list(range(len(self._vectors) - 1, size - 1, -1))
        for comparison in self._comparisons:
            comparison.compare(self._vectors, self._taken)


def _weight(cosine: float, same_model: bool) -> float:
    return math.exp((cosine - 1) / REACH) * (1.0 if same_model else OTHER_MODEL)


def _is_same(cosine: float, new: Asked, asked: Asked) -> bool:
    if new.request_id == asked.request_id:
        return False  # it is decided about again, for what came of it the first time was not committed
    if not new.words or new.words == asked.words:
        return bool(new.words)
    alike = cosine >= SAME_DIRECTION and len(new.words & asked.words) >= SAME_WORDS * len(new.words | asked.words)
    return alike and bool(new.answer) and new.answer == asked.answer
