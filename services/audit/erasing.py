"""Erasing a person: first it is put on record where something goes, then it goes.

In that order, so that a row without content is never without an erasure that explains it, and so that an erasure which
was begun is finished whatever happens to the process. Other services read the erasures and drop what they hold.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.events import Erasure
from schemas.topics import Topic
from services.audit.domain import OF_REQUESTS
from services.audit.ports import Events, Ledger
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import NotFound, Retryable

_SENT_AT_ONCE = 500
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Erased:
    """What an erasure concerned."""

    erasure_id: str
    requests: int
    rows: int
    dataset_ids: Sequence[str]
    candidate_ids: Sequence[str]


async def announce(
    ledger: Ledger, events: Events, clock: Clock, tenant: str, subject: str, asked_by: str = ""
) -> Erased:
    """Put on record what is to be erased of a person, and return it; `Eraser` then erases it.

    Args:
        ledger: Where the person's records are.
        events: Takes the erasures.
        clock: Dates them.
        tenant: Whose application the person used.
        subject: The person, as applications say in `user`.
        asked_by: Who has it erased.

    Raises:
        NotFound: Nothing is on record of that person.
        Retryable: The ledger or Kafka is away; what was announced is erased all the same.
    """
    found = await ledger.personal(tenant, subject)
    if not found:
        raise NotFound(f"subject: nothing is on record of that user of {tenant}")
    erasure_id, now = clock.new_id(), clock.now()
    wishes = [
        Erasure(
            request_id=each.request_id,
            erasure_id=erasure_id,
            tenant=tenant,
            asked_at=now,
            is_whole=each.is_whole,
            rows=tuple(each.rows),
            dataset_ids=tuple(each.dataset_ids),
            candidate_ids=tuple(each.candidate_ids),
            asked_by=asked_by,
        )
        for each in found
    ]
    for start in range(0, len(wishes), _SENT_AT_ONCE):
        await asyncio.gather(*(events.send(Topic.ERASURES, wish) for wish in wishes[start : start + _SENT_AT_ONCE]))
    return Erased(
        erasure_id,
        requests=len(wishes),
        rows=sum(len(wish.rows) for wish in wishes),
        dataset_ids=sorted({each for wish in wishes for each in wish.dataset_ids}),
        candidate_ids=sorted({each for wish in wishes for each in wish.candidate_ids}),
    )


class Eraser:
    """Takes the content out of rows that erasures on record name."""

    def __init__(self, ledger: Ledger, *, signed: bool) -> None:
        """Say what an erasure has to wait for.

        Args:
            ledger: Where the rows are.
            signed: Whether erasures are signed, so that one that is not yet does not show as tampering.
        """
        self._ledger = ledger
        self._signed = signed
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Take note that an erasure is on record, or may be."""
        self._asked.set()

    async def run(self) -> None:
        """Erase, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                if not await self._erase():
                    self._asked.set()
            except Retryable as error:
                telemetry.log().warning("waiting", what="ledger", error=str(error))
                self._asked.set()
            await asyncio.sleep(POLL_SECONDS)

    async def _erase(self) -> bool:
        """Erase what can be, and return whether nothing is left."""
        for topic in OF_REQUESTS:
            while places := await self._ledger.unerased(topic, signed=self._signed):
                await self._ledger.erase(topic, places)
                telemetry.log().info("erased", topic=str(topic), rows=len(places))
        return await _nothing_left(self._ledger)


async def finished(ledger: Ledger, erased: Erased) -> None:
    """Wait until an erasure is on record and nothing is left that it names.

    Raises:
        Retryable: The ledger is away; the erasure goes on all the same.
    """
    while (  # noqa: ASYNC110 - ClickHouse is asked; it gives no notice
        await ledger.announced(erased.erasure_id) < erased.requests
        or not await _nothing_left(ledger, erased.erasure_id)
    ):
        await asyncio.sleep(POLL_SECONDS)


async def _nothing_left(ledger: Ledger, erasure_id: str = "") -> bool:
    return not any([await ledger.unerased(topic, signed=False, erasure_id=erasure_id) for topic in OF_REQUESTS])
