"""Signed tokens: a content that only whoever has the secret can have written."""

import base64
import hashlib
import hmac


class TokenSigner:
    """Turns contents into tokens and back. Whoever has the secret can check a token; no one else can make one."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        """Say what tokens are made with.

        Args:
            secret: The same wherever they are read.
            purpose: A token of one is none of another, though the secret be the same.
        """
        self._key = hmac.digest(secret, purpose.encode(), "sha256")

    def sign(self, content: bytes) -> str:
        """Return the token of a content: that and its HMAC-SHA-256, each in URL-safe base 64, with a dot between."""
        return f"{_encode(content)}.{_encode(self._mac(content))}"

    def content(self, token: str) -> bytes:
        """Return what a token holds.

        Raises:
            ValueError: It was not made with this secret, for this purpose.
        """
        content, mac = (_decode(part) for part in token.split("."))
        if not hmac.compare_digest(mac, self._mac(content)):
            raise ValueError("not signed with this secret")
        return content

    def _mac(self, content: bytes) -> bytes:
        return hmac.new(self._key, content, hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    content = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(content) != text:  # padding, or bits that no byte has: a token has one form
        raise ValueError("not in the form that it was signed in")
    return content
