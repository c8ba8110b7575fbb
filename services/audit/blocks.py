"""Rows as blocks that ClickHouse reads.

Events are not decoded on their way. An Avro record is the encodings of its fields one after the other, so a row is the
encoded envelope around the event's own bytes, and ClickHouse does the parsing. That is only sound if a record cannot
shift what comes after it: part of the envelope stands behind the event, and a constraint of each table recomputes the
row's hash from both parts, so an event that is shorter or longer than its schema says fails the whole insert.
"""

import io
import os
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import cramjam
import fastavro

from schemas import avro
from schemas.codecs import HEADER_BYTES
from schemas.topics import Topic
from services.audit.domain import Row

_SYNC_BYTES = 16
# A block is copied half a dozen times until ClickHouse reads it, and each event is in it twice: packing it takes less
# time. Pieces of so many bytes of events stay in the processor's cache meanwhile.
_ZSTD_LEVEL, _PIECE_BYTES = -1, 1 << 18

_BEFORE: list[dict[str, Any]] = [
    {"name": "_topic", "type": "string"},
    {"name": "_partition", "type": "long"},
    {"name": "_offset", "type": "long"},
    {"name": "_timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "_key", "type": "bytes"},
    {"name": "_schema_id", "type": "long"},
    {"name": "_salt", "type": {"type": "fixed", "name": "Salt", "size": 16}},
    {"name": "_hash", "type": {"type": "fixed", "name": "Hash", "size": 32}},
    {"name": "_payload", "type": "bytes"},
    {"name": "_error", "type": "string"},
]
_BEHIND: list[dict[str, Any]] = [
    {"name": "_prev_hash", "type": {"type": "fixed", "name": "PrevHash", "size": 32}},
    {"name": "_digest", "type": {"type": "fixed", "name": "Digest", "size": 32}},
]


def row_schema(topic: Topic, schema_id: int) -> avro.AvroSchema:
    """Return the Avro schema of a table's rows: the envelope around what was published under an id (0: nothing)."""
    event = avro.published(topic, schema_id)["fields"] if schema_id else []
    return {"type": "record", "name": "Row", "namespace": "gyre", "fields": [*_BEFORE, *event, *_BEHIND]}


@cache
def _container(topic: Topic, schema_id: int) -> tuple[bytes, list[str]]:
    """Return the head of an Avro container file, which ends with its sync marker, and the names of the columns."""
    schema = row_schema(topic, schema_id)
    buffer = io.BytesIO()
    parsed = fastavro.parse_schema(schema, named_schemas={})
    fastavro.writer(buffer, parsed, [], codec="zstandard", sync_marker=os.urandom(_SYNC_BYTES))
    return buffer.getvalue(), [field["name"] for field in schema["fields"]]


def container(rows: Sequence[Row]) -> tuple[bytes, list[str]]:
    """Return rows of one run as an Avro container file, and the names of its columns."""
    first = rows[0]
    topic = first.record.topic.encode()
    prefix = _long(len(topic)) + topic + _long(first.record.partition)
    schema_id, error = _long(first.schema_id), first.error.encode()
    error = _long(len(error)) + error
    compressor, parts, size = cramjam.zstd.Compressor(level=_ZSTD_LEVEL), list[bytes](), 0
    for row in rows:
        record = row.record
        parts += (
            prefix,
            _long(record.offset),
            _common_long(record.timestamp_ms),
            _common_long(len(record.key)),
            record.key,
            schema_id,
            row.salt,
            row.hash,
            _common_long(len(record.value)),
            record.value,
            error,
            record.value[HEADER_BYTES:] if row.schema_id else b"",
            row.prev_hash,
            row.digest,
        )
        size += len(record.value)
        if size >= _PIECE_BYTES:
            compressor.compress(b"".join(parts))
            parts, size = [], 0
    compressor.compress(b"".join(parts))
    packed = compressor.finish()
    head, columns = _container(first.record.topic, first.schema_id)
    return b"".join((head, _long(len(rows)), _long(len(packed)), packed, head[-_SYNC_BYTES:])), columns


def _long(value: int) -> bytes:
    """Return a number as Avro encodes it: zigzag, then seven bits to a byte, lowest first."""
    rest = (value << 1) ^ (value >> 63)
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append((rest & 0x7F) | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


# Of lengths and times, which come again and again.
_common_long = lru_cache(maxsize=4096)(_long)
