"""The console with TLS of its own."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from embedded.ports import free_ports
from services.runtime.clock import Clock
from services.triage.accounts import changed, hash_password
from services.triage.console import Console
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import Entrance
from services.triage.identity import Identity
from services.triage.items import Items
from services.triage.rendering import Pages
from services.triage.settings import Settings
from services.triage.state import FollowedAccounts
from tests.certificates import Folders
from tests.integration.triage.conftest import PASSWORD
from tests.unit.triage.fakes import Actions


@dataclass
class Served:
    port: int
    folders: Folders

    def url(self, scheme: str = "https") -> str:
        return f"{scheme}://localhost:{self.port}/sign-in"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    folders, accounts, (port,) = Folders(tmp_path), tmp_path / "accounts.yaml", free_ports(1)
    with changed(accounts) as content:
        content["ann"] = {
            "role": "expert",
            "clearance": "internal",
            "tenants": "all",
            "password": hash_password(PASSWORD),
        }
    settings, pages = Settings(console_port=port, accounts=accounts, drain_seconds=0), Pages()
    sessions = Sessions(b"secret", Patience(timedelta(hours=1), timedelta(hours=12)))
    entrance = Entrance(settings, Identity(FollowedAccounts(accounts), sessions, Actions(), 100, Clock()), pages, None)
    unused: Any = None
    items = Items(unused, unused, entrance, pages)
    async with Console(settings, items, unused, entrance, pages, folders.tls("triage")).serving():
        yield Served(port, folders)


async def signed_in(url: str, ca_file: Path) -> aiohttp.ClientResponse:
    context = ssl.create_default_context(cafile=ca_file)
    async with aiohttp.ClientSession() as session:
        form = {"name": "ann", "password": PASSWORD}
        return await session.post(url, data=form, ssl=context, allow_redirects=False)


async def test_who_signs_in_by_tls_gets_a_cookie_that_is_shown_by_tls_alone(served: Served) -> None:
    answer = await signed_in(served.url(), served.folders.ca_file)
    assert answer.status == 303
    cookie = answer.cookies["__Host-gyre_console"]
    assert cookie["secure"]
    assert cookie["httponly"]


async def test_nobody_signs_in_in_the_clear(served: Served) -> None:
    with pytest.raises(aiohttp.ClientError):
        await signed_in(served.url("http"), served.folders.ca_file)


async def test_a_replaced_certificate_is_taken_up(served: Served) -> None:
    new = served.folders.with_a_new_ca()
    served.folders.replace("triage", new.of("triage"))
    assert (await signed_in(served.url(), new.ca_file)).status == 303
