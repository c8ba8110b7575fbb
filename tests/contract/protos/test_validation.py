"""What services/runtime checks is what protovalidate would say."""

import protovalidate
import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from gyre.api.audit.v1 import audit_pb2
from gyre.api.context.v1 import context_pb2
from gyre.api.governance.v1 import governance_pb2
from gyre.api.router.v1 import router_pb2
from gyre.api.serving.v1 import serving_pb2
from gyre.api.trainer.v1 import training_pb2
from gyre.api.triage.v1 import review_pb2
from gyre.api.types.v1 import types_pb2
from services.runtime.validation import violations

FILES = [router_pb2, governance_pb2, context_pb2, audit_pb2, review_pb2, training_pb2, serving_pb2]
REQUESTS = [
    getattr(file, name) for file in FILES for name in file.DESCRIPTOR.message_types_by_name if name.endswith("Request")
]

TEXTS = st.sampled_from(["", "x", "user", "not-a-uuid", "0190b6a0-5f5c-7cc3-98c5-6a2f3e1b8a11", "x" * 129, "é" * 300])
MESSAGES = st.builds(
    types_pb2.Message,
    role=st.sampled_from(["user", "system", "", "wizard"]),
    content=TEXTS,
    tool_calls=st.lists(st.builds(types_pb2.ToolCall, name=TEXTS), max_size=2),
)


def _values(field: object) -> st.SearchStrategy:
    kind = field.message_type  # type: ignore[attr-defined] # a descriptor
    if kind is not None:
        if kind.name == "Message":
            return MESSAGES
        return _messages(kind._concrete_class)
    if field.enum_type is not None:  # type: ignore[attr-defined] # a descriptor
        return st.integers(0, 6)
    return {
        "string": TEXTS,
        "double": st.floats(-3, 90_000, allow_nan=False),
        "bool": st.booleans(),
        "bytes": st.binary(max_size=3),
    }.get(_cpp_name(field), st.integers(0, 200_000))


def _cpp_name(field: object) -> str:
    return {9: "string", 1: "double", 8: "bool", 12: "bytes"}.get(field.type, "integer")  # type: ignore[attr-defined] # a descriptor


def _messages(kind: type[Message]) -> st.SearchStrategy:
    @st.composite
    def build(draw: st.DrawFn) -> Message:
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if not draw(st.booleans()):
                continue
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(_values(field), max_size=3)))
            elif field.message_type is not None:
                getattr(message, field.name).CopyFrom(draw(_values(field)))
            else:
                setattr(message, field.name, draw(_values(field)))
        return message

    return build()


@pytest.mark.parametrize("kind", REQUESTS, ids=lambda kind: kind.DESCRIPTOR.full_name)
def test_the_same_fields_are_refused(kind: type[Message]) -> None:
    @settings(max_examples=15)
    @given(message=_messages(kind))
    def agree(message: Message) -> None:
        ours = {path.split("[")[0].split(".")[0] for path, _ in violations(message)}
        theirs = set()
        for violation in protovalidate.collect_violations(message):
            theirs.add(violation.proto.field.elements[0].field_name)
        assert ours == theirs

    agree()


def test_the_path_names_the_place() -> None:
    request = router_pb2.CompleteRequest(messages=[types_pb2.Message(role="user"), types_pb2.Message(role="wizard")])
    assert [path for path, _ in violations(request)] == ["messages[1].role"]
