"""A change of an event that would break a reader, old or new, cannot be published."""

import copy

import msgspec
import pytest

from schemas import avro
from schemas.events import Event, Feedback
from schemas.topics import Topic

PUBLISHED = avro.published(Topic.FEEDBACK, avro.published_ids()[Topic.FEEDBACK][-1])


def _with(change: object) -> object:
    schema = copy.deepcopy(PUBLISHED)
    change(schema["fields"])  # type: ignore[operator] # parametrised callables
    return schema


def test_the_schemas_in_git_are_those_of_the_events() -> None:
    assert avro.problems() == []


def test_a_new_field_with_a_default_is_compatible() -> None:
    avro.require_compatible(
        "x", PUBLISHED, _with(lambda fields: fields.append({"name": "new", "type": "string", "default": ""}))
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda fields: fields.append({"name": "new", "type": "string"}), "new"),
        (lambda fields: fields.pop(0), "feedback_id"),
        (lambda fields: fields[0].update(name="renamed"), "renamed|feedback_id"),
        (lambda fields: fields[0].update(type="long"), "feedback_id"),
        (lambda fields: fields[4].update(type={"type": "long", "logicalType": "timestamp-millis"}), "given_at"),
    ],
)
def test_a_breaking_change_is_refused_and_names_the_field(change: object, field: str) -> None:
    with pytest.raises(avro.IncompatibleSchemaError, match=field):
        avro.require_compatible("x", PUBLISHED, _with(change))


def test_a_breaking_change_deep_in_a_nested_record_is_found() -> None:
    one = avro.published(Topic.INTERACTIONS, avro.published_ids()[Topic.INTERACTIONS][-1])
    other = copy.deepcopy(one)
    stages = next(field for field in other["fields"] if field["name"] == "stages")
    stages["type"]["items"]["fields"][0]["type"] = "long"
    with pytest.raises(avro.IncompatibleSchemaError, match=r"stages\[\]\.name"):
        avro.require_compatible("x", one, other)


def test_a_changed_event_without_a_new_id_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(Feedback, frozen=True, kw_only=True):
        extra: str = ""

    monkeypatch.setitem(avro.EVENTS, Topic.FEEDBACK, Changed)
    assert any("gyre schemas mint" in problem for problem in avro.problems())


def test_events_may_only_have_types_that_avro_knows() -> None:
    class Odd(Event, frozen=True, kw_only=True):
        field: complex

    with pytest.raises(TypeError, match="complex"):
        avro.derive(Odd)


def test_an_event_without_times_of_its_own_zone_is_not_written() -> None:
    from datetime import datetime

    from schemas.codecs import codec

    with pytest.raises(ValueError, match="time zone"):
        codec(Topic.FEEDBACK).encode(
            msgspec.structs.replace(
                Feedback(
                    feedback_id="1",
                    request_id="1",
                    tenant="t",
                    application="a",
                    given_at=datetime(2026, 1, 1),  # noqa: DTZ001 - what is tested
                    source="explicit",
                    kind="rating",
                )
            )
        )
