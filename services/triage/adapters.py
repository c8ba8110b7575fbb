"""Ports made real: labels and actions to their topics, items on disk."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from rocksdict import Options, Rdict

from schemas.events import Label, ReviewAction
from schemas.topics import Topic
from services.runtime import telemetry
from services.runtime.errors import Rejected, Retryable
from services.runtime.kafka import Producer, until_answered
from services.triage.domain.rows import Item

# So many actions wait, at most, while Kafka is away.
MOST_WAITING = 10_000
STOP_SECONDS = 5.0
SCRUB_SECONDS = 1.0


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


class ItemsOnDisk:
    """Items in RocksDB, made anew at each start: the topics have them all."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        self._rows = Rdict(str(folder), Options(raw_mode=True))
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Item)
        self._scrubbing: asyncio.TimerHandle | None = None

    def close(self) -> None:
        """Let go of the files."""
        if self._scrubbing is not None:
            self._scrubbing.cancel()
        self._rows.close()

    def get(self, request_id: str) -> Item | None:
        """Return a row."""
        row = self._rows.get(request_id.encode())
        return None if row is None else self._decoder.decode(row)

    def put(self, request_id: str, item: Item) -> None:
        """Write a row."""
        self._rows[request_id.encode()] = self._encoder.encode(item)

    def delete(self, request_id: str) -> None:
        """Remove a row."""
        self._rows.delete(request_id.encode())

    def before(self, time: datetime) -> Iterator[str]:
        """Yield the requests before a time; ids are UUIDv7, whose order is that of time."""
        end = f"{int(time.timestamp() * 1000):012x}"
        end = f"{end[:8]}-{end[8:]}"
        for key in self._rows.keys():  # noqa: SIM118 - no dict: it cannot be iterated over itself
            request_id = bytes(key).decode()  # type: ignore[arg-type] # in raw mode keys are bytes
            if request_id >= end:
                return
            yield request_id

    def scrub(self) -> None:
        """Take what was overwritten or removed out of the files, in which RocksDB leaves it for a time.

        Erasures come many at once, and one pass over the files does for all of them.
        """
        if self._scrubbing is None:
            self._scrubbing = asyncio.get_running_loop().call_later(SCRUB_SECONDS, self._scrub)

    def _scrub(self) -> None:
        self._scrubbing = None
        self._rows.flush()
        self._rows.compact_range(None, None)
