"""What the two edges of the router share."""

import re

from services.router.domain.errors import InvalidField

# Header and metadata that name the request in every answer.
REQUEST_ID = "x-request-id"
# Header and metadata by which a caller says that it asks the same again.
IDEMPOTENCY_KEY = "idempotency-key"
MAX_IDEMPOTENCY_KEY = 255
_VISIBLE = re.compile(rf"[!-~]{{1,{MAX_IDEMPOTENCY_KEY}}}")


def checked_idempotency_key(key: str) -> str:
    """Return an idempotency key that was shown.

    Raises:
        InvalidField: It is none.
    """
    if not _VISIBLE.fullmatch(key):
        raise InvalidField(IDEMPOTENCY_KEY, f"wanted 1 to {MAX_IDEMPOTENCY_KEY} visible ASCII characters")
    return key


def refuse_idempotency_key() -> InvalidField:
    """Return the error that a stream with an idempotency key gets."""
    return InvalidField(IDEMPOTENCY_KEY, "a stream is not kept to be sent again; wanted none")
