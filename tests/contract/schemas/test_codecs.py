"""Every event survives the way through Kafka."""

import io
import json

import msgspec
import pytest
from fastavro import schemaless_writer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import avro
from schemas.codecs import HEADER_BYTES, UndecodableError, codec
from schemas.events import EVENTS, Event
from schemas.topics import SPECS, Topic


def strategy(kind: type) -> st.SearchStrategy:
    """Values of an event class, whatever its fields are."""
    fields = {}
    for field in msgspec.structs.fields(kind):
        fields[field.name] = _values(field.type)
    return st.builds(kind, **fields)


def _values(annotation: object) -> st.SearchStrategy:
    import datetime
    import enum
    import types
    import typing

    if annotation is datetime.datetime:
        return st.datetimes(
            min_value=datetime.datetime(1970, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
            max_value=datetime.datetime(2200, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
            timezones=st.just(datetime.UTC),
        )
    simple = {
        str: st.text(max_size=40),
        int: st.integers(-(2**63), 2**63 - 1),
        float: st.floats(allow_nan=False),
        bool: st.booleans(),
        bytes: st.binary(max_size=40),
    }
    if annotation in simple:
        return simple[annotation]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        return st.lists(_values(arguments[0]), max_size=3).map(tuple)
    if typing.get_origin(annotation) is types.UnionType:
        return st.none() | _values(next(a for a in arguments if a is not type(None)))
    assert isinstance(annotation, type)
    if issubclass(annotation, enum.Enum):
        return st.sampled_from(annotation)
    return strategy(annotation)


@pytest.mark.parametrize("topic", list(Topic))
def test_an_event_is_decoded_as_it_was_encoded(topic: Topic) -> None:
    @settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
    @given(event=strategy(EVENTS[topic]))
    def round_trip(event: Event) -> None:
        assert codec(topic).decode(codec(topic).encode(event)) == event

    round_trip()


@pytest.mark.parametrize("topic", list(Topic))
def test_the_key_of_a_topic_is_a_field_of_its_event(topic: Topic) -> None:
    assert SPECS[topic].key in EVENTS[topic].__struct_fields__


def _minimal(topic: Topic) -> Event:
    found: list[Event] = []

    @settings(max_examples=1, database=None)
    @given(event=strategy(EVENTS[topic]))
    def first(event: Event) -> None:
        found.append(event)

    first()
    return found[0]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda value: b"", "too few"),
        (lambda value: b"\x01" + value[1:], "first byte"),
        (lambda value: value[:1] + b"\xff\xff\xff\xff" + value[HEADER_BYTES:], "schema id"),
        (lambda value: value[:-1], "topic|Error|EOF"),
        (lambda value: value + b"x", "bytes follow"),
    ],
)
def test_bytes_that_are_no_event_are_refused_with_the_reason(spoil: object, reason: str) -> None:
    value = codec(Topic.FEEDBACK).encode(_minimal(Topic.FEEDBACK))
    with pytest.raises(UndecodableError, match=reason):
        codec(Topic.FEEDBACK).decode(spoil(value))  # type: ignore[operator] # parametrised callables


@pytest.mark.parametrize("topic", list(Topic))
def test_every_published_version_is_read_with_the_newest(topic: Topic) -> None:
    ids = avro.published_ids()[topic]
    for schema_id in ids:
        schema = avro.parsed(avro.published(topic, schema_id))
        record = {f["name"]: _example(f) for f in avro.published(topic, schema_id)["fields"]}
        buffer = io.BytesIO()
        schemaless_writer(buffer, schema, record)
        value = b"\x00" + schema_id.to_bytes(4, "big") + buffer.getvalue()
        assert isinstance(codec(topic).decode(value), EVENTS[topic])


def _example(field: dict[str, object]) -> object:
    if "default" in field:
        return field["default"]
    kind = field["type"]
    if isinstance(kind, dict):
        return {"array": [], "long": 0}.get(str(kind["type"]))
    if field["name"] == "sensitivity":
        return "public"
    return {"string": "x", "long": 1, "double": 0.5, "boolean": True, "bytes": b"x"}[str(kind)]


def test_the_ids_are_unique() -> None:
    ids = [i for each in json.loads(avro.IDS.read_text()).values() for i in each]
    assert len(ids) == len(set(ids))
