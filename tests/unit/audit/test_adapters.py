"""What ClickHouse is told when audit prepares it."""

import re
from collections.abc import Mapping
from typing import Any, cast

import pytest

from services.audit.adapters import ClickHouseLedger
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock


class Server:
    """Takes statements; its database is already there, made by an operator, or is not."""

    def __init__(self, engine: str | None) -> None:
        self.statements: list[str] = []
        self._engine = engine

    async def rows(self, statement: str, *_: Any) -> list[dict[str, Any]]:
        if "system.databases" in statement and self._engine is not None:
            return [{"1": 1}] if f"engine = '{self._engine}'" in statement else []
        return []

    async def command(self, statement: str, _: Mapping[str, Any] | None = None) -> None:
        self.statements.append(statement)


@pytest.mark.parametrize(("engine", "prefix"), [(None, ""), ("Atomic", ""), ("Replicated", "Replicated")])
async def test_tables_are_replicated_where_the_database_is(engine: str | None, prefix: str) -> None:
    server = Server(engine)
    await ClickHouseLedger(cast("ClickHouse", server), Clock()).prepare()
    engines = {
        found[1] for each in server.statements if (found := re.search(r"^ENGINE = (\w+)", each, flags=re.MULTILINE))
    }
    assert engines == {f"{prefix}{each}" for each in ("MergeTree", "ReplacingMergeTree", "AggregatingMergeTree")}
