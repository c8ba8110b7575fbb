"""Faust that hands its agents records by the batch, and commits between batches alone.

Left to itself Faust makes tasks, an event and an acknowledgement of each record, which takes longer than deciding about
it. Here what one fetch brought of a partition goes the way of one message, and is acknowledged as one.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP, ConsumerMessage

# Records of one batch at most: enough to share out what it costs, few enough to hold in memory and not to keep others
# of the process waiting for long.
MOST_RECORDS = 256
# Batches that wait for their agent.
WAITING = 8


class Batch(ConsumerMessage):
    """Records of one partition, one after the other, as a message of Faust's whose offset is the last one's."""

    __slots__ = ("records",)
    records: Sequence[Any]


class BatchConsumer(Consumer):
    """Hands out batches, of all topics but changelogs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._free = asyncio.Lock()
        self._fetching = asyncio.Lock()
        self._is_whole = True

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Enter to write what came of a batch, and to acknowledge the batch.

        Nothing is committed meanwhile, nor ever again where that was cut short: so a transaction holds all that came of
        a batch and where to read on, or nothing of it.
        """
        async with self._free:
            self._is_whole = False
            yield
            self._is_whole = True

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's own
    ) -> Mapping[TP, list[Any]]:
        # Faust changes the set meanwhile. Empty it would stand for every partition, and what came would be dropped.
        asked = active_partitions and set(active_partitions)
        async with self._fetching:
            fetched = await super()._getmany(asked, timeout)
        return {tp: found if self._is_changelog_tp(tp) else _parts(found) for tp, found in fetched.items()}

    async def perform_seek(self) -> None:
        """Go back to where the group stands, once nothing is on its way: what was may be dropped."""
        async with self._fetching:
            await super().perform_seek()

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, list):
            return super()._to_message(tp, record)
        last = record[-1]
        batch = Batch(
            last.topic,
            last.partition,
            last.offset,
            last.timestamp / 1000,  # Faust's are seconds
            last.timestamp_type,
            None,
            None,
            b"",
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )
        # After Faust has gone back, part of what it had fetched may lie before where it goes on.
        first = self._read_offset[tp] or 0
        batch.records = record if record[0].offset >= first else [each for each in record if each.offset >= first]
        return batch

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: what lies between two acknowledgements was handled with the later one."""

    def _new_offset(self, tp: TP) -> int | None:
        # Batches of a partition are handled one after the other, so the last one that was is all that counts.
        handled = self._acked[tp]
        if not handled:
            return None
        last = max(handled)
        handled.clear()
        self._acked_index[tp].clear()
        return last + 1

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what was handled, once nobody writes."""
        async with self._free:
            return self._is_whole and cast(bool, await super().force_commit(topics, start_new_transaction))


class BatchTransport(Transport):
    """Kafka as `BatchConsumer` reads it."""

    Consumer = BatchConsumer


def _parts(records: list[Any]) -> list[list[Any]]:
    return [records[start : start + MOST_RECORDS] for start in range(0, len(records), MOST_RECORDS)]
