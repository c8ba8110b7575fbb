"""Avro schemas: derived from the events, kept in git under numbers, held to compatibility.

`<topic>/<id>.avsc` is what was published under that id and never changes again; `ids.json` says which ids a topic has,
oldest first. `gyre schemas mint` adds the next one, `gyre schemas check` fails when an event has changed without it or
in a way that is not FULL_TRANSITIVE compatible (every version reads every other).
"""

import enum
import json
import types
import typing
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from fastavro.schema import parse_schema

from schemas.events import EVENTS, DeadLetter, Event
from schemas.topics import Topic

FOLDER = Path(__file__).parent
IDS = FOLDER / "ids.json"
DEAD_LETTERS = "dead-letters"

AvroSchema = Any  # fastavro's own type for a schema: JSON, so str, list or dict


class IncompatibleSchemaError(ValueError):
    """An event's schema cannot be read by, or cannot read, one that was published before."""


def derive(event: type[msgspec.Struct]) -> AvroSchema:
    """Return the Avro schema of an event class.

    Raises:
        TypeError: A field has a type that events may not have.
    """
    return _record(event, set())


def _record(struct: type[msgspec.Struct], seen: set[str]) -> AvroSchema:
    if struct.__name__ in seen:
        return f"gyre.{struct.__name__}"
    seen.add(struct.__name__)
    fields = []
    for field in msgspec.structs.fields(struct):
        entry: dict[str, Any] = {"name": field.encode_name, "type": _type(field.type, seen)}
        if field.default is not msgspec.NODEFAULT:
            entry["default"] = list(field.default) if isinstance(field.default, tuple) else field.default
            if isinstance(field.default, bytes):
                entry["default"] = field.default.decode("latin-1")
        fields.append(entry)
    return {"type": "record", "name": struct.__name__, "namespace": "gyre", "fields": fields}


def _type(annotation: Any, seen: set[str]) -> AvroSchema:
    primitive = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes"}.get(annotation)
    if primitive is not None:
        return primitive
    if annotation is datetime:
        return {"type": "long", "logicalType": "timestamp-micros"}
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return {"type": "array", "items": _type(arguments[0], seen)}
    if origin in (types.UnionType, typing.Union) and type(None) in arguments and len(arguments) == 2:
        (other,) = (a for a in arguments if a is not type(None))
        return ["null", _type(other, seen)]
    if isinstance(annotation, type) and issubclass(annotation, enum.StrEnum):
        return "string"  # an Avro enum could not gain a value and stay compatible
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return _record(annotation, seen)
    raise TypeError(f"events may not have fields of type {annotation!r}")


def subjects() -> dict[str, type[Event]]:
    """Return what has schemas of its own: the ten topics, and the one form that all dead letters have."""
    return {**{str(topic): event for topic, event in EVENTS.items()}, DEAD_LETTERS: DeadLetter}


def published_ids() -> dict[str, list[int]]:
    """Return the ids of every subject, oldest first."""
    ids: dict[str, list[int]] = json.loads(IDS.read_text())
    return ids


def published(subject: Topic | str, schema_id: int) -> AvroSchema:
    """Return what was published for a subject under an id."""
    return json.loads((FOLDER / str(subject) / f"{schema_id}.avsc").read_text())


def mint() -> list[tuple[str, int]]:
    """Give an id to every event whose schema is not published yet, and return the new ones.

    Raises:
        IncompatibleSchemaError: A changed event could not be read beside its earlier versions. Nothing is written then.
    """
    ids = published_ids() if IDS.exists() else {}
    following = max((i for each in ids.values() for i in each), default=0) + 1
    new: list[tuple[str, int, AvroSchema]] = []
    for subject, event in subjects().items():
        schema, known = derive(event), ids.setdefault(subject, [])
        if known and published(subject, known[-1]) == schema:
            continue
        for earlier in known:
            require_compatible(subject, published(subject, earlier), schema)
        new.append((subject, following, schema))
        known.append(following)
        following += 1
    for subject, schema_id, schema in new:
        path = FOLDER / subject / f"{schema_id}.avsc"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(schema, indent=2) + "\n")
    IDS.write_text(json.dumps(ids, indent=2) + "\n")
    return [(subject, schema_id) for subject, schema_id, _ in new]


def problems() -> list[str]:
    """Return what is wrong with the published schemas, in sentences; nothing when all is well."""
    found = []
    ids = published_ids()
    for subject, event in subjects().items():
        known = ids.get(subject, [])
        if not known or published(subject, known[-1]) != derive(event):
            found.append(f"{subject}: the event {event.__name__} has changed; run `gyre schemas mint`")
        versions = [published(subject, i) for i in known]
        for position, later in enumerate(versions):
            for earlier in versions[:position]:
                try:
                    require_compatible(subject, earlier, later)
                except IncompatibleSchemaError as error:
                    found.append(str(error))
    return found


def require_compatible(subject: str, one: AvroSchema, other: AvroSchema) -> None:
    """Check that each of two schemas can read what the other wrote, by Avro's resolution rules.

    Raises:
        IncompatibleSchemaError: Naming the field and what it would break.
    """
    _require_readable(subject, one, other, _named(one), _named(other))
    _require_readable(subject, other, one, _named(other), _named(one))


def _named(schema: AvroSchema) -> dict[str, AvroSchema]:
    names: dict[str, AvroSchema] = {}

    def walk(node: AvroSchema) -> None:
        if isinstance(node, list):
            for branch in node:
                walk(branch)
        elif isinstance(node, dict):
            if node.get("type") == "record":
                names[f"gyre.{node['name']}"] = node
                for field in node["fields"]:
                    walk(field["type"])
            elif node.get("type") == "array":
                walk(node["items"])

    walk(schema)
    return names


def _require_readable(
    path: str, writer: AvroSchema, reader: AvroSchema, writers: dict[str, AvroSchema], readers: dict[str, AvroSchema]
) -> None:
    writer, reader = (
        writers.get(writer, writer) if isinstance(writer, str) else writer,
        (readers.get(reader, reader) if isinstance(reader, str) else reader),
    )
    if isinstance(writer, dict) and isinstance(reader, dict) and writer["type"] == reader["type"] == "record":
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            if field["name"] in written:
                _require_readable(
                    f"{path}.{field['name']}", written[field["name"]]["type"], field["type"], writers, readers
                )
            elif "default" not in field:
                raise IncompatibleSchemaError(f"{path}.{field['name']}: is new or gone, and has no default")
        return
    if isinstance(writer, dict) and isinstance(reader, dict) and writer["type"] == reader["type"] == "array":
        _require_readable(f"{path}[]", writer["items"], reader["items"], writers, readers)
        return
    if isinstance(writer, list) and isinstance(reader, list) and len(writer) == len(reader):
        for one, other in zip(writer, reader, strict=True):
            _require_readable(path, one, other, writers, readers)
        return
    if writer != reader:
        raise IncompatibleSchemaError(f"{path}: was {json.dumps(writer)}, would be {json.dumps(reader)}")


def parsed(schema: AvroSchema) -> AvroSchema:
    """Return a schema in the form that fastavro is quickest with."""
    return parse_schema(schema, named_schemas={})
