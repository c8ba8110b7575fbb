"""A stand-in for an identity provider: it signs in whom a test says, and holds clients to the code flow."""

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey

CLIENT_ID, CLIENT_SECRET = "gyre", "the client's secret"


class StandInProvider:
    """Answers `authorize` as if `claims` had just been signed in.

    Attributes:
        claims: Of whoever signs in next.
        refused: Why it gave no token for a code, newest last.
        odd: Claims that it gets wrong, in place of the right ones.
    """

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.odd: dict[str, Any] = {}
        self.refused: list[str] = []
        self.url = ""
        self._key = RSAKey.generate_key(2048, {"kid": "stand-in"})
        self._codes: dict[str, dict[str, str]] = {}

    def application(self) -> web.Application:
        application = web.Application()
        application.add_routes(
            [
                web.get("/.well-known/openid-configuration", self._configuration),
                web.get("/authorize", self._authorize),
                web.post("/token", self._token),
                web.get("/keys", self._keys),
            ]
        )
        return application

    async def _configuration(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "jwks_uri": f"{self.url}/keys",
            }
        )

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = dict(request.query)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT_ID)
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe()
        self._codes[code] = asked
        raise web.HTTPFound(f"{asked['redirect_uri']}?code={code}&state={asked['state']}")

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = self._codes.pop(str(form["code"]), None)  # a code is good once
        basic = base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(str(form["code_verifier"]).encode()).digest())
        problem = (
            "no such code"
            if asked is None
            else "another client"
            if request.headers["Authorization"] != f"Basic {basic}"
            else "another verifier"
            if challenge.rstrip(b"=").decode() != asked["code_challenge"]
            else "another redirect"
            if form["redirect_uri"] != asked["redirect_uri"]
            else ""
        )
        if problem or asked is None:
            self.refused.append(problem)
            return web.json_response({"error": "invalid_grant"}, status=400)
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 60,
            "nonce": asked["nonce"],
            **self.claims,
            **self.odd,
        }
        token = jwt.encode({"alg": "RS256", "kid": "stand-in"}, claims, self._key)
        return web.json_response({"access_token": "unused", "token_type": "Bearer", "id_token": token})

    async def _keys(self, request: web.Request) -> web.Response:
        return web.json_response(KeySet([self._key]).as_dict(private=False))


@asynccontextmanager
async def provided() -> AsyncIterator[StandInProvider]:
    """Serve a stand-in until the block ends."""
    provider = StandInProvider()
    runner = web.AppRunner(provider.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield provider
    await runner.cleanup()
