"""What callers show for who they are, in the header or metadata `authorization: Bearer <key>`."""

from typing import Any

from services.runtime.errors import Unauthenticated


def bearer_key(value: str) -> str:
    """Return the key in an authorization header.

    Raises:
        Unauthenticated: It holds none.
    """
    scheme, _, key = value.partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthenticated("authorization: wanted `Bearer <key>`")
    return key.strip()


def metadata(context: Any, wanted: str) -> str | None:
    """Return a value of a gRPC call's metadata; nothing where there is none of that name."""
    for name, value in context.invocation_metadata() or ():
        if name == wanted:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return None
