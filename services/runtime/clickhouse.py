"""ClickHouse over its own HTTP protocol, with its errors turned into what to do about them."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.asyncclient import AsyncClient
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from services.runtime.errors import Rejected, Retryable
from services.runtime.settings import ClickHouseSettings


class ClickHouse:
    """An asynchronous client of one ClickHouse server.

    Every method raises `Retryable` when the server is away or overloaded, and `Rejected` when it refused the statement.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client

    @classmethod
    async def connect(cls, settings: ClickHouseSettings) -> "ClickHouse":
        """Connect to the server's `default` database; statements name the database that they mean."""
        url = urlsplit(settings.url)
        try:
            client = await clickhouse_connect.get_async_client(
                host=url.hostname or "127.0.0.1",
                port=url.port or 8123,
                secure=url.scheme == "https",
                username=settings.user,
                password=settings.password.get_secret_value(),
                autogenerate_session_id=False,  # statements of one client run side by side
            )
        except (OperationalError, DatabaseError, OSError) as error:
            raise Retryable(f"ClickHouse at {url.hostname}:{url.port} does not answer: {error}") from error
        return cls(client)

    async def rows(self, statement: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a query, each by column name."""
        try:
            result = await self._client.query(statement, parameters=dict(parameters or {}))
        except (OperationalError, OSError) as error:
            raise Retryable(str(error)) from error
        except DatabaseError as error:
            raise Rejected(str(error)) from error
        return list(result.named_results())

    async def command(self, statement: str) -> None:
        """Run a statement that answers nothing."""
        try:
            await self._client.command(statement)
        except (OperationalError, OSError) as error:
            raise Retryable(str(error)) from error
        except DatabaseError as error:
            raise Rejected(str(error)) from error

    async def insert(self, table: str, block: bytes, fmt: str) -> None:
        """Insert a block that is already in a format that ClickHouse reads (`Avro`, `Native`, ...)."""
        try:
            await self._client.raw_insert(table, insert_block=block, fmt=fmt)
        except (OperationalError, OSError) as error:
            raise Retryable(str(error)) from error
        except DatabaseError as error:
            raise Rejected(str(error)) from error

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.close()
