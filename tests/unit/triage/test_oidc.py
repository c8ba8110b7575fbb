"""What an ID token must be, to be believed."""

from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, OctKey, RSAKey

from services.runtime.errors import PermissionDenied
from services.triage.domain.access import Identified
from services.triage.oidc import LEEWAY_SECONDS, identified

ISSUER, CLIENT, NONCE, NOW = "https://id.example.org", "gyre", "n-1", 1_767_225_600
KEY, STRANGER = RSAKey.generate_key(2048, {"kid": "1"}), RSAKey.generate_key(2048, {"kid": "1"})
KEYS = KeySet([KEY]).as_dict(private=False)
CLAIMS = {
    "iss": ISSUER,
    "aud": CLIENT,
    "sub": "subject-7",
    "nonce": NONCE,
    "iat": NOW,
    "exp": NOW + 300,
    "email": "ann@example.org",
    "email_verified": True,
}


def _told(claims: dict[str, Any], key: Any = KEY, algorithm: str = "RS256", now: int = NOW) -> Identified:
    token = jwt.encode({"alg": algorithm, "kid": "1"}, claims, key, algorithms=[algorithm])
    return identified(token, KEYS, ISSUER, CLIENT, NONCE, now)


def test_what_the_provider_has_signed_for_us_says_who_it_is() -> None:
    assert _told(CLAIMS) == Identified("subject-7", "ann@example.org")
    assert _told({**CLAIMS, "aud": [CLIENT, "other"], "azp": CLIENT}).subject == "subject-7"


@pytest.mark.parametrize("verified", [False, None, "true"])
def test_an_email_that_the_provider_has_not_verified_counts_for_nothing(verified: object) -> None:
    assert _told({**CLAIMS, "email_verified": verified}) == Identified("subject-7", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://id.example.com"},
        {"aud": "another client"},
        {"aud": ["another client"]},
        {"aud": [CLIENT, "other"], "azp": "other"},
        {"nonce": "n-2"},
        {"exp": NOW - LEEWAY_SECONDS},
        {"nbf": NOW + 2 * LEEWAY_SECONDS},
        *({name: None} for name in ("iss", "aud", "sub", "nonce", "exp")),
    ],
)
def test_what_was_not_said_to_us_now_is_refused(changes: dict[str, Any]) -> None:
    claims = {name: value for name, value in {**CLAIMS, **changes}.items() if value is not None}
    with pytest.raises(PermissionDenied, match="what the identity provider said of you cannot be used"):
        _told(claims)


def test_what_another_key_has_signed_is_refused() -> None:
    with pytest.raises(PermissionDenied):
        _told(CLAIMS, STRANGER)


def test_what_is_signed_with_a_shared_secret_is_refused() -> None:
    with pytest.raises(PermissionDenied):
        _told(CLAIMS, OctKey.generate_key(256, {"kid": "1"}), "HS256")


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJzdWJqZWN0LTcifQ."])
def test_what_is_no_signed_token_is_refused(token: str) -> None:
    with pytest.raises(PermissionDenied):
        identified(token, KEYS, ISSUER, CLIENT, NONCE, NOW)
