"""What gRPC edges share: messages, findings and sensitivities between protobuf and our own."""

from collections.abc import Iterable

from gyre.api.types.v1 import types_pb2
from schemas.events import Finding, Message, Sensitivity, ToolCall
from services.runtime.errors import Retryable

_SENSITIVITIES = {
    types_pb2.SENSITIVITY_PUBLIC: Sensitivity.PUBLIC,
    types_pb2.SENSITIVITY_INTERNAL: Sensitivity.INTERNAL,
    types_pb2.SENSITIVITY_CONFIDENTIAL: Sensitivity.CONFIDENTIAL,
    types_pb2.SENSITIVITY_RESTRICTED: Sensitivity.RESTRICTED,
}
_VALUES = {sensitivity: value for value, sensitivity in _SENSITIVITIES.items()}


def sensitivity_of(value: types_pb2.Sensitivity.ValueType) -> Sensitivity:
    """Return a sensitivity that came over the wire.

    Raises:
        Retryable: It is none; nothing may be read into that.
    """
    try:
        return _SENSITIVITIES[value]
    except KeyError as error:
        raise Retryable(f"sensitivity {value} is none") from error


def sensitivity_value(sensitivity: Sensitivity) -> types_pb2.Sensitivity.ValueType:
    """Return a sensitivity as protobuf has it."""
    return _VALUES[sensitivity]


def message_of(message: types_pb2.Message) -> Message:
    """Return a turn of a conversation."""
    return Message(
        role=message.role,
        content=message.content,
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.name, arguments=call.arguments_json or "{}") for call in message.tool_calls
        ),
        tool_call_id=message.tool_call_id,
    )


def message_value(message: Message) -> types_pb2.Message:
    """Return a turn of a conversation as protobuf has it."""
    return types_pb2.Message(
        role=message.role,
        content=message.content,
        tool_calls=[
            types_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments) for call in message.tool_calls
        ],
        tool_call_id=message.tool_call_id,
    )


def findings_of(direction: str, findings: Iterable[types_pb2.Finding]) -> tuple[Finding, ...]:
    """Return what governance found in a direction."""
    return tuple(
        Finding(
            direction=direction,
            kind=finding.kind,
            action=finding.action,
            text_index=finding.text_index,
            start=finding.start,
            end=finding.end,
        )
        for finding in findings
    )
