"""What ClickHouse's answers mean to whoever asked."""

from types import SimpleNamespace
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError, ProgrammingError

from services.runtime.clickhouse import ClickHouse
from services.runtime.errors import InvalidArgument, Rejected, Retryable
from services.runtime.settings import ClickHouseSettings

FOLDER = "filesystem error: in create_directories: No space left on device [tmp_insert_202605_12_12_1]"


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (DatabaseError("Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", code=243), Retryable),
        (DatabaseError("Cannot open file: errno: 28, strerror: No space left on device", code=76), Retryable),
        (DatabaseError(f"type: filesystem_error, e.what() = {FOLDER}", code=1001), Retryable),
        (DatabaseError("HTTP driver received HTTP status 502, server response: Bad Gateway"), Retryable),
        (DatabaseError("Session s not found. (SESSION_NOT_FOUND)", code=372), Retryable),
        (OperationalError("Network Error"), Retryable),
        (DatabaseError("type: avro::Exception, e.what() = EOF reached. (STD_EXCEPTION)", code=1001), InvalidArgument),
        (DatabaseError("Constraint is violated (VIOLATED_CONSTRAINT)", code=469), InvalidArgument),
        (DatabaseError("Authentication failed. (AUTHENTICATION_FAILED)", code=516), Rejected),
        (DatabaseError("Unknown table gyre.gossip. (UNKNOWN_TABLE)", code=60), Rejected),
        (ProgrammingError("No table specified for insert"), Rejected),
    ],
)
async def test_an_answer_says_what_to_do_about_it(answer: DatabaseError, meaning: type[Exception]) -> None:
    async def refuse(*_arguments: Any, **_settings: Any) -> None:
        raise answer

    clickhouse = ClickHouse(ClickHouseSettings())
    clickhouse._client = SimpleNamespace(raw_insert=refuse)  # type: ignore[assignment]
    with pytest.raises(meaning) as raised:
        await clickhouse.insert("gyre.t", ["a"], b"", "Avro")
    assert type(raised.value) is meaning
