"""Events to bytes and back, in Confluent's wire format: a zero byte, the schema's id (4 bytes, big-endian), Avro."""

import io
import struct
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec
from fastavro import schemaless_reader, schemaless_writer

from schemas import avro
from schemas.events import DeadLetter, Event
from schemas.topics import Topic

E = TypeVar("E", bound=Event)

_HEADER = struct.Struct(">bI")
HEADER_BYTES = _HEADER.size


class UndecodableError(ValueError):
    """Bytes that are not an event in Confluent's wire format, or not of the topic they were found in."""


class Codec:
    """Encodes and decodes the events of one subject (a topic, or all dead letters)."""

    def __init__(self, subject: Topic | str) -> None:
        event: type[Event] = avro.subjects()[str(subject)]
        self._event = event
        self._subject = str(subject)
        self._ids = avro.published_ids()[str(subject)]
        self._schemas = {i: avro.parsed(avro.published(subject, i)) for i in self._ids}
        self._header = _HEADER.pack(0, self._ids[-1])
        self._newest = self._schemas[self._ids[-1]]
        self._times = [name for name, type_ in get_type_hints(event).items() if type_ is datetime]

    def encode(self, event: Event) -> bytes:
        """Return an event in the newest schema of its subject."""
        if any(getattr(event, name).tzinfo is None for name in self._times):
            raise ValueError("events hold times with a time zone")
        buffer = io.BytesIO()
        buffer.write(self._header)
        schemaless_writer(buffer, self._newest, msgspec.to_builtins(event, builtin_types=(datetime, bytes)))
        return buffer.getvalue()

    def schema_id(self, value: bytes) -> int:
        """Return the id of the schema that bytes were written with.

        Raises:
            UndecodableError: There is none, or it is not one of this subject's.
        """
        if len(value) < HEADER_BYTES:
            raise UndecodableError(f"{self._subject}: {len(value)} bytes are too few for a record")
        magic, schema_id = _HEADER.unpack_from(value)
        if magic != 0:
            raise UndecodableError(f"{self._subject}: first byte is {magic}, wanted 0")
        if schema_id not in self._schemas:
            raise UndecodableError(f"{self._subject}: schema id {schema_id} is not one of {self._ids}")
        return int(schema_id)

    def decode(self, value: bytes) -> Any:
        """Return the event that bytes hold, whichever version of the schema they were written with.

        Raises:
            UndecodableError: They hold none, or something follows it.
        """
        schema = self._schemas[self.schema_id(value)]
        buffer = io.BytesIO(value)
        buffer.seek(HEADER_BYTES)
        try:
            record = schemaless_reader(buffer, schema, self._newest)
            event = msgspec.convert(record, self._event)
        except Exception as error:  # fastavro raises whatever its reader stumbled on
            raise UndecodableError(f"{self._subject}: {type(error).__name__}: {error}") from error
        if buffer.tell() != len(value):
            raise UndecodableError(f"{self._subject}: {len(value) - buffer.tell()} bytes follow the record")
        return event


@cache
def codec(subject: Topic | str) -> Codec:
    """Return the codec of a topic; there is one for each in a process."""
    return Codec(subject)


@cache
def dead_letter_codec() -> Codec:
    """Return the codec that all dead-letter topics share."""
    return Codec(avro.DEAD_LETTERS)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Return a dead letter as its topic holds it."""
    return dead_letter_codec().encode(letter)
