"""Errors say what to do about them, not what went wrong inside.

ServiceError
├── Retryable   pause, then try the same thing again
│   ├── DeadlineExceeded     the time that was given is over
│   └── ResourceExhausted    not before the time that it names
├── Rejected    this message can never be handled: dead letter, or an error to the caller, with the reason
│   ├── InvalidArgument      a field is not what was wanted
│   ├── Unauthenticated      no key, or one that nobody has
│   ├── PermissionDenied     known, but not for this
│   ├── NotFound             what was named does not exist
│   ├── FailedPrecondition   not now, and trying again alone will not change that
│   └── Unimplemented        this version cannot do it
└── Fatal       the process cannot go on: crash, and let the supervisor start it anew
    └── InvalidSettings      a setting is not what was wanted
"""

from collections.abc import Sequence


class ServiceError(Exception):
    """Base of the errors that services raise on purpose. The message may be shown to the caller."""


class Retryable(ServiceError):  # noqa: N818 - named for what to do, as the design has it
    """Something needed is away for now; the same thing may work later."""


class DeadlineExceeded(Retryable):
    """It was not done in the time that was given."""


class ResourceExhausted(Retryable):
    """Something is used up for now; it says when there will be more."""

    def __init__(self, message: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class Rejected(ServiceError):  # noqa: N818 - named for what to do, as the design has it
    """This can never work; the reason says why."""


class InvalidArgument(Rejected):
    """A field is not what was wanted; the message names both.

    Attributes:
        fields: Each field and what was wanted of it, where they are known apart.
    """

    fields: Sequence[tuple[str, str]] = ()


class Unauthenticated(Rejected):
    """The caller did not show a key that is known."""


class PermissionDenied(Rejected):
    """The caller is known and may not do this."""


class NotFound(Rejected):
    """What was named does not exist."""


class FailedPrecondition(Rejected):
    """The system is not in the state that this needs."""


class Unimplemented(Rejected):
    """This version of Gyre cannot do it."""


class Fatal(ServiceError):  # noqa: N818 - named for what to do, as the design has it
    """The process cannot go on."""


class InvalidSettings(Fatal):
    """What an operator has set is not what was wanted; the message names the variable and never what a secret holds."""
