"""What a replica holds, in a file, so that it need not read its topics from the beginning at each start."""

import asyncio
import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

from schemas.topics import Topic
from services.context.consumer import Documents
from services.context.domain.memory import Memory, Remembered
from services.context.ports import Index, IndexedDocument
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.kafka import Follower, Offsets, can_go_on, until_answered
from services.runtime.settings import KafkaSettings

# Raise it where a document would be cut, embedded or kept otherwise than before.
FORMAT = 2
_PARTIAL = ".partial"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica holds, and up to where it has read."""

    fingerprint: str
    offsets: list[tuple[Topic, int, int]]
    documents: list[IndexedDocument]
    remembered: Remembered


class SnapshotFile:
    """One snapshot in a folder, readable for its owner alone; a new one takes the former's place at once and whole."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        """Take the folder, which is made where there is none, for one replica.

        Args:
            folder: Of this replica.
            fingerprint: Of what the content depends on beside the topics: embeddings and settings.
        """
        self._folder = folder
        self._path = folder / "snapshot.msgpack"
        self.fingerprint = f"{FORMAT}-{fingerprint}"

    def read(self) -> Snapshot | None:
        """Return the snapshot; None where there is none that can be used, and the log says why."""
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            telemetry.log().warning("snapshot not used", reason=str(error))
            return None
        digest, body = content[:32], content[32:]
        if hashlib.sha256(body).digest() != digest:
            telemetry.log().warning("snapshot not used", reason="it is damaged")
            return None
        try:
            # The whole content may have another form in another format, its fingerprint not.
            if msgspec.msgpack.decode(body, type=_Header).fingerprint != self.fingerprint:
                telemetry.log().warning("snapshot not used", reason="it is of another format, model or settings")
                return None
            return msgspec.msgpack.decode(body, type=Snapshot)
        except msgspec.MsgspecError as error:
            telemetry.log().warning("snapshot not used", reason=str(error))
            return None

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot in the place of the former.

        Raises:
            OSError: It cannot be written; the former stays.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for left in self._folder.glob(f"*{_PARTIAL}"):  # of a process that was killed
            left.unlink(missing_ok=True)
        body = msgspec.msgpack.encode(snapshot)
        descriptor, partial = tempfile.mkstemp(dir=self._folder, suffix=_PARTIAL)  # 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(hashlib.sha256(body).digest() + body)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).replace(self._path)


class _Header(msgspec.Struct, frozen=True):
    fingerprint: str


class Snapshots:
    """Follows the topics from where the snapshot stands, and writes a new one at an interval and at the end."""

    def __init__(
        self,
        file: SnapshotFile,
        seconds: float,
        kafka: KafkaSettings,
        follower: Follower,
        index: Index,
        memory: Memory,
        documents: Documents,
        clock: Clock,
    ) -> None:
        self._file = file
        self._seconds = seconds
        self._kafka = kafka
        self._follower = follower
        self._index = index
        self._memory = memory
        self._documents = documents
        self._clock = clock

    async def restore(self) -> Offsets:
        """Restore index and memory, and return where to go on; nothing is restored where that cannot be."""
        snapshot = await asyncio.to_thread(self._file.read)
        if snapshot is None:
            return {}
        offsets = {(topic, partition): offset for topic, partition, offset in snapshot.offsets}
        readable: list[bool] = []

        async def ask() -> None:
            readable.append(await can_go_on(self._kafka, offsets))

        await until_answered("Kafka", ask)
        if not readable[-1]:
            telemetry.log().warning("snapshot not used", reason="the topics do not hold what it goes on from")
            return {}
        await self._index.restore(snapshot.documents)
        self._memory.restore(snapshot.remembered, self._clock.now())
        telemetry.log().info("snapshot restored", documents=len(snapshot.documents))
        return offsets

    async def run(self) -> None:
        """Write, until cancelled, and then once more if all that was read is indexed."""
        await self._follower.caught_up()
        try:
            while True:
                await self._write()
                await asyncio.sleep(self._seconds)
        finally:
            if self._documents.are_indexed:
                await self._write()

    async def _write(self) -> None:
        # What comes in after the offsets were taken is read again after a restore, and is then the same.
        offsets = [(*place, offset) for place, offset in self._follower.positions.items()]
        await self._documents.indexed()
        snapshot = Snapshot(
            fingerprint=self._file.fingerprint,
            offsets=offsets,
            documents=await self._index.dump(),
            remembered=self._memory.dump(),
        )
        try:
            await asyncio.to_thread(self._file.write, snapshot)
        except OSError as error:
            telemetry.log().warning("snapshot not written", reason=str(error))
