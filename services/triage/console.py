"""The experts' console: a small web application over the same use cases as the gRPC service, and pages of numbers.

Pages are rendered here and work without anything from another host. `entrance.py` lets people in.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import PermissionDenied, ServiceError
from services.runtime.http import serving
from services.runtime.tls import Tls
from services.triage import contributions, overview, quality
from services.triage.entrance import VISITOR, Entrance
from services.triage.identity import NOT_LOCAL
from services.triage.items import Items
from services.triage.ports import Record
from services.triage.questions import PATIENCE_SECONDS, SPANS, Recent, Span, cell
from services.triage.rendering import HERE, Pages
from services.triage.settings import Settings

# What a page may be asked for the query of.
QUERIES = {**overview.QUERIES, **quality.QUERIES, **contributions.QUERIES}
MAX_FORM_BYTES = 1024 * 1024
LOOPBACK = "127.0.0.1"


class Console:
    """Serves the console."""

    def __init__(
        self,
        settings: Settings,
        items: Items,
        record: Record,
        entrance: Entrance,
        pages: Pages,
        tls: Tls | None = None,
    ) -> None:
        self._settings = settings
        self._items = items
        self._record = Recent(record, Clock())
        self._entrance = entrance
        self._pages = pages
        self._tls = tls

    @property
    def host(self) -> str:
        """Where it listens: never beyond this machine without accounts."""
        return self._settings.console_host or self._settings.host if self._settings.accounts else LOOPBACK

    @property
    def routes(self) -> list[web.AbstractRouteDef]:
        """Every address that there is."""
        return [
            *self._entrance.routes,
            web.get("/", self._home),
            web.get("/mine", self._mine),
            web.get("/quality", self._quality),
            web.get("/overview", self._overview),
            web.get("/overview/queries/{name}", self._query),
            *self._items.routes(),
            web.static("/static", HERE / "static"),
        ]

    def serving(self) -> AbstractAsyncContextManager[None]:
        """Return what serves it, as `runtime.http.serving`."""
        app = web.Application(middlewares=[self._entrance.guard], client_max_size=MAX_FORM_BYTES)
        app.add_routes(self.routes)
        if not self._settings.accounts:
            telemetry.log().warning(NOT_LOCAL)
        return serving(app, self.host, self._settings.console_port, self._settings.drain_seconds, self._tls)

    # Pages

    async def _home(self, request: web.Request) -> web.Response:
        return self._items.queue(request)

    async def _mine(self, request: web.Request) -> web.Response:
        person = request[VISITOR].person
        return await self._numbers(
            request, "mine", "month", lambda span, now: contributions.contributions(self._record, person, span, now)
        )

    async def _quality(self, request: web.Request) -> web.Response:
        person = request[VISITOR].person
        if not person.decides:
            raise PermissionDenied("how well experts judge is for leads and admins")
        return await self._numbers(
            request, "quality", "month", lambda span, now: quality.quality(self._record, person, span, now)
        )

    async def _overview(self, request: web.Request) -> web.Response:
        self._check_overview(request)
        return await self._numbers(
            request, "overview", "week", lambda span, now: overview.overview(self._record, span, now)
        )

    async def _numbers(
        self, request: web.Request, here: str, usual: str, ask: Callable[[Span, datetime], Awaitable[Any]]
    ) -> web.Response:
        """Return a page of numbers, or one that says that there are none now.

        Args:
            request: Says of which time.
            here: Which page.
            usual: Of which time where the request does not say.
            ask: Finds what is shown.
        """
        span, now = _span(request, usual), datetime.now(UTC)
        shown, problem = None, ""
        try:
            shown = await ask(span, now)
        except (ServiceError, TimeoutError) as error:
            problem = _unread(error)
        return self._pages.response(
            f"{here}.html",
            503 if problem else 200,
            **self._page(request, here, problem),
            span=span,
            since=span.beginnings(now)[0],
            shown=shown,
        )

    async def _query(self, request: web.Request) -> web.Response:
        self._check_overview(request)
        span = _span(request, "week")
        query = QUERIES.get(request.match_info["name"])
        if query is None:
            raise web.HTTPNotFound(text=f"There is no such query; there are {', '.join(QUERIES)}.")
        statement, rows, problem = query.statement(span, datetime.now(UTC)), None, ""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                rows = await self._record.rows(statement)
        except (ServiceError, TimeoutError) as error:
            problem = _unread(error)
        return self._pages.response(
            "query.html",
            503 if problem else 200,
            **self._page(request, "overview", problem),
            query=query,
            span=span,
            statement=statement,
            rows=rows,
            cell=cell,
        )

    def _page(self, request: web.Request, here: str, problem: str) -> dict[str, object]:
        """Return what every page is told."""
        return {**self._entrance.context(request), "here": here, "problem": problem}

    def _check_overview(self, request: web.Request) -> None:
        """Do nothing for who may see the numbers of all tenants together.

        Raises:
            PermissionDenied: They may not.
        """
        if not request[VISITOR].person.may_see_overview:
            raise PermissionDenied("the overview, of all tenants, is for leads and admins of all tenants")


def _span(request: web.Request, usual: str) -> Span:
    name = request.query.get("span", usual)
    if name not in SPANS:
        raise web.HTTPBadRequest(text=f"span: must be one of {', '.join(SPANS)}")
    return SPANS[name]


def _unread(error: Exception) -> str:
    telemetry.log().warning("the record could not be read", error=str(error) or type(error).__name__)
    return "The record (ClickHouse) cannot be read now, so there are no numbers. Reviewing goes on without it."
