"""Sessions: a connection that a client comes back to, with its temporary tables and settings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from embedded.clickhouse.engine import Connection
from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.request import SessionRequest


@dataclass
class _Session:
    connection: Connection
    busy: bool = True
    expiry: asyncio.TimerHandle | None = None


class Sessions:
    """The open sessions. A session belongs to one user, runs one query at a time and ends when left alone.

    Args:
        close: closes a connection.
    """

    def __init__(self, close: Callable[[Connection], Awaitable[None]]) -> None:
        self._close = close
        self._by_owner_and_id: dict[tuple[str, str], _Session] = {}
        self._opening: set[tuple[str, str]] = set()
        self._closing: set[asyncio.Future[None]] = set()

    async def acquire(
        self, user: str, request: SessionRequest, connect: Callable[[], Awaitable[Connection]]
    ) -> Connection:
        """Takes a session's connection, which `connect` opens if there is none.

        Raises:
            ClickHouseError: code 373 if another query is running in it, 372 if it had to exist and doesn't.
        """
        key = (user, request.id)
        session = self._by_owner_and_id.get(key)
        if key in self._opening or (session is not None and session.busy):
            raise ClickHouseError.named(
                373, "SESSION_IS_LOCKED", f"Session {request.id} is locked by a concurrent client."
            )
        if session is not None:
            session.busy = True
            if session.expiry is not None:
                session.expiry.cancel()
            return session.connection
        if request.must_exist:
            raise ClickHouseError.named(372, "SESSION_NOT_FOUND", f"Session {request.id} not found.")
        self._opening.add(key)
        try:
            connection = await connect()
        finally:
            self._opening.discard(key)
        self._by_owner_and_id[key] = _Session(connection)
        return connection

    def release(self, user: str, request: SessionRequest) -> None:
        """Gives a session back; from now on it has `timeout_seconds` until its next query."""
        key = (user, request.id)
        session = self._by_owner_and_id[key]
        session.busy = False
        if request.close_after:
            self._end(key)
        else:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(request.timeout_seconds, self._end, key)

    async def close(self) -> None:
        """Ends every session; none may be in use."""
        for key in list(self._by_owner_and_id):
            self._end(key)
        await asyncio.gather(*self._closing)

    def _end(self, key: tuple[str, str]) -> None:
        session = self._by_owner_and_id.pop(key)
        if session.expiry is not None:
            session.expiry.cancel()
        closing = asyncio.ensure_future(self._close(session.connection))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
