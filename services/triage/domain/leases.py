"""Leases: signed tokens that say which expert holds which item, and until when.

Experts can read what is in a token, so it does not say as what they are asked: which question is gold is not for them
to know.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec

from services.runtime.errors import FailedPrecondition, InvalidArgument
from services.triage.domain.tokens import TokenSigner


@dataclass(frozen=True)
class Lease:
    """An item in an expert's hands.

    Attributes:
        request_id: The item.
        lease_id: Of this lease, and of the label that it leads to.
        expert: Who holds it.
        guideline_version: Of the guideline that they have before them.
        expires_at: Until when; whole milliseconds, with its zone.
    """

    request_id: str
    lease_id: str
    expert: str
    guideline_version: str
    expires_at: datetime


class _Content(msgspec.Struct, array_like=True):
    request_id: str
    lease_id: str
    expert: str
    guideline_version: str
    expires_ms: int


class Signer:
    """Turns leases into tokens and back. Whoever has the secret can check a token; no one else can make one."""

    def __init__(self, secret: bytes) -> None:
        self._tokens = TokenSigner(secret, "lease")

    def sign(self, lease: Lease) -> str:
        """Return the token of a lease."""
        return self._tokens.sign(
            msgspec.json.encode(
                _Content(
                    lease.request_id,
                    lease.lease_id,
                    lease.expert,
                    lease.guideline_version,
                    round(lease.expires_at.timestamp() * 1000),
                )
            )
        )

    def check(self, token: str, now: datetime) -> Lease:
        """Return the lease that a token stands for.

        Raises:
            InvalidArgument: It was not made with this secret.
            FailedPrecondition: It has expired.
        """
        try:
            known = msgspec.json.decode(self._tokens.content(token), type=_Content)
        except ValueError as error:
            raise InvalidArgument("lease: not a lease that Claim gave out") from error
        expires_at = datetime.fromtimestamp(known.expires_ms / 1000, UTC)
        lease = Lease(known.request_id, known.lease_id, known.expert, known.guideline_version, expires_at)
        if now >= lease.expires_at:
            raise FailedPrecondition(f"lease: expired at {lease.expires_at:%H:%M:%S} UTC; claim the next item")
        return lease
