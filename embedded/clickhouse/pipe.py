"""A named pipe that the engine writes its answer into."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from embedded.clickhouse.compression import PIECE_BYTES


class ResultPipe:
    """The reading end, and a writing end of our own.

    The pipe is what bounds memory: the engine waits when nobody reads. And its output is one document in any format,
    which chDB's own stream (`send_query`) is not: that starts a new JSON object or header with each block.
    """

    def __init__(self, path: Path, reader: asyncio.StreamReader, write_end: int) -> None:
        self.path = path
        self._reader = reader
        self._write_end: int | None = write_end

    async def read(self) -> bytes:
        """Returns up to `PIECE_BYTES`; nothing when the pipe has ended."""
        return await self._reader.read(PIECE_BYTES)

    def end(self) -> None:
        """Ends the pipe once what was written is read. Until then it is open, even before the engine has opened it."""
        if self._write_end is not None:
            os.close(self._write_end)
            self._write_end = None


@asynccontextmanager
async def result_pipe(path: Path) -> AsyncIterator[ResultPipe]:
    """Makes the pipe. Leaving the context closes it, and a writer that is still there fails at its next write."""
    os.mkfifo(path, 0o600)
    try:
        source = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
        write_end = os.open(path, os.O_WRONLY)
        reader = asyncio.StreamReader(limit=PIECE_BYTES)
        pipe = ResultPipe(path, reader, write_end)
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), source
            )
        except BaseException:
            source.close()
            pipe.end()
            raise
        try:
            yield pipe
        finally:
            transport.close()
            pipe.end()
    finally:
        os.unlink(path)
