import json
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import MultiDict, MultiDictProxy

from schemas.events import Label
from schemas.labels import Kind
from services.triage.alike import Alike
from services.triage.domain.access import Role
from services.triage.entrance import VISITOR
from services.triage.identity import Visitor
from services.triage.items import MAX_ANSWER_BYTES, MAX_COMMENT_BYTES, Items
from services.triage.pages import ItemPage
from tests.unit.triage.builders import CALL, NOW, person
from tests.unit.triage.fakes import World

RIGHT = '{"name": "find_film", "arguments": {"title": "Aliens"}}'


class _Console:
    """The pages of items without a server: somebody is signed in, and a page's values are seen in place of the page."""

    def __init__(self) -> None:
        self.world = World(lease_seconds=900)
        self.person = person("ann")
        self.shown: tuple[str, dict[str, Any]] = ("", {})
        self.alike = Alike(lambda texts: np.ones((len(texts), 1), np.float32), 1, 10, 0.5)
        self.items = Items(self.world.desk, self.alike, self, self)  # type: ignore[arg-type] # both are this one
        self._handlers = {route.path: route.handler for route in self.items.routes()}

    def context(self, request: web.Request) -> dict[str, object]:
        return {"person": self.person}

    def response(self, template: str, status: int, **values: Any) -> web.Response:
        self.shown = template, values
        return web.Response(status=status)

    async def post(self, path: str, **fields: str) -> web.Response:
        request = make_mocked_request("POST", path)
        request[VISITOR] = Visitor(self.person, None)
        request._post = MultiDictProxy(MultiDict(fields))
        answer = await self._handlers[path](request)  # type: ignore[call-arg,misc]
        assert isinstance(answer, web.Response)
        return answer

    async def read(self, request_id: str) -> web.Response:
        request = make_mocked_request("GET", f"/items/{request_id}", match_info={"request_id": request_id})
        request[VISITOR] = Visitor(self.person, None)
        answer = await self._handlers["/items/{request_id}"](request)  # type: ignore[call-arg,misc]
        assert isinstance(answer, web.Response)
        return answer

    async def claimed(self) -> ItemPage:
        self.world.add()
        claim = await self.post("/claim")
        assert (claim.status, claim.headers["Location"]) == (303, "/items/r1")
        await self.read("r1")
        page = self.shown[1]["page"]
        assert isinstance(page, ItemPage)
        return page


@pytest.fixture
def console() -> _Console:
    return _Console()


def _said(answer: web.Response) -> Any:
    assert answer.text is not None
    return json.loads(answer.text)


async def test_a_claim_leads_to_the_item_which_can_be_read_again_by_its_holder_alone(console: _Console) -> None:
    page = await console.claimed()
    assert page.claimed.item.answer == CALL
    assert (await console.read("r1")).status == 200
    console.person = person("bob")
    assert (await console.read("r1")).status == 404
    template, values = console.shown
    assert (template, values["problem"]) == ("queue.html", "You do not hold this item; claim the next.")


async def test_an_empty_queue_says_so(console: _Console) -> None:
    assert (await console.post("/claim")).status == 404
    assert console.shown[1]["problem"] == "Nothing is open."


async def test_a_request_id_that_is_no_word_makes_an_address_all_the_same(console: _Console) -> None:
    console.world.add("a/b?c")
    assert (await console.post("/claim")).headers["Location"] == "/items/a%2Fb%3Fc"


async def test_a_correction_is_a_label_with_rating_comment_and_time(console: _Console) -> None:
    page = await console.claimed()
    console.world.now += timedelta(seconds=42)
    fields = {"lease": page.claimed.token, "claimed_at": str(page.claimed_at), "rating": "2", "comment": " odd "}
    answer = await console.post("/submit", action="corrected", answer=RIGHT.replace("\n", "\r\n"), **fields)
    assert _said(answer) == {"done": "corrected"}
    (label,) = console.world.written
    assert (label.answer, label.rating, label.comment, label.seconds_spent) == (RIGHT, 2, "odd", 42.0)


async def test_a_skip_holds_its_reason_and_unsafe_holds_no_answer(console: _Console) -> None:
    console.world.add("r2")
    page = await console.claimed()
    await console.post("/submit", action="unsafe", lease=page.claimed.token, claimed_at="0", answer=RIGHT)
    other = await console.world.desk.claim(person("ann"))
    await console.post("/submit", action="skip", lease=other.token, claimed_at="0", comment="no real request")
    assert [(label.outcome, label.answer, label.comment) for label in console.world.written] == [
        ("unsafe", "", ""),
        ("skipped", "", "no real request"),
    ]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"action": "approve"}, "Action: must be confirmed, corrected, unsafe, escalated or skip, is 'approve'."),
        ({"action": "skip"}, "Comment: say why it is skipped."),
        ({"rating": "6"}, "Rating: must be from 1, useless, to 5, is '6'."),
        ({"claimed_at": "nan"}, "Claimed_at: must be seconds since the epoch, is 'nan'."),
        ({"lease": "made up"}, "Lease: not a lease that Claim gave out."),
        ({"answer": "x" * (MAX_ANSWER_BYTES + 1)}, "Answer: must have at most 262,144 bytes, has 262,145."),
        ({"comment": "ä" * MAX_COMMENT_BYTES}, "Comment: must have at most 4,096 bytes, has 8,192."),
        (
            {"answer": '{"name": "find_film", "arguments": {}}'},
            "Answer: must be a call of one of the item's tools; argu",
        ),
    ],
)
async def test_what_is_wrong_with_a_form_is_told_by_the_field_s_name(
    console: _Console, changes: dict[str, str], problem: str
) -> None:
    page = await console.claimed()
    fields = {"action": "corrected", "answer": RIGHT, "lease": page.claimed.token, "claimed_at": "0"}
    answer = await console.post("/submit", **{**fields, **changes})
    assert answer.status == 400
    assert _said(answer)["problem"].startswith(problem)
    assert not console.world.written


async def test_an_extended_lease_takes_the_place_of_the_one_before(console: _Console) -> None:
    page = await console.claimed()
    console.world.now += timedelta(seconds=600)
    extended = _said(await console.post("/extend", lease=page.claimed.token))
    assert extended["seconds_left"] == 900
    console.world.now += timedelta(seconds=600)
    refused = await console.post("/submit", action="confirmed", lease=page.claimed.token, claimed_at="0")
    assert _said(refused)["problem"].startswith("Lease: expired")
    done = await console.post("/submit", action="confirmed", lease=extended["lease"], claimed_at="0")
    assert _said(done) == {"done": "confirmed"}


async def test_what_is_handed_back_is_open_and_not_the_reader_s_any_more(console: _Console) -> None:
    page = await console.claimed()
    assert _said(await console.post("/release", lease=page.claimed.token)) == {"done": "released"}
    assert (await console.read("r1")).status == 404
    assert (await console.world.desk.claim(person("bob"))).item.request_id == "r1"
    assert (await console.post("/release", lease=page.claimed.token)).status == 400
    assert (await console.post("/extend", lease=page.claimed.token)).status == 400


async def test_an_alike_item_that_was_labelled_is_offered_to_begin_with(console: _Console) -> None:
    await console.claimed()
    await console.post(
        "/submit", action="confirmed", claimed_at="0", lease=console.world.desk.held(person("ann"), "r1").token
    )
    (label,) = console.world.written
    assert isinstance(label, Label)
    console.alike.take_label(label)
    console.world.add("r2")
    await console.post("/claim")
    await console.read("r2")
    (start,) = console.shown[1]["page"].starts
    assert (start.key, start.name, start.text) == (7, "Find me a film", CALL)
    assert console.shown[1]["page"].claimed.claimed_at == NOW


async def test_a_label_can_be_taken_back_which_leads_to_its_item(console: _Console) -> None:
    page = await console.claimed()
    assert console.shown[1]["undoable"] is False
    await console.post("/submit", action="confirmed", claimed_at="0", lease=page.claimed.token)
    undone = await console.post("/undo")
    assert (undone.status, undone.headers["Location"]) == (303, "/items/r1")
    assert (await console.post("/undo")).status == 404
    assert console.shown[1]["problem"].startswith("There is nothing to undo")


async def test_who_decides_sees_what_was_said_and_may_begin_with_it(console: _Console) -> None:
    page = await console.claimed()
    handed = {"action": "escalated", "claimed_at": "0", "lease": page.claimed.token}
    assert _said(await console.post("/submit", **handed))["problem"] == "Comment: say why it is escalated."
    await console.post("/submit", **handed, comment="beyond me")
    console.person = person("lea", role=Role.LEAD)
    await console.post("/claim")
    await console.read("r1")
    page = console.shown[1]["page"]
    assert page.claimed.kind is Kind.ADJUDICATION
    assert [(each.expert, each.what, each.comment) for each in page.said] == [("ann", "handed it on", "beyond me")]
