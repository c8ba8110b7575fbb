"""The router's own errors; each says what to do about it by the runtime's error that it is.

InvalidArgument
└── InvalidField         names the field apart, for callers that want it apart
FailedPrecondition
└── KeyReused            an idempotency key stands for another request
PermissionDenied
└── Refused              a verdict, or no cleared live model
Retryable
├── GovernanceSilent     no verdict, so nothing passes
├── Overloaded           more is under way than can be borne
└── Unrecorded           no acknowledgement, so no answer is released
ResourceExhausted
└── LimitReached         the application or its tenant has used up what it may
"""

from services.runtime.errors import FailedPrecondition, InvalidArgument, PermissionDenied, ResourceExhausted, Retryable


class InvalidField(InvalidArgument):
    """A field of a request is not what was wanted."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field}: {wanted}")
        self.field = field
        self.wanted = wanted
        self.fields = [(field, wanted)]


class KeyReused(FailedPrecondition):
    """An idempotency key came with another request before."""


class Refused(PermissionDenied):
    """The request or its answer may not pass."""


class GovernanceSilent(Retryable):
    """Governance gave no verdict: the request is refused, for now."""


class Overloaded(Retryable):
    """More is under way than can be borne."""


class LimitReached(ResourceExhausted):
    """The application or its tenant has used up what it may."""


class Unrecorded(Retryable):
    """The record was not acknowledged: the answer is withheld."""
