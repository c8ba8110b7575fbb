"""What can go wrong, by what to do about it.

GyreError
├── InvalidRequestError          mend the field that it names
├── UnauthenticatedError         show a key that is known
├── RefusedError                 governance lets the request, the answer or every model not pass: ask something else
├── NotFoundError                name a task or a model that there is
├── IdempotencyKeyReusedError    take a key of its own for each request
├── LimitReachedError            come back when it says; the client has, where that was within the deadline
├── UnavailableError             try again later; the client has, a few times
├── DeadlineExceededError        give it more time, or ask for less
└── UnexpectedError              tell the operators of Gyre, with the request's id
"""

from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

_REQUEST_ID = "x-request-id"
_DETAILS = "grpc-status-details-bin"


class GyreError(Exception):
    """A request got no answer.

    Attributes:
        message: What went wrong, and for a field what was wanted.
        request_id: The request's id, by which the record has it; empty if the router never saw the request.
        fields: The fields that were not what was wanted.
    """

    def __init__(self, message: str, request_id: str = "", fields: tuple[str, ...] = ()) -> None:
        super().__init__(f"{message} (request {request_id})" if request_id else message)
        self.message = message
        self.request_id = request_id
        self.fields = fields


class InvalidRequestError(GyreError):
    """A field is not what was wanted."""


class UnauthenticatedError(GyreError):
    """The application key is not known."""


class RefusedError(GyreError):
    """The request or its answer may not pass."""


class NotFoundError(GyreError):
    """There is no such task or model."""


class IdempotencyKeyReusedError(GyreError):
    """The idempotency key stands for another request."""


class LimitReachedError(GyreError):
    """The application or its tenant has used up what it may.

    Attributes:
        retry_after_seconds: When to come back.
    """

    retry_after_seconds = 0.0


class UnavailableError(GyreError):
    """Something needed does not answer."""


class DeadlineExceededError(GyreError):
    """There was no answer in the time that was given."""


class UnexpectedError(GyreError):
    """Something is broken on the other side."""


_KINDS: dict[grpc.StatusCode, type[GyreError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: RefusedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    # The message is too large, unless it says when to come back.
    grpc.StatusCode.RESOURCE_EXHAUSTED: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: IdempotencyKeyReusedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}


def error_of(failed: Any) -> GyreError:
    """Return the error that a failed call means: grpc's, of either kind of channel."""
    kind = _KINDS.get(failed.code(), UnexpectedError)
    initial, trailing = dict(failed.initial_metadata() or ()), dict(failed.trailing_metadata() or ())
    violations, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    status = trailing.get(_DETAILS, b"")
    for detail in status_pb2.Status.FromString(status if isinstance(status, bytes) else b"").details:
        if detail.Is(retry.DESCRIPTOR):
            kind = LimitReachedError
        for known in (violations, retry):
            detail.Unpack(known)
    fields = tuple(violation.field for violation in violations.field_violations)
    error = kind(failed.details() or failed.code().name, str(initial.get(_REQUEST_ID, "")), fields)
    if isinstance(error, LimitReachedError):
        error.retry_after_seconds = retry.retry_delay.ToTimedelta().total_seconds()
    return error
