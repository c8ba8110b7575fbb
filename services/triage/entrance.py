"""The console's entrance: signing in and out, and the guard before every other page.

Who has signed in has a signed cookie. Whatever changes something comes as a form that holds a token against requests
from other sites.
"""

import math
import time
from functools import partial

from aiohttp import web
from aiohttp.typedefs import Handler

from services.runtime.errors import PermissionDenied, ResourceExhausted, ServiceError, Unauthenticated
from services.triage.domain.access import is_this_machine
from services.triage.domain.sessions import Session
from services.triage.identity import NOT_LOCAL, Identity, Visitor
from services.triage.oidc import KEPT_SECONDS, Provider
from services.triage.rendering import HEADERS, Pages, sentence, status_of
from services.triage.settings import Settings

VISITOR = web.RequestKey("visitor", Visitor)
OIDC_PATH = "/sign-in/oidc"
CALLBACK_PATH = f"{OIDC_PATH}/callback"
SIGNED_OUT = "you are signed out; copy what you have typed, then sign in again"
# What anybody may ask for.
_PUBLIC = {"/static", "/sign-in", OIDC_PATH, CALLBACK_PATH}


class Entrance:
    """Lets people in, and knows them afterwards."""

    def __init__(self, settings: Settings, identity: Identity, pages: Pages, provider: Provider | None) -> None:
        self._settings = settings
        self._identity = identity
        self._pages = pages
        self._provider = provider

    @property
    def routes(self) -> list[web.RouteDef]:
        """Where people sign in and out."""
        return [
            web.post("/sign-in", self._sign_in),
            web.post("/sign-out", self._sign_out),
            web.get(OIDC_PATH, self._to_provider),
            web.get(CALLBACK_PATH, self._from_provider),
        ]

    @web.middleware
    async def guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Find out who asks, turn away who may not, and answer errors with a page, or with JSON who wants none."""
        visitor = None
        try:
            self._check_site(request)
            if not _is_public(request):
                visitor = self._identity.visitor(request.cookies.get(self._cookie_name(request), ""))
                if visitor is None:
                    raise Unauthenticated(SIGNED_OUT if request.method == "POST" else "sign in to go on")
                request[VISITOR] = visitor
                if request.method == "POST":
                    await self._check_form(request, visitor)
            response = await handler(request)
        except web.HTTPException as error:
            error.headers.update(HEADERS)
            raise
        except ServiceError as error:
            response = self._refusal(request, visitor, error)
        name = self._cookie_name(request)
        if visitor is not None and name not in response.cookies and (cookie := self._identity.renewed(visitor)):
            self._keep(request, response, cookie)
        response.headers.update(HEADERS)
        return response

    def context(self, request: web.Request) -> dict[str, object]:
        """Return what every page of who has signed in is told."""
        visitor = request[VISITOR]
        return {
            "person": visitor.person,
            "csrf": self._identity.form_token(visitor),
            "is_open": self._identity.is_open,
        }

    def page(self, problem: str = "", name: str = "", status: int = 200) -> web.Response:
        """Return the page on which people sign in."""
        return self._pages.response(
            "sign-in.html",
            status,
            problem=problem,
            name=name,
            has_passwords=self._identity.has_passwords,
            oidc=OIDC_PATH if self._provider is not None else "",
        )

    # Signing in and out

    async def _sign_in(self, request: web.Request) -> web.Response:
        if self._identity.is_open:
            return _home()
        form = await request.post()
        name, password = str(form.get("name", "")).strip(), str(form.get("password", ""))
        try:
            session = await self._identity.sign_in(name, password, self._address(request))
        except ServiceError as error:
            return _with_wait(self.page(sentence(error), name, status_of(error)), error)
        return self._signed_in(request, _home(), session)

    async def _sign_out(self, request: web.Request) -> web.Response:
        self._identity.sign_out(request[VISITOR])
        response = _home()
        response.del_cookie(self._cookie_name(request), secure=self._is_secure(request), httponly=True)
        return response

    async def _to_provider(self, request: web.Request) -> web.Response:
        if self._provider is None:
            raise web.HTTPNotFound
        url, kept = await self._provider.start(time.time())
        response = web.Response(status=303, headers={"Location": url})
        # Lax, because the provider's page leads back here.
        response.set_cookie(
            self._oidc_cookie_name(request),
            kept,
            max_age=KEPT_SECONDS,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self._is_secure(request),
        )
        return response

    async def _from_provider(self, request: web.Request) -> web.Response:
        if self._provider is None:
            raise web.HTTPNotFound
        name = self._oidc_cookie_name(request)
        find = partial(
            self._provider.finish,
            request.cookies.get(name, ""),
            request.query.get("state", ""),
            request.query.get("code", ""),
            time.time(),
        )
        try:
            session = await self._identity.sign_in_as(find, self._address(request))
        except ServiceError as error:
            response = _with_wait(self.page(sentence(error), status=status_of(error)), error)
        else:
            # Not a redirect: browsers show a Strict cookie to no request that another site has led to.
            response = self._signed_in(request, self._pages.response("signed-in.html", 200), session)
        response.del_cookie(name, secure=self._is_secure(request), httponly=True)
        return response

    def _signed_in(self, request: web.Request, response: web.Response, session: Session) -> web.Response:
        self._keep(request, response, self._identity.cookie(session))
        return response

    def _keep(self, request: web.Request, response: web.StreamResponse, cookie: str) -> None:
        response.set_cookie(
            self._cookie_name(request),
            cookie,
            max_age=int(self._settings.session_hours * 3600),
            path="/",
            httponly=True,
            samesite="Strict",
            secure=self._is_secure(request),
        )

    # Turning away

    def _check_site(self, request: web.Request) -> None:
        """Turn away what another site makes a browser ask.

        Raises:
            PermissionDenied: It is that.
        """
        # Without accounts whoever reaches this machine is let in; a name that leads here must not be enough.
        if self._identity.is_open and not is_this_machine(request.url.host or ""):
            raise PermissionDenied(NOT_LOCAL)
        if request.method == "POST" and request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
            raise PermissionDenied("this form did not come from the console")

    async def _check_form(self, request: web.Request, visitor: Visitor) -> None:
        """Turn away a form that is not from a page of this session.

        Raises:
            PermissionDenied: It is not.
        """
        form = await request.post()
        if not self._identity.is_form_token(str(form.get("csrf", "")), visitor):
            raise PermissionDenied("this form did not come from the console; load the page again")

    def _refusal(self, request: web.Request, visitor: Visitor | None, error: ServiceError) -> web.StreamResponse:
        if "text/html" not in request.headers.get("Accept", ""):
            response = web.json_response({"problem": sentence(error)}, status=status_of(error))
        elif visitor is not None:
            values = self.context(request)
            response = self._pages.response(
                "problem.html", status_of(error), **values, here="", problem=sentence(error)
            )
        elif isinstance(error, Unauthenticated) and request.path == "/":
            response = self.page()
        else:
            response = self.page(sentence(error), status=status_of(error))
        return _with_wait(response, error)

    # Who and where

    def _address(self, request: web.Request) -> str:
        proxies = self._settings.console_proxies
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", [])).split(",")
        # The last are those that our own proxies have added; whatever stands before, anybody can claim.
        return (forwarded[-proxies].strip() if 0 < proxies <= len(forwarded) else request.remote or "")[:64]

    def _is_secure(self, request: web.Request) -> bool:
        return request.secure or self._settings.console_url.startswith("https:")

    def _cookie_name(self, request: web.Request) -> str:
        return "__Host-gyre_console" if self._is_secure(request) else "gyre_console"

    def _oidc_cookie_name(self, request: web.Request) -> str:
        return f"{self._cookie_name(request)}_oidc"


def _is_public(request: web.Request) -> bool:
    resource = request.match_info.route.resource
    return resource is not None and resource.canonical in _PUBLIC


def _home() -> web.Response:
    return web.Response(status=303, headers={"Location": "/"})


def _with_wait(response: web.Response, error: ServiceError) -> web.Response:
    if isinstance(error, ResourceExhausted):
        response.headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    return response
