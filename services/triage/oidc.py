"""Signing in with an identity provider: OpenID Connect's authorization code flow, with PKCE, state and nonce.

The provider says who somebody is, and that alone: role, clearance and tenants are the account's.
Documented at https://openid.net/specs/openid-connect-core-1_0.html.
"""

import secrets
from typing import Any

import httpx2
import msgspec
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from services.runtime.errors import PermissionDenied, Retryable
from services.triage.domain.access import Identified
from services.triage.domain.tokens import TokenSigner

TIMEOUT_SECONDS = 10.0
KEPT_SECONDS = 600
# Signatures that only the provider can have made; not those by a secret that we share with it.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]
# The clocks of two machines.
LEEWAY_SECONDS = 60


class Started(msgspec.Struct, frozen=True, array_like=True):
    """What the browser keeps while its user is at the provider, signed."""

    state: str
    nonce: str
    verifier: str
    until: float


class _Metadata(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str


class Provider:
    """An identity provider, found by its issuer."""

    def __init__(self, issuer: str, client_id: str, client_secret: str, redirect_url: str, secret: bytes) -> None:
        """Say which, and who we are to it.

        Args:
            issuer: Its address.
            client_id: Ours, as registered there.
            client_secret: Ours; empty: none.
            redirect_url: Where it sends people back to.
            secret: Signs what the browser keeps meanwhile.
        """
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._redirect_url = redirect_url
        self._tokens = TokenSigner(secret, "oidc")

    async def start(self, now: float) -> tuple[str, str]:
        """Return where to send somebody, and what their browser is to keep until they are back.

        Raises:
            Retryable: The provider does not answer.
        """
        async with self._client() as client:
            metadata = await self._metadata(client)
            state, nonce, verifier = (secrets.token_urlsafe(48) for _ in range(3))
            started = Started(state, nonce, verifier, now + KEPT_SECONDS)
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint,
                state=started.state,
                nonce=started.nonce,
                code_verifier=started.verifier,
            )
        return url, self._tokens.sign(msgspec.json.encode(started))

    async def finish(self, kept: str, state: str, code: str, now: float) -> Identified:
        """Return who has come back.

        Args:
            kept: By their browser.
            state: As the provider handed it on.
            code: The provider's; empty: it gave none, as it did not sign them in.
            now: Seconds since the epoch.

        Raises:
            PermissionDenied: It is not who set out from here, or the provider does not vouch for them.
            Retryable: The provider does not answer.
        """
        try:
            started = msgspec.json.decode(self._tokens.content(kept), type=Started)
        except ValueError:
            raise PermissionDenied("this did not begin here; sign in again") from None
        if now >= started.until or not secrets.compare_digest(state.encode(), started.state.encode()):
            raise PermissionDenied("this did not begin here, or took too long; sign in again")
        if not code:
            raise PermissionDenied("the identity provider did not sign you in")
        async with self._client() as client:
            metadata = await self._metadata(client)
            try:
                token = await client.fetch_token(
                    metadata.token_endpoint,
                    grant_type="authorization_code",
                    code=code,
                    code_verifier=started.verifier,
                    redirect_uri=self._redirect_url,
                )
            except AuthlibBaseError as error:
                raise PermissionDenied(f"the identity provider refused ({error.error}); sign in again") from None
            except (httpx2.HTTPError, ValueError) as error:
                raise _away(error) from error
            keys = await self._json(client, metadata.jwks_uri)
        return identified(
            str(token.get("id_token", "")), keys, self._issuer, self._client_id, started.nonce, now=int(now)
        )

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._client_id,
            self._client_secret or None,
            scope="openid email",
            redirect_uri=self._redirect_url,
            code_challenge_method="S256",
            timeout=TIMEOUT_SECONDS,
        )

    async def _metadata(self, client: AsyncOAuth2Client) -> _Metadata:
        # Asked anew each time: people sign in seldom, and an answer that is kept outlives a change there.
        found = await self._json(client, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        try:
            metadata = msgspec.convert(found, _Metadata)
        except msgspec.ValidationError as error:
            raise Retryable(f"the identity provider's configuration is none: {error}") from error
        if metadata.issuer != self._issuer:
            raise Retryable(f"the identity provider calls itself {metadata.issuer!r}, GYRE_TRIAGE_OIDC_ISSUER does not")
        return metadata

    async def _json(self, client: AsyncOAuth2Client, url: str) -> Any:
        try:
            response = await client.request("GET", url, withhold_token=True)
            response.raise_for_status()
            return response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise _away(error) from error


def identified(id_token: str, keys: Any, issuer: str, client_id: str, nonce: str, now: int) -> Identified:
    """Return whom an ID token is about.

    Args:
        id_token: As the provider's token endpoint gave it.
        keys: The provider's, as a JWK set.
        issuer: Who must have issued it.
        client_id: For whom.
        nonce: In answer to what.
        now: Seconds since the epoch.

    Raises:
        PermissionDenied: It is not what was wanted.
    """
    wanted = jwt.JWTClaimsRegistry(
        now=now,
        leeway=LEEWAY_SECONDS,
        iss={"essential": True, "value": issuer},
        aud={"essential": True, "value": client_id},
        exp={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        claims = jwt.decode(id_token, KeySet.import_key_set(keys), algorithms=ALGORITHMS).claims
        wanted.validate(claims)
        if claims.get("azp", client_id) != client_id:
            raise ValueError("azp")
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise PermissionDenied(
            f"what the identity provider said of you cannot be used ({type(error).__name__})"
        ) from error
    verified = claims.get("email_verified") is True
    return Identified(claims["sub"], str(claims.get("email", "")) if verified else "")


def _away(error: Exception) -> Retryable:
    return Retryable(f"the identity provider does not answer as it should ({type(error).__name__}); try again later")
