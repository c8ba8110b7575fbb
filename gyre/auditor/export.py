"""The record, out of ClickHouse and into files."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.clickhouse import table
from schemas.topics import Topic

_PIECE_BYTES = 1 << 20
_ARROW = {
    # Columns of bytes as bytes of any length, which readers take less time for than for text, or bytes of one length.
    "output_format_arrow_string_as_string": 0,
    "output_format_arrow_fixed_string_as_fixed_byte_array": 0,
    "output_format_arrow_compression_method": "lz4_frame",
    # Who verifies holds one batch at a time. Less than a granule of 8,192 rows ClickHouse does not read.
    "max_block_size": 8192,
}
_ROWS = (
    "SELECT _offset, toUnixTimestamp64Milli(_timestamp) AS _timestamp_ms, _key, _salt, _payload, _digest, _prev_hash, "
    "_hash FROM gyre.{table:Identifier} WHERE _partition = {partition:UInt32} AND _offset <= {last:UInt64} "
    "ORDER BY _offset"
)
_SIGNED = "SELECT max(rows), max(last_offset) FROM gyre.checkpoints WHERE chain = {chain:String}"
_AFTER = "SELECT count() FROM gyre.{table:Identifier} WHERE _partition = {partition:UInt32} AND _offset > {last:UInt64}"
_NOTES = "SELECT note FROM gyre.checkpoints WHERE chain = {chain:String} AND last_offset <= {last:Int64} ORDER BY rows"


class ExportError(Exception):
    """The record cannot be exported; the message says what to do."""


@dataclass(frozen=True)
class Exported:
    """One chain as it was written, and how many rows of it are not signed yet and were left out."""

    chain: str
    rows: int
    unsigned: int


def export(
    folder: Path,
    url: str,
    user: str,
    password: str,
    progress: Callable[[str, int], None] = lambda _chain, _rows: None,
    ca_file: Path | None = None,
) -> Iterator[Exported]:
    """Write the signed part of every chain into a folder, and yield each when it is complete.

    Erasures are written last, so that none is missing whose rows were written without their content.

    Args:
        folder: New, or empty.
        url: Of ClickHouse's HTTP port.
        user: Who may read the tables of the database `gyre`.
        password: Of that user.
        progress: Told the chain that is written, and how many rows it has.
        ca_file: Whose certificates are believed as ClickHouse's, beside those that the system knows.

    Raises:
        ExportError: ClickHouse does not answer or refuses, nothing is signed, or the folder holds something.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ExportError(f"{folder} holds something already; name a new folder.")
    at = urlsplit(url)
    try:
        client = clickhouse_connect.get_client(
            host=at.hostname or "127.0.0.1",
            port=at.port or 8123,
            secure=at.scheme == "https",
            ca_cert=str(ca_file) if ca_file else None,
            username=user,
            password=password,
            autogenerate_session_id=False,
            settings=_ARROW,
        )
        chains = client.query(
            "SELECT DISTINCT chain FROM gyre.checkpoints ORDER BY startsWith(chain, {erasures:String}), chain",
            parameters={"erasures": f"{Topic.ERASURES}/"},
        ).result_rows
        if not chains:
            raise ExportError(
                "Nothing is signed, so there is nothing that could be verified. Audit signs with the keys in "
                "GYRE_AUDIT_SIGNING_KEYS; make one with `gyre audit keygen`."
            )
        for (chain,) in chains:
            # Asked only now: what was erased meanwhile is then explained by erasures that are written after it.
            ((rows, last_offset),) = client.query(_SIGNED, parameters={"chain": chain}).result_rows
            progress(chain, rows)
            yield _export(client, folder, chain, rows, last_offset)
    except (ClickHouseError, OSError) as error:
        raise ExportError(f"The record cannot be read from ClickHouse at {at.hostname}:{at.port}: {error}") from error


def _export(client: Client, folder: Path, chain: str, rows: int, last_offset: int) -> Exported:
    topic, _, partition = chain.rpartition("/")
    if topic not in list(Topic) or not re.fullmatch(r"\d+", partition):
        raise ExportError(f"A checkpoint is of {chain!r}, which is no partition of a topic of Gyre.")
    place = {"table": table(Topic(topic)), "partition": int(partition)}
    (folder / topic).mkdir(parents=True, exist_ok=True)
    with (
        (folder / topic / f"{partition}.checkpoints").open("w") as file,
        client.query_rows_stream(_NOTES, parameters={"chain": chain, "last": last_offset}) as found,
    ):
        for (note,) in found:
            file.write(f"{note}\n")
    with (folder / topic / f"{partition}.arrows").open("wb") as file:
        stream: Any = client.raw_stream(_ROWS, parameters={**place, "last": last_offset}, fmt="ArrowStream")
        while piece := stream.read(_PIECE_BYTES):
            file.write(piece)
    unsigned = client.command(_AFTER, parameters={**place, "last": last_offset})
    return Exported(chain, rows, int(str(unsigned)))
