"""Who may come in, at the console and over gRPC, and for how long."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.events import Sensitivity
from services.runtime.clock import Clock
from services.runtime.errors import InvalidArgument, PermissionDenied, ResourceExhausted, Retryable, Unauthenticated
from services.triage import identity as module
from services.triage.accounts import changed, hash_password, new_token
from services.triage.domain.access import LOCAL, Identified
from services.triage.domain.sessions import Patience, Sessions
from services.triage.identity import FREE_PER_ACCOUNT, FREE_PER_ADDRESS, Identity
from services.triage.state import FollowedAccounts
from tests.unit.triage.builders import NOW
from tests.unit.triage.fakes import Actions

PASSWORD, OTHER = "correct horse battery", "another password"
HASH, OTHER_HASH = hash_password(PASSWORD), hash_password(OTHER)
TOKEN, DIGEST = new_token()
HOME = "10.0.0.7"


class World:
    """Accounts of Ann, who has a password and a token, and of Olga, whom the identity provider knows."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "accounts.yaml"
        ann = {"role": "expert", "clearance": "internal", "tenants": ["care"], "password": HASH, "token_sha256": DIGEST}
        olga = {"role": "lead", "clearance": "restricted", "tenants": "all", "oidc": "olga@example.org"}
        self.path.write_text(yaml.safe_dump({"ann": ann, "olga": olga}))
        self.now = NOW
        self.actions = Actions()
        self.followed = FollowedAccounts(self.path)
        self.identity = self.replica(self.followed)

    def replica(self, accounts: FollowedAccounts | None) -> Identity:
        clock = Clock(now=lambda: self.now, monotonic=lambda: self.now.timestamp())
        sessions = Sessions(b"secret", Patience(timedelta(hours=1), timedelta(hours=12)))
        return Identity(accounts, sessions, self.actions, 5, clock)

    async def cookie(self, name: str = "ann", password: str = PASSWORD, address: str = HOME) -> str:
        return self.identity.cookie(await self.identity.sign_in(name, password, address))

    async def provided(self, subject: str, email: str) -> str:
        async def find() -> Identified:
            return Identified(subject, email)

        return self.identity.cookie(await self.identity.sign_in_as(find, HOME))

    def change(self, name: str, **fields: Any) -> None:
        with changed(self.path) as content:
            content[name].update(fields)
        self.followed.read_again()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_who_knows_the_password_is_known_by_every_replica_from_then_on(world: World) -> None:
    cookie = await world.cookie()
    visitor = world.replica(world.followed).visitor(cookie)
    assert visitor is not None
    assert (visitor.person.name, visitor.person.tenants) == ("ann", {"care"})
    assert world.actions.told == [("ann", "signed-in", "password, from 10.0.0.7")]


@pytest.mark.parametrize(("name", "expert"), [("ann", "ann"), ("olga", "olga"), (PASSWORD, ""), ("", "")])
async def test_who_does_not_is_refused_alike_whether_there_is_such_an_account_or_not(
    world: World, name: str, expert: str
) -> None:
    with pytest.raises(PermissionDenied, match="not the name and the password of an account"):
        await world.cookie(name, OTHER)
    # What is no account's name may be a password that was typed in the wrong place.
    assert world.actions.told == [(expert, "sign-in-refused", "password, from 10.0.0.7")]


@pytest.mark.parametrize("name", ["ann", "olga", "nobody"])
async def test_an_unknown_name_costs_the_same_hash_as_a_known_one(
    world: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    monkeypatch.setattr(module, "matches", lambda known, password: bool(checked.append(known)))
    with pytest.raises(PermissionDenied):
        await world.cookie(name, OTHER)
    assert checked == [HASH]


async def test_an_account_without_a_password_has_none_that_opens_it(world: World) -> None:
    with pytest.raises(PermissionDenied):
        await world.cookie("olga", PASSWORD)  # which is Ann's


async def test_guessing_at_an_account_takes_longer_and_longer_from_wherever_it_comes(world: World) -> None:
    for name in ("ann", "nobody"):
        for number in range(FREE_PER_ACCOUNT):
            with pytest.raises(PermissionDenied):
                await world.cookie(name, OTHER, f"10.0.1.{number}")
        with pytest.raises(ResourceExhausted, match="too many attempts"):
            await world.cookie(name, OTHER, "10.0.2.1")
    with pytest.raises(ResourceExhausted):
        await world.cookie()
    world.now += timedelta(seconds=1)
    await world.cookie()
    await world.cookie()


async def test_guessing_from_one_address_takes_longer_and_longer_whatever_the_name(world: World) -> None:
    for number in range(FREE_PER_ADDRESS):
        with pytest.raises(PermissionDenied):
            await world.cookie(f"name-{number}", OTHER)
    with pytest.raises(ResourceExhausted):
        await world.cookie()
    await world.cookie(address="10.0.0.8")


async def test_many_who_sign_in_from_one_address_do_not_make_one_another_wait(world: World) -> None:
    for _ in range(FREE_PER_ADDRESS + 2):
        await world.cookie()


async def test_a_name_or_password_beyond_all_measure_is_not_even_tried(world: World) -> None:
    for name, password in (("a" * 129, OTHER), ("ann", "a" * 1025)):
        with pytest.raises(InvalidArgument, match="at most"):
            await world.cookie(name, password)
    assert world.actions.recorded == []


@pytest.mark.parametrize("fields", [{"password": OTHER_HASH}, {"role": "admin"}])
async def test_another_password_or_role_ends_the_sessions_of_an_account(world: World, fields: dict[str, str]) -> None:
    cookie = await world.cookie()
    world.change("ann", **fields)
    assert world.identity.visitor(cookie) is None


async def test_a_session_ends_with_its_account(world: World) -> None:
    cookie = await world.cookie()
    with changed(world.path) as content:
        del content["ann"]
    world.followed.read_again()
    assert world.identity.visitor(cookie) is None
    with pytest.raises(Unauthenticated):
        world.identity.caller(TOKEN, HOME, is_local=True)


async def test_other_tenants_and_clearance_hold_at_once(world: World) -> None:
    cookie = await world.cookie()
    world.change("ann", tenants=["bank"], clearance="public")
    visitor = world.identity.visitor(cookie)
    assert visitor is not None
    assert visitor.person == world.identity.caller(TOKEN, HOME, is_local=False)
    assert (visitor.person.tenants, visitor.person.clearance) == ({"bank"}, Sensitivity.PUBLIC)


async def test_who_signs_out_has_to_sign_in_again_and_others_have_not(world: World) -> None:
    cookie, elsewhere = await world.cookie(), await world.cookie()
    visitor = world.identity.visitor(cookie)
    assert visitor is not None
    world.identity.sign_out(visitor)
    assert world.identity.visitor(cookie) is None
    assert world.identity.visitor(elsewhere) is not None
    assert visitor.session is not None
    assert world.actions.told[-1] == ("ann", "signed-out", visitor.session.session_id)


async def test_who_signs_out_in_one_replica_has_done_so_in_all(world: World) -> None:
    other = world.replica(world.followed)
    cookie, elsewhere = await world.cookie(), await world.cookie()
    visitor = other.visitor(cookie)
    assert visitor is not None
    world.identity.sign_out(visitor)
    for action in world.actions.recorded:
        other.take_action(action)
    assert other.visitor(cookie) is None
    assert other.visitor(elsewhere) is not None


async def test_a_session_is_used_at_its_pace(world: World) -> None:
    cookie, other = await world.cookie(), await world.cookie()
    for _ in range(5):
        world.identity.visitor(cookie)
    with pytest.raises(ResourceExhausted, match="more than 5 requests a minute"):
        world.identity.visitor(cookie)
    world.identity.visitor(other)
    world.now += timedelta(seconds=12)
    world.identity.visitor(cookie)


async def test_the_identity_provider_says_who_and_the_account_says_what_they_may(world: World) -> None:
    visitor = world.identity.visitor(await world.provided("subject-7", "Olga@example.org"))
    assert visitor is not None
    assert (visitor.person.name, visitor.person.clearance) == ("olga", Sensitivity.RESTRICTED)
    for subject, email in (("subject-7", ""), ("subject-7", "eve@example.org"), ("ann", "")):
        with pytest.raises(PermissionDenied, match="no account here is yours"):
            await world.provided(subject, email)
    assert world.actions.told[-1] == ("", "sign-in-refused", "oidc, from 10.0.0.7")


async def test_who_comes_back_in_vain_again_and_again_has_to_wait_before_the_provider_is_asked(world: World) -> None:
    asked: list[int] = []

    async def refuse() -> Identified:
        asked.append(1)
        raise PermissionDenied("this did not begin here")

    for _ in range(FREE_PER_ADDRESS):
        with pytest.raises(PermissionDenied, match="did not begin here"):
            await world.identity.sign_in_as(refuse, HOME)
    with pytest.raises(ResourceExhausted):
        await world.identity.sign_in_as(refuse, HOME)
    assert len(asked) == len(world.actions.recorded) == FREE_PER_ADDRESS


async def test_a_grpc_caller_is_known_by_the_token_alone(world: World) -> None:
    assert world.identity.caller(TOKEN, HOME, is_local=False).name == "ann"
    for token in ("", DIGEST, PASSWORD):
        with pytest.raises(Unauthenticated, match="no account's token"):
            world.identity.caller(token, HOME, is_local=True)
    with pytest.raises(Unauthenticated, match="no token was shown"):
        world.identity.caller(None, HOME, is_local=True)
    assert world.actions.told == [("", "sign-in-refused", "token, from 10.0.0.7")] * 3


async def test_who_tries_token_after_token_is_turned_away_and_does_not_fill_the_record(world: World) -> None:
    for _ in range(FREE_PER_ADDRESS):
        with pytest.raises(Unauthenticated):
            world.identity.caller("guess", HOME, is_local=False)
    for _ in range(9):
        with pytest.raises(ResourceExhausted):
            world.identity.caller("guess", HOME, is_local=False)
    assert len(world.actions.recorded) == FREE_PER_ADDRESS
    assert world.identity.caller(TOKEN, HOME, is_local=False).name == "ann"


async def test_nobody_comes_in_who_cannot_be_put_on_record(world: World) -> None:
    world.actions.is_full = True
    with pytest.raises(Retryable):
        await world.cookie()
    with pytest.raises(Retryable):
        await world.provided("subject-7", "olga@example.org")


def test_without_accounts_this_machine_alone_is_answered_as_its_admin(world: World) -> None:
    identity = world.replica(None)
    assert identity.caller(None, "127.0.0.1", is_local=True) is LOCAL
    with pytest.raises(Unauthenticated, match="this machine alone"):
        identity.caller(TOKEN, HOME, is_local=False)


async def test_a_change_of_the_accounts_goes_on_record_with_who_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0)
    with changed(world.path) as content:
        content["carl"] = content.pop("olga")
        content["ann"]["password"] = OTHER_HASH
    following = module.asyncio.create_task(world.identity.run())
    while len(world.actions.recorded) < 3:
        await module.asyncio.sleep(0)
    following.cancel()
    assert world.actions.told == [
        ("carl", "accounts-changed", "added"),
        ("olga", "accounts-changed", "removed"),
        ("ann", "accounts-changed", "changed"),
    ]
