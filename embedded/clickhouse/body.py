"""A request's text as it arrives: first its statement, then the data that follows it."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from embedded.clickhouse import sql
from embedded.clickhouse.compression import PIECE_BYTES
from embedded.clickhouse.errors import ClickHouseError

# The data of an INSERT begins no later than this; every other statement is read whole, up to the second limit.
_HEAD_BYTES = 256 << 10
_MAX_STATEMENT_BYTES = 64 << 20


async def read_statement(prefix: bytes, body: AsyncIterator[bytes]) -> tuple[sql.Statement, AsyncIterator[bytes]]:
    """Reads as much of a request as its statement takes; returns the statement and, for an INSERT, its data."""
    text = bytearray(prefix)
    ended = False

    async def read_to(size: int) -> None:
        nonlocal ended
        while len(text) < size and not ended:
            piece = await anext(body, None)
            if piece is None:
                ended = True
            else:
                text.extend(piece)

    first = await anext(body, None)
    if first is not None:
        if prefix:
            text.extend(b"\n")
        text.extend(first)
    await read_to(_HEAD_BYTES)
    statement = None if ended else _insert_at_head(bytes(text))
    if statement is None:
        await read_to(_MAX_STATEMENT_BYTES)
        if len(text) > _MAX_STATEMENT_BYTES:
            raise ClickHouseError.named(
                229, "QUERY_IS_TOO_LARGE", f"The query is larger than {_MAX_STATEMENT_BYTES} bytes."
            )
        statement = sql.parse(bytes(text))
    data_start = statement.data_start
    if data_start is None:
        return statement, _nothing()

    async def data() -> AsyncIterator[bytes]:
        yield bytes(text[data_start:])
        text.clear()
        async for piece in body:
            yield piece

    return statement, data()


def _insert_at_head(head: bytes) -> sql.Statement | None:
    """The INSERT whose data has begun in this first part of a request; None if it is anything else."""
    try:
        statement = sql.parse(head[:_HEAD_BYTES])
    except ClickHouseError:
        return None  # what looks wrong may only be cut off
    if statement.kind is not sql.Kind.INSERT or statement.data_start in (None, len(head)):
        return None
    return statement


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


@asynccontextmanager
async def uploaded(
    data: AsyncIterator[bytes], path: Path, blocking: Callable[..., Awaitable[None]]
) -> AsyncIterator[None]:
    """Keeps the data of an INSERT in a file, for as long as the context lasts.

    A file, so that memory stays bounded, and so that the engine begins no INSERT whose data hasn't come whole.

    Args:
        data: the data.
        path: the file, which must not exist.
        blocking: runs a call on a thread, and waits for it even if cancelled: the file is closed after that.
    """
    try:
        with path.open("xb", buffering=0) as file:
            async for piece in _joined(data):
                await blocking(_write_all, file, piece)
        yield
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)


def _write_all(file: io.FileIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


async def _joined(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Joins small pieces, so that each is worth a call of the system."""
    waiting = bytearray()
    async for piece in pieces:
        waiting += piece
        if len(waiting) >= PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)
