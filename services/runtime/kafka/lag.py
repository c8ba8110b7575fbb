"""How far a consumer is behind, as metrics."""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from services.runtime import telemetry

# Topic and partition; aiokafka's `TopicPartition` is one.
Place = tuple[str, int]


class Lag:
    """What one consumer of this process has not handled yet, of each partition.

    The age is that of the oldest record that is in hand. Between two batches, while more is waiting that has not come,
    the last record handled stands in for the next one, which is no older.
    """

    def __init__(self, consumer: str) -> None:
        """Name the consumer: by its group, or as a `Follower` without one is named."""
        self._consumer = consumer
        self._oldest_ms: dict[Place, int] = {}
        self._known: set[Place] = set()

    def polled(self, consumer: Any, batches: Mapping[Place, Sequence[Any]]) -> None:
        """Take note of what aiokafka's consumer answered to `getmany`, where nothing of before is in hand."""
        assigned = consumer.assignment()
        self.forget(self._known - assigned)
        if not batches:
            self.caught_up(assigned)
        for place, messages in batches.items():
            self.taken(place, messages[0].timestamp)

    def taken(self, place: Place, timestamp_ms: int) -> None:
        """Take note of a batch that is to be handled, by the time of its first record."""
        if place not in self._known:
            self._known.add(place)
            age = telemetry.LAG_SECONDS.labels(self._consumer, *place)
            age.set_function(partial(self._age_seconds, place))
        self._oldest_ms[place] = timestamp_ms

    def handled(self, consumer: Any, place: Place, offset: int, timestamp_ms: int) -> int:
        """Take note of a batch that was handled, and return how many records are behind it, as far as is known.

        Args:
            consumer: aiokafka's, which knows where the partition ends; of one that is another's now it tells nothing.
            place: Of the batch.
            offset: Of its last record.
            timestamp_ms: The same record's time.
        """
        end: int | None = None
        with contextlib.suppress(AssertionError):  # aiokafka's, of one that goes this moment: Faust's has a thread
            end = consumer.highwater(place) if place in consumer.assignment() else None
        if end is None:
            self.forget([place])
            return 0
        behind = max(end - offset - 1, 0)
        if behind:
            self._oldest_ms[place] = timestamp_ms
        else:
            self._oldest_ms.pop(place, None)
        telemetry.LAG.labels(self._consumer, *place).set(behind)
        return behind

    def caught_up(self, places: Iterable[Place]) -> None:
        """Take note that nothing more has come of partitions none of whose records is in hand.

        What then still seems to be behind a batch are the markers of transactions, which nobody reads.
        """
        for place in places:
            if self._oldest_ms.pop(place, None) is not None:
                telemetry.LAG.labels(self._consumer, *place).set(0)

    def forget(self, places: Iterable[Place]) -> None:
        """Take note that partitions are another's."""
        for place in [each for each in places if each in self._known]:
            self._known.discard(place)
            self._oldest_ms.pop(place, None)
            telemetry.LAG.labels(self._consumer, *place).set(0)

    def _age_seconds(self, place: Place) -> float:
        oldest_ms = self._oldest_ms.get(place)
        return max(0.0, time.time() - oldest_ms / 1000) if oldest_ms is not None else 0.0
