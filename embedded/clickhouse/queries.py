"""Runs one query for one user, from its text and data to its answer, on a connection that it has to itself."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, TypeVarTuple, Unpack

from embedded.clickhouse import sql
from embedded.clickhouse.answer import Answer, Summary
from embedded.clickhouse.body import read_statement, uploaded
from embedded.clickhouse.engine import Connection, Engine, quote, running_with
from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.external import ExternalTable
from embedded.clickhouse.limits import TIME, Quota, read_only_settings
from embedded.clickhouse.pipe import result_pipe
from embedded.clickhouse.request import QueryRequest
from embedded.clickhouse.sessions import Sessions

_A = TypeVarTuple("_A")
_T = TypeVar("_T")

_MAX_WAIT_SECONDS = 30.0
_KILL_AGAIN_SECONDS = 0.2
_SYNTAX_ERROR = 62
# Threads beyond one per running query: for closing, cancelling, and KILL QUERY, which waits for no slot.
_SPARE_THREADS = 4
_KILL_ONE = re.compile(rb"\s*KILL\s+QUERY\s+WHERE\s+query_id\s*=\s*'([^'\\]+)'\s*(SYNC|ASYNC|TEST)?\s*", re.IGNORECASE)
_READONLY_OVER_GET = (
    "Cannot execute query in readonly mode. For queries over HTTP, method GET implies readonly. "
    "You should use method POST for modifying queries."
)


@dataclass(frozen=True)
class Caller:
    """Who asks."""

    user: str
    readonly: bool


class Queries:
    """Runs queries, at most `connections` at once; more wait their turn.

    Each query gets a fresh connection, or its session's, so no setting or temporary table leaks from one to another.

    Args:
        engine: what runs them.
        connections: how many at once.
        quotas: of users who have one, by name.
    """

    def __init__(self, engine: Engine, connections: int, quotas: Mapping[str, Quota]) -> None:
        self._engine = engine
        self._quotas = quotas
        self._slots = asyncio.Semaphore(connections)
        self._threads = ThreadPoolExecutor(connections + _SPARE_THREADS, thread_name_prefix="chdb")
        self._sessions = Sessions(self._close)
        self._running: dict[str, tuple[Caller, str]] = {}

    @asynccontextmanager
    async def run(
        self, request: QueryRequest, caller: Caller, body: AsyncIterator[bytes], external_tables: list[ExternalTable]
    ) -> AsyncIterator[Answer]:
        """Starts a query; leaving the context ends it, whatever state it is in.

        Args:
            request: the query.
            caller: who asks.
            body: the request's body, in plain pieces.
            external_tables: temporary tables that the query may read, for its duration.

        Raises:
            ClickHouseError: here, or from the answer's pieces, at any point of them.
        """
        statement, data = await read_statement(request.sql, body)
        self._check(statement, request, caller)
        if statement.input_structure is not None:
            assert statement.format is not None
            rows = b"".join([piece async for piece in data])
            external_tables = [
                *external_tables,
                ExternalTable(sql.INPUT_TABLE, statement.input_structure, statement.format, rows),
            ]
        tag = uuid.uuid4().hex
        async with AsyncExitStack() as stack:
            stack.enter_context(self._registered(request.query_id, caller, tag))
            if (quota := self._quotas.get(caller.user)) is not None:
                stack.enter_context(quota.query())
            if statement.kind is sql.Kind.INSERT:
                # Before a slot is taken, which a slow client would hold.
                await stack.enter_async_context(uploaded(data, self._engine.uploads_dir / tag, self._blocking))
            if statement.kind is not sql.Kind.KILL:
                await self._take_slot(stack)
            connection = await self._connection(stack, request, caller, external_tables)
            answer = self._answer(connection, statement, request, caller, tag)
            await stack.enter_async_context(aclosing(answer.pieces))
            yield answer

    async def close(self) -> None:
        """Ends the sessions; no query may be running."""
        await self._sessions.close()
        self._threads.shutdown(wait=True)

    def _check(self, statement: sql.Statement, request: QueryRequest, caller: Caller) -> None:
        if statement.kind is sql.Kind.EMPTY:
            raise ClickHouseError.named(
                62, "SYNTAX_ERROR", "Syntax error: failed at position 1 (end of query): Empty query."
            )
        if request.read_only and statement.kind in (sql.Kind.INSERT, sql.Kind.COMMAND):
            raise ClickHouseError.named(164, "READONLY", _READONLY_OVER_GET)
        if caller.readonly and statement.kind is sql.Kind.INSERT:
            # The engine would say so too, but only after the data has come.
            raise ClickHouseError.named(164, "READONLY", f"{caller.user}: Cannot execute query in readonly mode.")
        if caller.readonly and statement.kind is sql.Kind.KILL and self._target(statement, caller) is None:
            raise ClickHouseError.named(
                497,
                "ACCESS_DENIED",
                f"{caller.user}: Not enough privileges. A read-only user can kill only a running query of its own, "
                "by WHERE query_id = '...'.",
            )

    @contextmanager
    def _registered(self, query_id: str, caller: Caller, tag: str) -> Any:
        if query_id in self._running:
            raise ClickHouseError.named(
                216, "QUERY_WITH_SAME_ID_IS_ALREADY_RUNNING", f"Query with id = {query_id} is already running."
            )
        self._running[query_id] = (caller, tag)
        try:
            yield
        finally:
            del self._running[query_id]

    async def _take_slot(self, stack: AsyncExitStack) -> None:
        try:
            await asyncio.wait_for(self._slots.acquire(), _MAX_WAIT_SECONDS)
        except TimeoutError:
            raise ClickHouseError.named(
                202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"Too many simultaneous queries: {len(self._running)} in flight."
            ) from None
        stack.callback(self._slots.release)

    async def _connection(
        self, stack: AsyncExitStack, request: QueryRequest, caller: Caller, external_tables: list[ExternalTable]
    ) -> Connection:
        # A read-only session can hold nothing but its current database, and could not take external tables or less time
        # any more.
        if request.session is None or (caller.readonly and (external_tables or TIME in request.settings)):
            connection = await self._blocking(
                self._connect, caller, request.settings, request.database, external_tables
            )
            stack.push_async_callback(self._close, connection)
            return connection

        session = request.session
        connection = await self._sessions.acquire(caller.user, session, lambda: self._blocking(self._connect, caller))
        stack.callback(self._sessions.release, caller.user, session)
        override = connection.override(request.settings, request.database)
        stack.push_async_callback(self._blocking, override.__exit__, None, None, None)
        await self._blocking(override.__enter__)
        for table in external_tables:
            await self._blocking(table.create, connection, self._engine.uploads_dir)
            stack.push_async_callback(self._blocking, table.drop, connection)
        return connection

    def _connect(
        self,
        caller: Caller,
        settings: Mapping[str, str] = MappingProxyType({}),
        database: str | None = None,
        external_tables: Sequence[ExternalTable] = (),
    ) -> Connection:
        """Opens a connection for a caller; blocks."""
        connection = self._engine.connect()
        try:
            for table in external_tables:
                table.create(connection, self._engine.uploads_dir)
            if caller.readonly:
                # Before anything that the client says: from here on the engine lets nothing be changed.
                connection.set(read_only_settings(settings))
                settings = {name: value for name, value in settings.items() if name != TIME}
            if database is not None:
                connection.use(database)
            connection.set(settings)
        except BaseException:
            connection.close()
            raise
        return connection

    def _answer(
        self,
        connection: Connection,
        statement: sql.Statement,
        request: QueryRequest,
        caller: Caller,
        tag: str,
    ) -> Answer:
        summary = Summary()
        if statement.kind is sql.Kind.INSERT:
            upload = self._engine.uploads_dir / tag
            pieces = self._insert(connection, statement, upload, request.parameters, summary, tag)
            return Answer(request.format, pieces, summary)
        output_format = statement.format or request.format
        if statement.kind is sql.Kind.ROWS:
            pieces = self._rows(connection, statement, output_format, request.parameters, summary, tag)
        elif statement.kind is sql.Kind.KILL:
            pieces = self._kill(connection, statement, output_format, caller, summary)
        else:
            pieces = self._command(connection, statement, output_format, request.parameters, summary, tag)
        return Answer(output_format, pieces, summary)

    async def _rows(
        self,
        connection: Connection,
        statement: sql.Statement,
        output_format: str,
        parameters: Mapping[str, str],
        summary: Summary,
        tag: str,
    ) -> AsyncGenerator[bytes, None]:
        """Runs a statement that answers rows; they come through a pipe as the engine makes them."""
        async with result_pipe(self._engine.pipes_dir / tag) as pipe:
            into_pipe = b"%s\nINTO OUTFILE %s APPEND FORMAT %s %s" % (
                statement.before_format,
                quote(str(pipe.path)).encode(),
                output_format.encode(),
                statement.after_format,
            )
            future = asyncio.get_running_loop().run_in_executor(
                self._threads, connection.execute, into_pipe, output_format, parameters
            )
            future.add_done_callback(lambda _: pipe.end())
            started = False
            try:
                while piece := await pipe.read():
                    started = True
                    yield piece
                summary.take(await asyncio.shield(future))
            except ClickHouseError as error:
                if started or error.code != _SYNTAX_ERROR:
                    raise
            else:
                return
            finally:
                await self._end(future, tag)
        # A syntax error is told about the statement as it was sent, without our INTO OUTFILE in it.
        result = await self._blocking(
            connection.execute, statement.before_format + statement.after_format, output_format, parameters
        )
        summary.take(result)
        yield result.bytes()

    async def _command(
        self,
        connection: Connection,
        statement: sql.Statement,
        output_format: str,
        parameters: Mapping[str, str],
        summary: Summary,
        tag: str,
    ) -> AsyncGenerator[bytes, None]:
        text = statement.before_format
        if statement.format is not None and statement.data_start is None:
            text += b" FORMAT " + statement.format.encode() + statement.after_format
        mark = b" /* %s */" % tag.encode()
        try:
            result = await self._killable(tag, connection.execute, text + mark, output_format, parameters)
        except ClickHouseError as error:
            raise ClickHouseError(error.code, error.text.replace(mark.decode(), "")) from error
        summary.take(result)
        yield result.bytes()

    async def _insert(
        self,
        connection: Connection,
        statement: sql.Statement,
        upload: Path,
        parameters: Mapping[str, str],
        summary: Summary,
        tag: str,
    ) -> AsyncGenerator[bytes, None]:
        assert statement.format is not None
        result = await self._killable(
            # The tag, by which the statement is found, is in the path.
            tag,
            connection.insert,
            statement.before_format,
            statement.after_format,
            statement.format,
            upload,
            parameters,
        )
        summary.read_rows = summary.written_rows = result.rows_written()
        summary.read_bytes = summary.written_bytes = result.bytes_written()
        yield b""

    async def _kill(
        self,
        connection: Connection,
        statement: sql.Statement,
        output_format: str,
        caller: Caller,
        summary: Summary,
    ) -> AsyncGenerator[bytes, None]:
        """KILL QUERY. The engine gives its statements ids of its own; the client's id is found by our mark."""
        text = statement.before_format
        if (target := self._target(statement, caller)) is not None:
            match = _KILL_ONE.fullmatch(text)
            assert match is not None
            text = f"KILL QUERY WHERE {running_with(target)} ".encode() + (match[2] or b"ASYNC")
        result = await self._blocking(connection.execute, text, output_format)
        summary.take(result)
        yield result.bytes()

    def _target(self, statement: sql.Statement, caller: Caller) -> str | None:
        """The mark of the one running query that a KILL statement names and the caller may end."""
        match = _KILL_ONE.fullmatch(statement.before_format)
        if match is None:
            return None
        owner, tag = self._running.get(match[1].decode(errors="replace"), (None, ""))
        if owner is None or (caller.readonly and owner.user != caller.user):
            return None
        return tag

    async def _blocking(self, function: Callable[[Unpack[_A]], _T], *args: *_A) -> _T:
        """Runs a blocking call on a thread. A cancelled task still waits for it: the connection is in use till then."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        try:
            return await asyncio.shield(future)
        finally:
            await _settled(future)

    async def _killable(self, tag: str, function: Callable[[Unpack[_A]], _T], *args: *_A) -> _T:
        """Runs a statement whose text holds `tag` on a thread. A cancelled task takes the statement with it."""
        future = asyncio.get_running_loop().run_in_executor(self._threads, function, *args)
        try:
            return await asyncio.shield(future)
        finally:
            await self._end(future, tag)

    async def _end(self, future: asyncio.Future[Any], tag: str) -> None:
        """Cancels a statement that is still running and waits for it to be over."""

        async def kill_until_done() -> None:
            while not future.done():
                # Again and again, since a statement that the engine hasn't begun yet can't be found.
                await self._blocking(self._engine.kill, tag)
                await asyncio.wait([future], timeout=_KILL_AGAIN_SECONDS)

        await _settled(asyncio.ensure_future(kill_until_done()))
        await _settled(future)

    async def _close(self, connection: Connection) -> None:
        await self._blocking(connection.close)


async def _settled(future: asyncio.Future[Any]) -> None:
    """Waits until a future is done, however often this task is cancelled meanwhile; its outcome is for others."""
    cancelled = False
    while not future.done():
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            cancelled = True
    if not future.cancelled():
        future.exception()
    if cancelled:
        raise asyncio.CancelledError
