"""What the two edges of the router share."""

from services.runtime.errors import Unauthenticated

# Header and metadata that name the request in every answer.
REQUEST_ID = "x-request-id"


def bearer_key(value: str) -> str:
    """Return the key in an authorization header.

    Raises:
        Unauthenticated: It holds none.
    """
    scheme, _, key = value.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("authorization: wanted `Bearer <key>`")
    return key.strip()
