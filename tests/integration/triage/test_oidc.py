"""Signing in with an identity provider, of which there is a stand-in here."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from embedded.ports import free_ports
from services.triage.accounts import changed
from tests.integration.triage.conftest import Process
from tests.integration.triage.provider import CLIENT_ID, CLIENT_SECRET, StandInProvider, provided


@pytest.fixture(scope="module")
async def provider() -> AsyncIterator[StandInProvider]:
    async with provided() as provider:
        yield provider


@pytest.fixture(scope="module")
async def console(
    kafka: str, models: Path, provider: StandInProvider, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Process]:
    (port,) = free_ports(1)
    process = Process(
        kafka,
        models,
        tmp_path_factory.mktemp("oidc"),
        GYRE_TRIAGE_CONSOLE_PORT=str(port),
        GYRE_TRIAGE_CONSOLE_URL=f"http://127.0.0.1:{port}",
        GYRE_TRIAGE_OIDC_ISSUER=provider.url,
        GYRE_TRIAGE_OIDC_CLIENT_ID=CLIENT_ID,
        GYRE_TRIAGE_OIDC_CLIENT_SECRET=CLIENT_SECRET,
    )
    process.url = f"http://127.0.0.1:{port}"
    with changed(process.accounts) as content:
        content["olga"] = {"role": "lead", "clearance": "internal", "tenants": "all", "oidc": "olga@example.org"}
        content["omar"] = {"role": "expert", "clearance": "internal", "tenants": "all", "oidc": "subject-7"}
    await process.start()
    yield process
    process.stop()


@pytest.fixture
async def client(console: Process, provider: StandInProvider) -> AsyncIterator[httpx.AsyncClient]:
    provider.odd = {}
    headers = {"Accept": "text/html"}
    async with httpx.AsyncClient(base_url=console.url, headers=headers, follow_redirects=True, timeout=60) as client:
        yield client


async def _who(client: httpx.AsyncClient) -> str:
    text = (await client.get("/")).text
    return next((name for name in ("olga", "omar", "ann") if f"<span>{name} " in text), "")


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"sub": "subject-1", "email": "olga@example.org", "email_verified": True}, "olga"),
        ({"sub": "subject-7"}, "omar"),
    ],
)
async def test_whom_the_provider_vouches_for_is_in_as_their_account(
    client: httpx.AsyncClient, provider: StandInProvider, claims: dict[str, object], name: str
) -> None:
    assert 'href="/sign-in/oidc"' in (await client.get("/")).text
    provider.claims = claims
    landed = await client.get("/sign-in/oidc")
    assert landed.status_code == 200
    assert 'content="0;url=/"' in landed.text
    assert await _who(client) == name
    assert provider.refused == []


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "subject-1", "email": "olga@example.org"},
        {"sub": "ann"},
        {"sub": "x", "email": "eve@example.org", "email_verified": True},
    ],
)
async def test_who_has_no_account_stays_out_whatever_the_provider_says(
    client: httpx.AsyncClient, provider: StandInProvider, claims: dict[str, object]
) -> None:
    provider.claims = claims
    landed = await client.get("/sign-in/oidc")
    assert (landed.status_code, "no account here is yours" in landed.text) == (403, True)
    assert await _who(client) == ""


@pytest.mark.parametrize("odd", [{"nonce": "another"}, {"iss": "https://other"}, {"aud": "other"}, {"exp": 1}])
async def test_an_answer_that_is_not_to_this_sign_in_opens_nothing(
    client: httpx.AsyncClient, provider: StandInProvider, odd: dict[str, object]
) -> None:
    provider.claims, provider.odd = {"sub": "subject-7"}, odd
    landed = await client.get("/sign-in/oidc")
    assert (landed.status_code, "cannot be used" in landed.text) == (403, True)
    assert await _who(client) == ""


async def test_a_code_opens_nothing_but_in_the_browser_that_set_out_and_only_once(
    client: httpx.AsyncClient, console: Process, provider: StandInProvider
) -> None:
    provider.claims = {"sub": "subject-7"}
    to_provider = await client.get("/sign-in/oidc", follow_redirects=False)
    back = (await client.get(to_provider.headers["location"], follow_redirects=False)).headers["location"]
    async with httpx.AsyncClient(headers={"Accept": "text/html"}) as stranger:
        assert (await stranger.get(back)).status_code == 403
    assert (await client.get(back.replace("state=", "state=x"))).status_code == 403  # which also forgets the sign-in
    assert (await client.get(back)).status_code == 403
    assert await _who(client) == ""
    again = await client.get("/sign-in/oidc", follow_redirects=False)
    kept = dict(client.cookies)
    back = (await client.get(again.headers["location"], follow_redirects=False)).headers["location"]
    assert (await client.get(back)).status_code == 200
    assert await _who(client) == "omar"
    client.cookies.clear()
    client.cookies.update(kept)
    assert (await client.get(back)).status_code == 403
    assert provider.refused == ["no such code"]


async def test_a_provider_that_does_not_answer_is_said_to_be_away(
    client: httpx.AsyncClient, provider: StandInProvider
) -> None:
    url, provider.url = provider.url, "http://127.0.0.1:1"
    answer = await client.get("/sign-in/oidc")
    provider.url = url
    assert answer.status_code == 503
    assert "The identity provider calls itself" in answer.text
    assert 'name="password"' in answer.text  # passwords go on
