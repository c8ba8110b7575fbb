"""ClickHouse over its own HTTP protocol, with its errors turned into what to do about them."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from services.runtime.errors import InvalidArgument, Rejected, Retryable, ServiceError
from services.runtime.settings import ClickHouseSettings

# Codes with which ClickHouse says that it cannot now, though the statement may be fine.
_NOT_NOW = {
    74,  # CANNOT_READ_FROM_FILE_DESCRIPTOR: a disk that is full or fails, as in the lines below
    75,  # CANNOT_WRITE_TO_FILE_DESCRIPTOR
    76,  # CANNOT_OPEN_FILE
    77,  # CANNOT_CLOSE_FILE
    88,  # CANNOT_TRUNCATE_FILE
    159,  # TIMEOUT_EXCEEDED
    160,  # TOO_SLOW
    164,  # READONLY: a replica that has lost its keeper, or a user who may not write
    172,  # CANNOT_CREATE_DIRECTORY
    173,  # CANNOT_ALLOCATE_MEMORY
    201,  # QUOTA_EXCEEDED
    202,  # TOO_MANY_SIMULTANEOUS_QUERIES
    204,  # CANNOT_FSYNC
    209,  # SOCKET_TIMEOUT
    210,  # NETWORK_ERROR
    241,  # MEMORY_LIMIT_EXCEEDED
    242,  # TABLE_IS_READ_ONLY
    243,  # NOT_ENOUGH_SPACE
    252,  # TOO_MANY_PARTS
    294,  # CANNOT_WRITE_TO_FILE
    372,  # SESSION_NOT_FOUND
    373,  # SESSION_IS_LOCKED
    394,  # QUERY_WAS_CANCELLED
    586,  # CANNOT_CREATE_FILE
    999,  # KEEPER_EXCEPTION
}
# A full disk also shows as an exception that is none of ClickHouse's own, code 1001: a folder that cannot be made.
_FULL = ("No space left on device", "Disk quota exceeded")
# Codes with which ClickHouse says that the data of an insert are not what the table holds.
_BAD_DATA = {
    27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  # CANNOT_READ_ALL_DATA
    117,  # INCORRECT_DATA
    128,  # TOO_LARGE_ARRAY_SIZE
    131,  # TOO_LARGE_STRING_SIZE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    469,  # VIOLATED_CONSTRAINT
}
# Code 1001 again: what the Avro library refuses.
_BAD_AVRO = "avro::Exception"


class ClickHouse:
    """An asynchronous client of one ClickHouse server. It connects when first used, and again when the server returns.

    Statements name the database that they mean. Every method raises `Retryable` when the server is away, overloaded or
    out of space, and `Rejected` when it refused the statement: `InvalidArgument` where that is the fault of the data.
    """

    def __init__(self, settings: ClickHouseSettings) -> None:
        self._settings = settings
        self._client: AsyncClient | None = None
        self._connecting = asyncio.Lock()

    async def rows(
        self,
        statement: str,
        parameters: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Any]]:
        """Return the rows of a query, each by column name."""
        client = await self._connected()
        with _errors():
            result = await client.query(statement, parameters=dict(parameters or {}), settings=dict(settings or {}))
        return list(result.named_results())

    async def command(self, statement: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement that answers nothing."""
        client = await self._connected()
        with _errors():
            await client.command(statement, parameters=dict(parameters or {}))

    async def insert(
        self, table: str, columns: list[str], block: bytes, fmt: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        """Insert a block that is already in a format that ClickHouse reads (`Avro`, `Native`, ...)."""
        client = await self._connected()
        with _errors():
            await client.raw_insert(table, columns, insert_block=block, fmt=fmt, settings=dict(settings or {}))

    async def close(self) -> None:
        """Give the connections back."""
        if self._client is not None:
            await self._client.close()

    async def _connected(self) -> AsyncClient:
        async with self._connecting:
            if self._client is None:
                self._client = await self._connect()
        return self._client

    async def _connect(self) -> AsyncClient:
        url = urlsplit(self._settings.url)
        try:
            return await clickhouse_connect.get_async_client(
                host=url.hostname or "127.0.0.1",
                port=url.port or 8123,
                secure=self._settings.is_encrypted,
                ca_cert=str(ca) if (ca := self._settings.ca) is not None else None,
                username=self._settings.user,
                password=self._settings.password.get_secret_value(),
                autogenerate_session_id=False,  # statements of one client run side by side
            )
        except (DatabaseError, aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Retryable(f"ClickHouse at {url.hostname}:{url.port} does not answer: {error}") from error


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Retryable(f"ClickHouse: {error}") from error
    except DatabaseError as error:
        raise _kind(error)(f"ClickHouse: {error}") from error


def _kind(error: DatabaseError) -> type[ServiceError]:
    text = str(error)
    # Without a code it is not ClickHouse that speaks, but a proxy before it; the client's own complaints have a class.
    silent = error.code is None and type(error) is DatabaseError
    if silent or error.code in _NOT_NOW or any(each in text for each in _FULL):
        return Retryable
    return InvalidArgument if error.code in _BAD_DATA or _BAD_AVRO in text else Rejected
