"""Nobody reaches an item that is not theirs to see, by any address or call, and all that is done is on record."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web

from gyre.api.triage.v1 import review_pb2 as pb
from gyre.demo.expert import answer_queue
from schemas.codecs import codec
from schemas.events import Message, ReviewAction, Sensitivity
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.rpc import channel
from services.triage.accounts import changed, hash_password
from services.triage.console import Console
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import Entrance
from services.triage.identity import Identity
from services.triage.items import Items
from services.triage.rendering import Pages
from services.triage.settings import Settings
from tests.integration.triage.conftest import PASSWORD, Caller, Process
from tests.integration.triage.console import Browser, browser
from tests.integration.triage.test_triage import _records, _until
from tests.unit.triage.builders import TASK, TENANT, edge_case
from tests.unit.triage.fakes import Actions

CLOCK = Clock()
SECRET = "the pilot's medical file"
REVIEW = pb.DESCRIPTOR.services_by_name["Review"]


def _routes() -> list[tuple[str, str]]:
    """Method and path of everything that the console answers."""
    settings, pages = Settings(), Pages()
    identity = Identity(None, Sessions(b"", Patience(*2 * [CLOCK.now() - CLOCK.now()])), Actions(), 1, CLOCK)
    nothing: Any = None
    entrance = Entrance(settings, identity, pages, nothing)
    console = Console(settings, Items(nothing, nothing, entrance, pages), nothing, entrance, pages)
    return [(route.method, route.path) for route in console.routes if isinstance(route, web.RouteDef)]


@pytest.fixture(scope="module")
async def hidden(callers: Mapping[str, Caller], producer: Producer) -> tuple[str, str]:
    """Ids of two items that Ann may not see: one of her tenant above her clearance, and one of another tenant.

    Ada has claimed neither yet.
    """
    above, elsewhere = CLOCK.new_id(), CLOCK.new_id()
    asked = (Message(role="user", content=SECRET),)
    await producer.send(
        Topic.EDGE_CASES, edge_case(above, messages=asked, sensitivity=Sensitivity.CONFIDENTIAL, value=9.0)
    )
    await producer.send(
        Topic.EDGE_CASES,
        edge_case(elsewhere, messages=asked, tenant="another", sensitivity=Sensitivity.PUBLIC, value=9.0),
    )

    async def both_wait() -> bool:
        stats = await callers["ada"].Stats(pb.StatsRequest(), timeout=10)
        return sum(queue.open for queue in stats.queues) >= 2

    await _until(both_wait)
    return above, elsewhere


@pytest.fixture
def ann(triage: Process) -> Any:
    """Ann's browser, signed in."""
    with browser(triage) as opened:
        assert opened.sign_in("ann").status_code == 200
        assert opened.is_in
        yield opened


@pytest.fixture(scope="module")
async def leases(hidden: tuple[str, str], callers: Mapping[str, Caller]) -> list[str]:
    """Ada's leases of the two."""
    claims = [await callers["ada"].Claim(pb.ClaimRequest(), timeout=10) for _ in hidden]
    assert {claim.item.request_id for claim in claims} == set(hidden)
    return [claim.lease for claim in claims]


async def test_what_is_not_theirs_to_see_is_neither_given_out_nor_counted(
    hidden: tuple[str, str], callers: Mapping[str, Caller]
) -> None:
    for asked in (pb.ClaimRequest(), pb.ClaimRequest(tenant="another"), pb.ClaimRequest(task=TASK)):
        with pytest.raises(grpc.aio.AioRpcError, match="nothing is open") as error:
            while True:
                claimed = await callers["ann"].Claim(asked, timeout=10)
                assert claimed.item.request_id not in hidden
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
    counts = {}
    for name in ("ann", "eve", "ada"):
        stats = await callers[name].Stats(pb.StatsRequest(), timeout=10)
        counts[name] = {queue.tenant: queue.open + queue.leased for queue in stats.queues if queue.task == TASK}
    assert counts["eve"] == {"another": counts["ada"]["another"]}
    assert counts["ann"].get(TENANT, 0) == counts["ada"][TENANT] - 1


async def test_the_demos_expert_calls_with_its_token_and_skips_what_it_does_not_know(
    triage: Process, producer: Producer, kafka: str
) -> None:
    request_id = CLOCK.new_id()
    await producer.send(Topic.EDGE_CASES, edge_case(request_id))

    async def skipped() -> bool:
        await answer_queue(triage.target, triage.tokens["bob"], {}, lambda: None, quiet_seconds=0.5)
        labels = [codec(Topic.LABELS).decode(record.value) for record in await _records(kafka, Topic.LABELS)]
        return ("bob", "skipped") in {(each.expert, each.outcome) for each in labels if each.request_id == request_id}

    await _until(skipped)


@pytest.mark.parametrize(("method", "path"), _routes())
def test_no_address_shows_an_item_that_is_not_theirs_to_see(
    ann: Browser, leases: list[str], hidden: tuple[str, str], method: str, path: str
) -> None:
    for lease, request_id in zip(leases, hidden, strict=True):
        # Signing in is tried once: whoever tries often has to wait.
        for action in ("confirmed", "corrected", "unsafe", "skip")[: 1 if path == "/sign-in" else None]:
            fields = {"lease": lease, "request_id": request_id, "action": action, "comment": "-", "name": request_id}
            fields["claimed_at"] = "0"
            address = path.replace("{name}", "labels").replace("{request_id}", request_id)
            if method == "POST":
                response = ann.client.post(address, data={"csrf": ann.form_token(), **fields})
            else:
                response = ann.client.request(method, address, params=fields)
            assert SECRET not in response.text
            assert "<td>another</td>" not in response.text
            if address in ("/submit", "/extend", "/release"):
                assert (response.status_code, "somebody else" in response.text) == (403, True)
        if path == "/sign-out":
            ann.sign_in("ann")


@pytest.mark.parametrize("method", [method.name for method in REVIEW.methods])
async def test_no_call_reaches_an_item_that_is_not_theirs_to_see(
    callers: Mapping[str, Caller], leases: list[str], method: str
) -> None:
    request_type = REVIEW.methods_by_name[method].input_type
    for name, lease in ((name, lease) for name in ("ann", "eve") for lease in leases):
        request = getattr(pb, request_type.name)()
        if "lease" in request_type.fields_by_name:
            request.lease = lease
        if "reason" in request_type.fields_by_name:
            request.reason = "-"
        if "outcome" in request_type.fields_by_name:
            request.outcome = pb.OUTCOME_CONFIRMED
        call = getattr(callers[name], method)(request, timeout=10)
        code, details = await call.code(), await call.details()
        answer = str(await call) if code is grpc.StatusCode.OK else str(details)
        assert SECRET not in answer
        if "lease" in request_type.fields_by_name:
            assert code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("method", [method.name for method in REVIEW.methods])
@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer guess"),), (("authorization", "Basic YTpi"),)])
async def test_nobody_calls_without_a_token(triage: Process, method: str, metadata: Any) -> None:
    path, types = f"/{REVIEW.full_name}/{method}", REVIEW.methods_by_name[method]
    filled = {"lease": "x", "reason": "x", "outcome": 1}
    fields = {name: value for name, value in filled.items() if name in types.input_type.fields_by_name}
    request = getattr(pb, types.input_type.name)(**fields)
    async with channel(triage.target) as to:
        call = to.unary_unary(path, request_serializer=lambda each: each.SerializeToString())
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(request, metadata=metadata, timeout=10)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(("method", "path"), _routes())
def test_nobody_sees_a_page_who_has_not_signed_in(triage: Process, method: str, path: str) -> None:
    with browser(triage) as stranger:
        response = stranger.client.request(
            method, path.replace("{name}", "labels").replace("{request_id}", "x"), data={} if method == "POST" else None
        )
        assert "Sign out" not in response.text
        is_entrance = path in ("/", "/sign-in") or path.startswith("/sign-in/")
        assert is_entrance or response.status_code == 403


def test_a_form_without_its_token_changes_nothing(ann: Browser) -> None:
    for token in ("", "x" * 80):
        refused = ann.client.post("/sign-out", data={"csrf": token})
        assert refused.status_code == 403
        assert "did not come from the console" in refused.text
    with_token = {"csrf": ann.form_token()}
    refused = ann.client.post("/sign-out", data=with_token, headers={"Sec-Fetch-Site": "cross-site"})
    assert refused.status_code == 403
    assert ann.is_in


def test_a_session_ends_when_its_user_signs_out_even_for_a_copy_of_the_cookie(triage: Process, ann: Browser) -> None:
    with browser(triage) as copy:
        copy.client.cookies.update(ann.client.cookies)
        assert copy.is_in
        ann.post("/sign-out")
        assert not ann.is_in
        assert not copy.is_in


def test_the_cookie_is_for_the_console_alone(triage: Process) -> None:
    with browser(triage) as opened:
        opened.client.follow_redirects = False
        (cookie,) = opened.sign_in("ann").headers.get_list("set-cookie")
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))


def test_a_session_ends_with_its_password(triage: Process, ann: Browser) -> None:
    with changed(triage.accounts) as content:
        before = content["ann"]["password"]
        content["ann"]["password"] = hash_password("another password")
    _wait_for(lambda: not ann.is_in)
    assert "not the name and the password" in ann.sign_in("ann").text
    with changed(triage.accounts) as content:
        content["ann"]["password"] = before
    _wait_for(lambda: ann.sign_in("ann").status_code == 200 and ann.is_in)


def test_a_bad_accounts_file_is_logged_and_what_was_before_holds_on(triage: Process, ann: Browser) -> None:
    before = triage.accounts.read_text()
    triage.accounts.write_text(before.replace("role: expert", "role: emperor", 1))
    _wait_for(lambda: "ann.role: Input should be" in triage.log.read_text())
    assert ann.is_in
    triage.accounts.write_text(before)


async def test_a_signed_in_lead_of_one_tenant_sees_that_tenant_alone(triage: Process, hidden: tuple[str, str]) -> None:
    with changed(triage.accounts) as content:
        content["eve"]["password"] = hash_password(PASSWORD)
    with browser(triage) as eve:
        await _until(lambda: asyncio.to_thread(lambda: eve.sign_in("eve").status_code == 200))
        assert TENANT not in eve.get("/").text
        assert "another" in eve.get("/").text
        assert eve.get("/overview").status_code == 403


async def test_what_was_done_is_on_record_and_a_label_with_its_action(
    triage: Process, callers: Mapping[str, Caller], leases: list[str], ann: Browser, kafka: str
) -> None:
    """The last one: it takes Ada's items away."""
    for lease in leases:
        await callers["ada"].Submit(pb.SubmitRequest(lease=lease, outcome=pb.OUTCOME_CONFIRMED), timeout=10)
    records = await _records(kafka, Topic.ACTIONS)
    actions: list[ReviewAction] = [codec(Topic.ACTIONS).decode(record.value) for record in records]
    done = [(each.expert, each.action, each.tenant, each.detail) for each in actions]
    for tenant in (TENANT, "another"):
        assert ("ada", "claimed", tenant, "first") in done
        assert ("ada", "submitted", tenant, "confirmed") in done  # acknowledged when Submit answered
    assert ("ann", "signed-in", "", "password, from 127.0.0.1") in done
    assert ("ann", "refused", "", "the lease is somebody else's") in done
    assert ("ann", "signed-out") in {each[:2] for each in done}
    assert ("ann", "sign-in-refused", "", "password, from 127.0.0.1") in done
    assert ("eve", "accounts-changed", "", "changed") in done
    assert {record.key.decode() for record in records} >= {"ada", "ann", "eve", ""}
    written = b"".join(record.value for record in records) + triage.log.read_bytes()
    for secret in (SECRET, PASSWORD, "another password", *triage.tokens.values()):
        assert secret.encode() not in written


def _wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
