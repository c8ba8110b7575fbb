"""Leases: signed tokens that say which expert holds which item, and until when."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from services.runtime.errors import FailedPrecondition, InvalidArgument


@dataclass(frozen=True)
class Lease:
    """An item in an expert's hands.

    Attributes:
        request_id: The item.
        expert: Who holds it.
        expires_at: Until when; whole milliseconds, with its zone.
    """

    request_id: str
    expert: str
    expires_at: datetime


class _Content(msgspec.Struct, array_like=True):
    request_id: str
    expert: str
    expires_ms: int


class Signer:
    """Turns leases into tokens and back. Whoever has the secret can check a token; no one else can make one."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def sign(self, lease: Lease) -> str:
        """Return the token of a lease: content and HMAC-SHA-256, each in URL-safe base 64, with a dot between."""
        content = msgspec.json.encode(
            _Content(lease.request_id, lease.expert, round(lease.expires_at.timestamp() * 1000))
        )
        return f"{_encode(content)}.{_encode(self._mac(content))}"

    def check(self, token: str, now: datetime) -> Lease:
        """Return the lease that a token stands for.

        Raises:
            InvalidArgument: It was not made with this secret.
            FailedPrecondition: It has expired.
        """
        try:
            content, mac = (_decode(part) for part in token.split("."))
        except (ValueError, binascii.Error) as error:
            raise InvalidArgument("lease: not a lease that Claim gave out") from error
        if not hmac.compare_digest(mac, self._mac(content)):
            raise InvalidArgument("lease: not a lease that Claim gave out")
        known = msgspec.json.decode(content, type=_Content)
        lease = Lease(known.request_id, known.expert, datetime.fromtimestamp(known.expires_ms / 1000, UTC))
        if now >= lease.expires_at:
            raise FailedPrecondition(f"lease: expired at {lease.expires_at:%H:%M:%S} UTC; claim the next item")
        return lease

    def _mac(self, content: bytes) -> bytes:
        return hmac.new(self._secret, content, hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
