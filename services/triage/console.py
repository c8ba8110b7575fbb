"""The experts' console: a small web application over the same use cases as the gRPC service, and the overview.

Pages are rendered here and work without anything from another host. A person signs in with a name and the console's
token; a signed cookie holds the name, and a token against cross-site requests is derived from it.
"""

import asyncio
import hashlib
import hmac
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jinja2
import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import Fatal, PermissionDenied, ServiceError
from services.triage.desk import Desk
from services.triage.items import Items
from services.triage.neighbours import Neighbours
from services.triage.overview import PATIENCE_SECONDS, QUERIES, SPANS, Recent, Span, cell, overview
from services.triage.pages import sentence
from services.triage.ports import Record
from services.triage.settings import Settings

HERE = Path(__file__).parent
COOKIE = "gyre_console"
SESSION_SECONDS = 12 * 60 * 60
MAX_FORM_BYTES = 1024 * 1024
LOOPBACK = "127.0.0.1"
# What a browser may load: our own files.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; connect-src 'self'; style-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Console:
    """Serves the console while entered."""

    def __init__(self, settings: Settings, desk: Desk, neighbours: Neighbours, record: Record) -> None:
        self._settings = settings
        self._items = Items(desk, neighbours, self)
        self._record = Recent(record, Clock())
        self._token = settings.console_token.get_secret_value()
        self._key = secrets.token_bytes(32)  # sessions end with the process
        self._pages = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._runner: web.AppRunner | None = None

    @property
    def host(self) -> str:
        """Where it listens: never beyond this machine without a token."""
        return self._settings.console_host or self._settings.host if self._token else LOOPBACK

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            Fatal: The port is taken.
        """
        app = web.Application(middlewares=[self._edge], client_max_size=MAX_FORM_BYTES)
        app.add_routes(
            [
                web.get("/", self._home),
                web.get("/overview", self._overview),
                web.get("/overview/queries/{name}", self._query),
                web.post("/sign-in", self._sign_in),
                web.post("/sign-out", self._sign_out),
                *self._items.routes(),
                web.static("/static", HERE / "static"),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self._settings.console_port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise Fatal(
                f"cannot listen on {self.host}:{self._settings.console_port} (GYRE_TRIAGE_CONSOLE_PORT); "
                "is something else there?"
            ) from error
        if not self._token:
            telemetry.log().warning("no GYRE_TRIAGE_CONSOLE_TOKEN: the console is open to this machine alone")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    # Pages

    async def _home(self, request: web.Request) -> web.Response:
        expert = self._expert(request)
        if expert is None:
            return self._sign_in_page()
        return self._items.queue(expert)

    async def _overview(self, request: web.Request) -> web.Response:
        expert, span, now = self.reader(request), _span(request), datetime.now(UTC)
        shown, problem = None, ""
        try:
            shown = await overview(self._record, span, now)
        except (ServiceError, TimeoutError) as error:
            problem = _unread(error)
        return self.render(
            "flywheel.html",
            503 if problem else 200,
            **self.page(expert, "overview", problem),
            span=span,
            since=span.beginnings(now)[0],
            shown=shown,
        )

    async def _query(self, request: web.Request) -> web.Response:
        expert, span = self.reader(request), _span(request)
        query = QUERIES.get(request.match_info["name"])
        if query is None:
            raise web.HTTPNotFound(text=f"There is no such query; there are {', '.join(QUERIES)}.")
        statement, rows, problem = query.statement(span, datetime.now(UTC)), None, ""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                rows = await self._record.rows(statement)
        except (ServiceError, TimeoutError) as error:
            problem = _unread(error)
        return self.render(
            "query.html",
            503 if problem else 200,
            **self.page(expert, "overview", problem),
            query=query,
            span=span,
            statement=statement,
            rows=rows,
            cell=cell,
        )

    async def _sign_in(self, request: web.Request) -> web.Response:
        form = await request.post()
        name, token = str(form.get("name", "")).strip(), str(form.get("token", ""))
        if not 1 <= len(name) <= 128:
            return self._sign_in_page("Your name must have 1 to 128 characters.", status=400)
        if self._token and not hmac.compare_digest(token.encode(), self._token.encode()):
            return self._sign_in_page("That is not the console's token.", name=name, status=403)
        response = web.Response(status=303, headers={"Location": "/"})
        response.set_cookie(
            COOKIE,
            self._session(name),
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="Strict",
            secure=request.secure,
        )
        return response

    async def _sign_out(self, request: web.Request) -> web.Response:
        await self.form(request)
        response = web.Response(status=303, headers={"Location": "/"})
        response.del_cookie(COOKIE)
        return response

    def _sign_in_page(self, problem: str = "", name: str = "", status: int = 200) -> web.Response:
        return self.render("sign-in.html", status, problem=problem, name=name, needs_token=bool(self._token))

    def page(self, expert: str, here: str, problem: str) -> dict[str, str]:
        """Return what every page of who is signed in is told."""
        return {"expert": expert, "csrf": self._csrf(expert), "here": here, "problem": problem}

    def render(self, template: str, status: int, **values: Any) -> web.Response:
        """Return a page."""
        text = self._pages.get_template(template).render(**values)
        return web.Response(text=text, content_type="text/html", status=status)

    # Who is there

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            response = await handler(request)
        except PermissionDenied as error:
            response = self._sign_in_page(sentence(error), status=403)
        response.headers.update(HEADERS)
        return response

    def reader(self, request: web.Request) -> str:
        """Return who reads a page.

        Raises:
            PermissionDenied: Nobody is signed in.
        """
        expert = self._expert(request)
        if expert is None:
            raise PermissionDenied("sign in to see this page")
        return expert

    async def form(self, request: web.Request) -> tuple[str, Any]:
        """Return who posted a form, and the form.

        Raises:
            PermissionDenied: Nobody is signed in, or the form did not come from one of our pages.
        """
        expert = self._expert(request)
        form = await request.post()
        if expert is None:
            raise PermissionDenied("you are signed out; sign in again")
        if not hmac.compare_digest(str(form.get("csrf", "")).encode(), self._csrf(expert).encode()):
            raise PermissionDenied("this form did not come from the console; sign in again")
        return expert, form

    def _session(self, expert: str) -> str:
        content = msgspec.json.encode([expert, int(time.time()) + SESSION_SECONDS]).hex()
        return f"{content}.{self._mac('session', content)}"

    def _expert(self, request: web.Request) -> str | None:
        content, _, mac = request.cookies.get(COOKIE, "").partition(".")
        if not hmac.compare_digest(mac.encode(errors="replace"), self._mac("session", content).encode()):
            return None
        expert, expires_at = msgspec.json.decode(bytes.fromhex(content), type=tuple[str, int])
        return expert if time.time() < expires_at else None

    def _csrf(self, expert: str) -> str:
        return self._mac("csrf", expert)

    def _mac(self, purpose: str, content: str) -> str:
        return hmac.new(self._key, f"{purpose}:{content}".encode(), hashlib.sha256).hexdigest()


def _span(request: web.Request) -> Span:
    name = request.query.get("span", "week")
    if name not in SPANS:
        raise web.HTTPBadRequest(text=f"span: must be one of {', '.join(SPANS)}")
    return SPANS[name]


def _unread(error: Exception) -> str:
    telemetry.log().warning("the record could not be read", error=str(error) or type(error).__name__)
    return "The record (ClickHouse) cannot be read now, so there are no numbers. Reviewing goes on without it."
