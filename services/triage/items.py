"""The experts' pages: the queue, and the item that an expert holds."""

import re
from typing import Any, Protocol
from urllib.parse import quote

from aiohttp import web

from schemas.events import Sensitivity
from services.runtime.errors import InvalidArgument, Retryable, ServiceError
from services.triage.desk import Claimed, Desk
from services.triage.domain.labels import CONFIRMED, CORRECTED, UNSAFE, Judgement
from services.triage.domain.signals import question_text
from services.triage.neighbours import Neighbour, Neighbours
from services.triage.pages import NEIGHBOURS, item_page, sentence, status

SKIP = "skip"
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


class Shell(Protocol):
    """What the pages stand in: who is there, and how a page is made."""

    def reader(self, request: web.Request) -> str:
        """Return who reads a page.

        Raises:
            PermissionDenied: Nobody is signed in.
        """

    async def form(self, request: web.Request) -> tuple[str, Any]:
        """Return who posted a form, and the form.

        Raises:
            PermissionDenied: Nobody is signed in, or the form did not come from one of our pages.
        """

    def page(self, expert: str, here: str, problem: str) -> dict[str, str]:
        """Return what every page of who is signed in is told."""

    def render(self, template: str, status: int, **values: Any) -> web.Response:
        """Return a page."""


class Items:
    """Gives items to experts in their browsers, and takes their judgements."""

    def __init__(self, desk: Desk, neighbours: Neighbours, shell: Shell) -> None:
        self._desk = desk
        self._neighbours = neighbours
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """Return what is answered here, beside the queue's page."""
        return [
            web.post("/claim", self._claim),
            web.get("/items/{request_id}", self._item),
            web.post("/submit", self._submit),
            web.post("/extend", self._extend),
            web.post("/release", self._release),
        ]

    def queue(self, expert: str, *, problem: str = "", status: int = 200) -> web.Response:
        """Return the page of the queue."""
        try:
            queues = self._desk.stats()
        except Retryable as error:
            queues, problem = [], problem or sentence(error)
        return self._shell.render(
            "queue.html",
            status,
            **self._shell.page(expert, "review", problem),
            queues=queues,
            open=sum(queue.open for queue in queues),
        )

    async def _claim(self, request: web.Request) -> web.Response:
        expert, _ = await self._shell.form(request)
        try:
            claimed = self._desk.claim(expert)
        except ServiceError as error:
            return self.queue(expert, problem=sentence(error), status=status(error))
        # A page of its own, so that reloading it shows the item again and claims no other.
        return web.Response(status=303, headers={"Location": f"/items/{quote(claimed.item.request_id, safe='')}"})

    async def _item(self, request: web.Request) -> web.Response:
        expert = self._shell.reader(request)
        try:
            claimed = self._desk.held(request.match_info["request_id"], expert)
            bundle = self._desk.bundles.current()
        except ServiceError as error:
            return self.queue(expert, problem=sentence(error), status=status(error))
        page = item_page(claimed, self._alike(claimed), bundle, self._desk.clock.now())
        values = self._shell.page(expert, "review", "")
        return self._shell.render(
            "item.html", 200, **values, page=page, reasons=REASONS, lease_seconds=self._desk.lease_seconds
        )

    def _alike(self, claimed: Claimed) -> list[Neighbour]:
        item = claimed.item
        return self._neighbours.nearest(
            question_text(item.messages),
            item.tenant,
            item.task,
            clearance=Sensitivity.RESTRICTED,
            tenants=None,
            count=NEIGHBOURS,
        )

    async def _submit(self, request: web.Request) -> web.Response:
        _, form = await self._shell.form(request)
        lease, action = str(form.get("lease", "")), str(form.get("action", ""))
        try:
            judgement = self._judgement(form, action)
            if action == SKIP:
                await self._desk.skip(lease, judgement.comment)
            else:
                await self._desk.submit(lease, judgement)
        except ServiceError as error:
            return _refused(error)
        return web.json_response({"done": action})

    def _judgement(self, form: Any, action: str) -> Judgement:
        answer = str(form.get("answer", "")).replace("\r\n", "\n")
        comment = str(form.get("comment", "")).strip()
        for name, text, most in (("answer", answer, MAX_ANSWER_BYTES), ("comment", comment, MAX_COMMENT_BYTES)):
            if (size := len(text.encode())) > most:
                raise InvalidArgument(f"{name}: must have at most {most:,} bytes, has {size:,}")
        if action not in (CONFIRMED, CORRECTED, UNSAFE, SKIP):
            raise InvalidArgument(f"action: must be confirmed, corrected, unsafe or skip, is {action!r}")
        if action == SKIP and not comment:
            raise InvalidArgument("comment: say why you skip it")
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
        _, form = await self._shell.form(request)
        try:
            extended = self._desk.extend(str(form.get("lease", "")))
        except ServiceError as error:
            return _refused(error)
        left = (extended.expires_at - self._desk.clock.now()).total_seconds()
        return web.json_response({"lease": extended.token, "seconds_left": left})

    async def _release(self, request: web.Request) -> web.Response:
        _, form = await self._shell.form(request)
        try:
            self._desk.release(str(form.get("lease", "")))
        except ServiceError as error:
            return _refused(error)
        return web.json_response({"done": "released"})


def _refused(error: ServiceError) -> web.Response:
    # The browser keeps the page as it is and shows this, so that nothing that was typed is lost.
    return web.json_response({"problem": sentence(error)}, status=status(error))
