"""What the console's entrance makes of where a request comes from, and what it gives a browser to keep."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from services.runtime.clock import Clock
from services.triage.accounts import load_accounts
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import VISITOR, Entrance
from services.triage.identity import Identity
from services.triage.rendering import Pages
from services.triage.settings import Settings
from services.triage.state import FollowedAccounts
from tests.unit.triage.builders import NOW
from tests.unit.triage.fakes import Actions

OLGA = {"role": "lead", "clearance": "internal", "tenants": "all", "oidc": "olga@example.org"}


class World:
    """An entrance to a console where Olga has an account."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        path = folder / "accounts.yaml"
        path.write_text(yaml.safe_dump({"olga": OLGA}))
        self.now = NOW
        sessions = Sessions(b"secret", Patience(timedelta(hours=1), timedelta(hours=12)))
        clock = Clock(now=lambda: self.now, monotonic=lambda: self.now.timestamp())
        self.identity = Identity(FollowedAccounts(path), sessions, Actions(), 100, clock)
        self.entrance = Entrance(Settings(**settings), self.identity, Pages(), None)
        session = sessions.begin("s1", "olga", load_accounts(path).root["olga"].fingerprint, NOW)
        self.cookie = sessions.cookie(session)

    async def get(self, *headers: tuple[str, str], path: str = "/") -> web.StreamResponse:
        async def page(request: web.Request) -> web.Response:
            return web.Response(text=request[VISITOR].person.name)

        request = make_mocked_request("GET", path, headers=CIMultiDict(headers), match_info={"any": "page"})
        return await self.entrance.guard(request, page)


def _address(world: World, *forwarded: str) -> str:
    headers = CIMultiDict([("X-Forwarded-For", each) for each in forwarded])
    return world.entrance._address(make_mocked_request("GET", "/", headers=headers))


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, ["1.1.1.1"], ""),  # nobody is believed; a mocked request has no address of its own
        (1, ["1.1.1.1, 10.0.0.7"], "10.0.0.7"),
        (2, ["1.1.1.1, 10.0.0.7", "10.0.0.8"], "10.0.0.7"),
        (2, ["10.0.0.8"], ""),
    ],
)
async def test_only_our_own_proxies_say_where_a_request_comes_from(
    tmp_path: Path, proxies: int, forwarded: list[str], address: str
) -> None:
    assert _address(World(tmp_path, console_proxies=proxies), *forwarded) == address


@pytest.mark.parametrize(
    ("url", "name", "is_secure"),
    [("https://review.example.org", "__Host-gyre_console", True), ("", "gyre_console", False)],
)
async def test_a_session_that_goes_on_is_kept_anew_and_secure_where_browsers_come_by_https(
    tmp_path: Path, url: str, name: str, is_secure: bool
) -> None:
    world = World(tmp_path, console_url=url)
    fresh = await world.get(("Cookie", f"{name}={world.cookie}"))
    assert (fresh.text, len(fresh.cookies)) == ("olga", 0)  # type: ignore[attr-defined] # what the handler gave
    world.now += timedelta(minutes=59)
    used = await world.get(("Cookie", f"{name}={world.cookie}"))
    (kept,) = used.cookies.values()
    assert (kept.key, bool(kept["secure"]), bool(kept["httponly"]), kept["samesite"]) == (
        name,
        is_secure,
        True,
        "Strict",
    )
    world.now += timedelta(minutes=59)
    assert (await world.get(("Cookie", f"{name}={kept.value}"))).status == 200
    assert (await world.get(("Cookie", f"{name}={world.cookie}"), path="/overview")).status == 403


async def test_who_wants_no_page_is_answered_in_json_and_told_how_long_to_wait(tmp_path: Path) -> None:
    world = World(tmp_path)
    answer: Any = await world.get(path="/overview")
    assert (answer.status, answer.text) == (403, '{"problem": "Sign in to go on."}')
    for _ in range(100):
        await world.get(("Cookie", f"gyre_console={world.cookie}"))
    slow: Any = await world.get(("Cookie", f"gyre_console={world.cookie}"))
    assert (slow.status, slow.headers["Retry-After"]) == (429, "1")


async def test_every_answer_says_what_a_browser_may_make_of_it(tmp_path: Path) -> None:
    world = World(tmp_path)
    for headers in ([], [("Cookie", f"gyre_console={world.cookie}")], [("Accept", "text/html")]):
        answer = await world.get(*headers)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
