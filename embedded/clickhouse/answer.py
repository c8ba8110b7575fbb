"""What a running query hands back."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from embedded.clickhouse.engine import QueryResult


@dataclass
class Summary:
    """What a query did so far, in rows and bytes."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0
    result_bytes: int = 0
    started: float = field(default_factory=time.monotonic)

    def take(self, result: QueryResult) -> None:
        """Takes the engine's final counts."""
        self.written_rows = result.rows_written()
        self.written_bytes = result.bytes_written()
        self.read_rows = result.storage_rows_read()
        self.read_bytes = result.storage_bytes_read()
        self.result_rows = result.rows_read()
        self.result_bytes = result.bytes_read()

    def header(self) -> str:
        """The value of X-ClickHouse-Summary."""
        elapsed = int((time.monotonic() - self.started) * 1e9)
        counts = {
            "read_rows": self.read_rows,
            "read_bytes": self.read_bytes,
            "written_rows": self.written_rows,
            "written_bytes": self.written_bytes,
            "total_rows_to_read": 0,
            "result_rows": self.result_rows,
            "result_bytes": self.result_bytes,
            "elapsed_ns": elapsed,
        }
        return json.dumps({name: str(count) for name, count in counts.items()}, separators=(",", ":"))


@dataclass
class Answer:
    """A running query: its output format, its output, and counts that are final when the output has ended."""

    format: str
    pieces: AsyncGenerator[bytes, None]
    summary: Summary
