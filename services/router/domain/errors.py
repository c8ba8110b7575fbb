"""The router's own errors; each says what to do about it by the runtime's error that it is.

InvalidArgument
└── InvalidField         names the field apart, for callers that want it apart
PermissionDenied
└── Refused              a verdict, or no cleared live model
Retryable
├── GovernanceSilent     no verdict, so nothing passes
└── Unrecorded           no acknowledgement, so no answer is released
"""

from services.runtime.errors import InvalidArgument, PermissionDenied, Retryable


class InvalidField(InvalidArgument):
    """A field of a request is not what was wanted."""

    def __init__(self, field: str, wanted: str) -> None:
        super().__init__(f"{field}: {wanted}")
        self.field = field


class Refused(PermissionDenied):
    """The request or its answer may not pass."""


class GovernanceSilent(Retryable):
    """Governance gave no verdict: the request is refused, for now."""


class Unrecorded(Retryable):
    """The record was not acknowledged: the answer is withheld."""
