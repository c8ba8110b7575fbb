"""Ports made real: labels and actions to their topics."""

import asyncio
from types import TracebackType
from typing import Self

from schemas.events import Label, ReviewAction
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.errors import Rejected, Retryable
from services.runtime.kafka import Producer, until_answered

# So many actions wait, at most, while Kafka is away.
MOST_WAITING = 10_000
STOP_SECONDS = 5.0


class KafkaLabels:
    """Labels on their topic."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def write(self, label: Label) -> None:
        """Write a label; on return it is acknowledged by every in-sync replica.

        Raises:
            Retryable: It was not.
        """
        await self._producer.send(Topic.LABELS, label)


class KafkaActions:
    """Actions on their topic, in the order in which they were done, written while entered."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._waiting: list[tuple[ReviewAction, asyncio.Future[None]]] = []
        self._wake = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Begin to write."""
        self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write what is left; what Kafka does not take in time is logged."""
        if self._waiting:
            await asyncio.wait([done for _, done in self._waiting], timeout=STOP_SECONDS)
        assert self._writing is not None
        self._writing.cancel()
        await asyncio.gather(self._writing, return_exceptions=True)
        for action, done in self._waiting:
            if not done.done():
                _log_lost(action, "the process ends")

    def check_room(self) -> None:
        """Do nothing while more can be taken.

        Raises:
            Retryable: It cannot.
        """
        if len(self._waiting) >= MOST_WAITING:
            raise Retryable("what experts do cannot be put on record now; try again in a moment")

    def record(self, action: ReviewAction) -> asyncio.Future[None]:
        """Take an action; what is returned is done when it is acknowledged."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((action, done))
        self._wake.set()
        return done

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            batch = list(self._waiting)
            await asyncio.gather(*(self._send(*each) for each in batch))
            del self._waiting[: len(batch)]

    async def _send(self, action: ReviewAction, done: asyncio.Future[None]) -> None:
        try:
            await until_answered("Kafka", lambda: self._producer.send(Topic.ACTIONS, action))
        except Rejected as error:
            _log_lost(action, str(error))
        if not done.done():  # who waited for it may have gone
            done.set_result(None)


def _log_lost(action: ReviewAction, reason: str) -> None:
    fields = {f"action_{name}": str(getattr(action, name)) for name in action.__struct_fields__}
    telemetry.log().error("action is not on record", reason=reason, **fields)
