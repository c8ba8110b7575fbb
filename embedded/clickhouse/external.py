"""Tables that come with a query and live as long as it does."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile

from embedded.clickhouse.engine import Connection, quote_identifier
from embedded.clickhouse.errors import ClickHouseError
from embedded.clickhouse.sql import check_structure


@dataclass(frozen=True)
class ExternalTable:
    """A table that came with a query, as a part of a multipart form.

    Attributes:
        name: its name.
        structure: its columns, as in CREATE TABLE.
        format: the format of its data.
        data: its data.
    """

    name: str
    structure: str
    format: str
    data: bytes = field(repr=False)

    def __post_init__(self) -> None:
        # The table is made before a read-only caller is confined, so its definition must be no more than that.
        check_structure(self.structure)
        if not re.fullmatch(r"\w+", self.format, re.ASCII):
            raise ClickHouseError.named(73, "UNKNOWN_FORMAT", f"Unknown format {self.format}.")

    def create(self, connection: Connection, uploads_dir: Path) -> None:
        """Makes the temporary table and fills it, by way of a file in `uploads_dir`; blocks."""
        table = quote_identifier(self.name)
        connection.execute(f"CREATE TEMPORARY TABLE {table} ({self.structure}\n) ENGINE = Memory")
        with NamedTemporaryFile(dir=uploads_dir) as upload:
            upload.write(self.data)
            upload.flush()
            connection.insert(f"INSERT INTO {table}".encode(), b"", self.format, Path(upload.name))

    def drop(self, connection: Connection) -> None:
        """Drops the temporary table; blocks."""
        connection.execute(f"DROP TEMPORARY TABLE {quote_identifier(self.name)}")
