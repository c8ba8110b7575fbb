"""The experts' pages: the queue, and the item that an expert holds."""

import re
from collections.abc import Awaitable
from typing import Any
from urllib.parse import quote

from aiohttp import web

from schemas.events import EdgeCase
from schemas.labels import Outcome
from services.runtime.errors import InvalidArgument, Retryable, ServiceError
from services.triage.alike import Alike, Answered
from services.triage.desk import Claimed, Desk
from services.triage.domain.access import Person
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement
from services.triage.domain.texts import question_of
from services.triage.entrance import VISITOR, Entrance
from services.triage.pages import NEIGHBOURS, item_page
from services.triage.rendering import Pages, sentence, status_of

SKIP, ESCALATED = "skip", Outcome.ESCALATED
# As the gRPC service takes them.
MAX_ANSWER_BYTES, MAX_COMMENT_BYTES = 262_144, 4_096
MAX_SECONDS = 86_400.0
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]+)?")
_RATING = re.compile(r"[1-5]")
# Why an item is skipped most often; each has a key of its own.
REASONS = (
    "It is not clear what was asked",
    "What it would take to answer is missing",
    "It is no real request",
    "There is no one right answer",
)


class Items:
    """Gives items to experts in their browsers, and takes their judgements."""

    def __init__(self, desk: Desk, alike: Alike, entrance: Entrance, pages: Pages) -> None:
        self._desk = desk
        self._answered = alike
        self._entrance = entrance
        self._pages = pages

    def routes(self) -> list[web.RouteDef]:
        """Return what is answered here, beside the queue's page."""
        return [
            web.post("/claim", self._claim),
            web.get("/items/{request_id}", self._item),
            web.post("/submit", self._submit),
            web.post("/extend", self._extend),
            web.post("/release", self._release),
            web.post("/undo", self._undo),
        ]

    def queue(self, request: web.Request, *, problem: str = "", status: int = 200) -> web.Response:
        """Return the page of the queue."""
        try:
            queues = self._desk.stats(request[VISITOR].person)
        except Retryable as error:
            queues, problem = [], problem or sentence(error)
        return self._page(
            request,
            "queue.html",
            status,
            problem,
            queues=queues,
            open=sum(queue.open for queue in queues),
            to_decide=self._desk.to_decide(request[VISITOR].person),
        )

    async def _claim(self, request: web.Request) -> web.Response:
        form = await request.post()
        return await self._given(request, self._desk.claim(request[VISITOR].person, to_decide="to_decide" in form))

    async def _undo(self, request: web.Request) -> web.Response:
        return await self._given(request, self._desk.undo(request[VISITOR].person))

    async def _given(self, request: web.Request, giving: Awaitable[Claimed]) -> web.Response:
        try:
            claimed = await giving
        except ServiceError as error:
            return self.queue(request, problem=sentence(error), status=status_of(error))
        # A page of its own, so that reloading it shows the item again and claims no other.
        return web.Response(status=303, headers={"Location": f"/items/{quote(claimed.item.request_id, safe='')}"})

    async def _item(self, request: web.Request) -> web.Response:
        person = request[VISITOR].person
        try:
            claimed = self._desk.held(person, request.match_info["request_id"])
            bundle = self._desk.bundles.current()
        except ServiceError as error:
            return self.queue(request, problem=sentence(error), status=status_of(error))
        page = item_page(claimed, self._alike(person, claimed.item), bundle, self._desk.clock.now())
        return self._page(request, "item.html", 200, page=page, reasons=REASONS, lease_seconds=self._desk.lease_seconds)

    def _page(self, request: web.Request, template: str, status: int, problem: str = "", **values: Any) -> web.Response:
        undoable = self._desk.undoable(request[VISITOR].person) is not None
        shared = {**self._entrance.context(request), "here": "review", "problem": problem, "undoable": undoable}
        return self._pages.response(template, status, **shared, **values)

    def _alike(self, person: Person, item: EdgeCase) -> list[Answered]:
        return self._answered.nearest(
            question_of(item.messages),
            item.tenant,
            item.task,
            clearance=person.clearance,
            tenants=person.tenants,
            but=item.request_id,
            count=NEIGHBOURS,
        )

    async def _submit(self, request: web.Request) -> web.Response:
        person, form = request[VISITOR].person, await request.post()
        lease, action = str(form.get("lease", "")), str(form.get("action", ""))
        try:
            judgement = self._judgement(form, action)
            if action == SKIP:
                await self._desk.skip(person, lease, judgement.comment)
            else:
                await self._desk.submit(person, lease, judgement)
        except ServiceError as error:
            return _refused(error)
        return web.json_response({"done": action})

    def _judgement(self, form: Any, action: str) -> Judgement:
        answer = str(form.get("answer", "")).replace("\r\n", "\n")
        comment = str(form.get("comment", "")).strip()
        for name, text, most in (("answer", answer, MAX_ANSWER_BYTES), ("comment", comment, MAX_COMMENT_BYTES)):
            if (size := len(text.encode())) > most:
                raise InvalidArgument(f"{name}: must have at most {most:,} bytes, has {size:,}")
        if action not in (CONFIRMED, CORRECTED, UNSAFE, ESCALATED, SKIP):
            raise InvalidArgument(f"action: must be confirmed, corrected, unsafe, escalated or skip, is {action!r}")
        rating = str(form.get("rating", ""))
        if rating and not _RATING.fullmatch(rating):
            raise InvalidArgument(f"rating: must be from 1, useless, to 5, is {rating!r}")
        claimed_at = str(form.get("claimed_at", ""))
        if not _SECONDS.fullmatch(claimed_at):
            raise InvalidArgument(f"claimed_at: must be seconds since the epoch, is {claimed_at!r}")
        spent = self._desk.clock.now().timestamp() - float(claimed_at)
        return Judgement(
            action,
            answer if action == CORRECTED else "",
            comment,
            max(0.0, min(MAX_SECONDS, spent)),
            int(rating) if rating else None,
        )

    async def _extend(self, request: web.Request) -> web.Response:
        form = await request.post()
        try:
            extended = await self._desk.extend(request[VISITOR].person, str(form.get("lease", "")))
        except ServiceError as error:
            return _refused(error)
        left = (extended.expires_at - self._desk.clock.now()).total_seconds()
        return web.json_response({"lease": extended.token, "seconds_left": left})

    async def _release(self, request: web.Request) -> web.Response:
        form = await request.post()
        try:
            await self._desk.release(request[VISITOR].person, str(form.get("lease", "")))
        except ServiceError as error:
            return _refused(error)
        return web.json_response({"done": "released"})


def _refused(error: ServiceError) -> web.Response:
    # The browser keeps the page as it is and shows this, so that nothing that was typed is lost.
    return web.json_response({"problem": sentence(error)}, status=status_of(error))
