"""The OpenAI-compatible edge: HTTP to the pipeline and back. Every answer names its request in `x-request-id`."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace

from aiohttp import web
from aiohttp.typedefs import Handler
from msgspec import Struct, json

from services.router.domain.errors import InvalidField, KeyReused, Refused
from services.router.domain.request import Request
from services.router.edge import (
    IDEMPOTENCY_KEY,
    REQUEST_ID,
    checked_idempotency_key,
    refuse_idempotency_key,
)
from services.router.handlers import Router
from services.router.idempotency import Idempotency, Kept
from services.router.journal import Call
from services.router.openai import answers, requests
from services.router.openai.document import document
from services.runtime import errors, telemetry, tracing
from services.runtime.authorization import bearer_key
from services.runtime.clock import Clock
from services.runtime.exchange import MAX_MESSAGE_BYTES
from services.runtime.http import serving
from services.runtime.tls import Tls

TASK = "x-gyre-task"
# How long the body of a request may take to come, and a piece of an answer to be taken.
BODY_SECONDS = 30.0
PIECE_SECONDS = 30.0
_CALL = web.RequestKey("call", Call)

# Status, type and code of each error, the first that fits.
_ERRORS: list[tuple[type[Exception], int, str, str]] = [
    (errors.Unauthenticated, 401, "invalid_request_error", "invalid_api_key"),
    (Refused, 403, "permission_error", "content_filter"),
    (errors.PermissionDenied, 403, "permission_error", "permission_denied"),
    (errors.NotFound, 404, "invalid_request_error", "not_found"),
    # Not 409, which clients try again; the same request would meet the same answer.
    (KeyReused, 422, "invalid_request_error", "idempotency_key_reused"),
    (errors.FailedPrecondition, 409, "invalid_request_error", "failed_precondition"),
    (errors.Rejected, 400, "invalid_request_error", "invalid_value"),
    (errors.DeadlineExceeded, 504, "server_error", "deadline_exceeded"),
    (errors.ResourceExhausted, 429, "rate_limit_error", "rate_limit_exceeded"),
    (errors.Retryable, 503, "server_error", "unavailable"),
]


class Http:
    """Serves the router's use cases over HTTP."""

    def __init__(self, router: Router, clock: Clock, idempotency: Idempotency) -> None:
        self._router = router
        self._clock = clock
        self._idempotency = idempotency
        self._openapi = json.encode(document())

    def serving(
        self, host: str, port: int, drain_seconds: float, tls: Tls | None = None
    ) -> AbstractAsyncContextManager[None]:
        """Return what serves them, as `runtime.http.serving`."""
        # Handlers are cancelled when their client goes away: that stops the model.
        return serving(self._application(), host, port, drain_seconds, tls, handler_cancellation=True)

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._edge], client_max_size=MAX_MESSAGE_BYTES)
        application.add_routes(
            [
                web.post("/v1/chat/completions", self._chat),
                web.get("/v1/models", self._models),
                web.post("/v1/feedback", self._feedback),
                web.get("/healthz", self._health),
                web.get("/openapi.json", self._document),
            ]
        )
        return application

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Give the request its id, a span and a time; turn errors into OpenAI's shape."""
        request_id = self._clock.new_id()
        call = Call(request_id=request_id, key="", arrived=self._clock.monotonic(), received_at=self._clock.now())
        request[_CALL] = call
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "none"
        status = "cancelled"
        try:
            with (
                tracing.span(f"{request.method} {route}", request.headers.get("traceparent", "")),
                telemetry.in_flight(route).track_inprogress(),
            ):
                response = await self._answered(request, handler)
            status = str(response.status)
        finally:
            telemetry.HTTP_SECONDS.labels(route, status).observe(self._clock.monotonic() - call.arrived)
        if not response.prepared:
            response.headers.setdefault(REQUEST_ID, request_id)
        return response

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            response = _json(error.status, _failure(error.reason, "invalid_request_error", "http"))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except Exception as error:
            response = _json(*_answer(error))
            if isinstance(error, errors.ResourceExhausted):
                response.headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
            return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        call = _call(request)
        chat = requests.decode(await _body(request), requests.ChatRequest)
        asked = requests.request_of(chat, request.headers.get(TASK, ""))
        created = int(call.received_at.timestamp())
        if not chat.stream:
            choices = requests.choices(asked, chat.n or 1)
            return await self._once(request, call, choices, lambda: self._choices(call, choices, created))
        if IDEMPOTENCY_KEY in request.headers:
            raise refuse_idempotency_key()
        response = web.StreamResponse(
            headers={
                "content-type": "text/event-stream",
                "cache-control": "no-cache",
                REQUEST_ID: call.request_id,
            }
        )
        chunks = answers.Chunks(call.request_id, created, chat.includes_usage)
        try:
            async with aclosing(self._router.stream(call, asked)) as pieces:
                async for piece in pieces:
                    # Begun with the first piece only, so that an error before it has a status of its own.
                    if not response.prepared:
                        await response.prepare(request)
                    await _write(response, chunks.of(piece))
        except ConnectionError:  # the client went away or takes nothing, and the stream was closed with that
            return response
        except Exception as error:
            if not response.prepared:
                raise
            _, failure = _answer(error)
            await response.write(answers.event(failure))
        await response.write_eof()
        return response

    async def _once(
        self, request: web.Request, call: Call, asked: object, answer: Callable[[], Awaitable[Struct]]
    ) -> web.Response:
        """Answer, or answer again as before if the request has an idempotency key that stands for an answer."""

        async def encoded() -> Kept:
            return Kept(call.request_id, json.encode(await answer()))

        key = request.headers.get(IDEMPOTENCY_KEY)
        if key is None:
            kept = await encoded()
        else:
            scope = (self._router.application_of(call.key), f"POST {request.path}", checked_idempotency_key(key))
            kept = await self._idempotency.once(scope, json.encode(asked), encoded)
        return web.Response(body=kept.body, content_type="application/json", headers={REQUEST_ID: kept.request_id})

    async def _choices(self, call: Call, asked: Sequence[Request], created: int) -> answers.ChatCompletion:
        """Answer each choice as an interaction of its own; the call's id is the first's.

        Raises:
            ServiceError: One could not be answered, or all were refused.
        """
        if len(asked) == 1:
            return answers.chat_completion([call.request_id], [await self._router.complete(call, asked[0])], created)
        calls = [call, *(replace(call, request_id=self._clock.new_id()) for _ in asked[1:])]
        ended = await asyncio.gather(*map(self._router.complete, calls, asked), return_exceptions=True)
        failed = [each for each in ended if isinstance(each, BaseException)]
        for error in failed:
            if len(failed) == len(ended) or not isinstance(error, Refused):
                raise error
        return answers.chat_completion([each.request_id for each in calls], ended, created)

    async def _models(self, request: web.Request) -> web.Response:
        return _json(200, answers.models(self._router.model_names(_call(request).key)))

    async def _feedback(self, request: web.Request) -> web.Response:
        call = _call(request)
        feedback = requests.feedback_of(requests.decode(await _body(request), requests.FeedbackRequest))

        async def given() -> answers.FeedbackGiven:
            return answers.FeedbackGiven(await self._router.send_feedback(call, feedback))

        return await self._once(request, call, feedback, given)

    async def _health(self, request: web.Request) -> web.Response:
        self._router.catalogue()  # raises while nothing is known yet
        return _json(200, answers.Health())

    async def _document(self, request: web.Request) -> web.Response:
        return web.Response(body=self._openapi, content_type="application/json")


def _call(request: web.Request) -> Call:
    """Return how the request came in, with the key that it shows; whose it is, the pipeline finds out."""
    return replace(request[_CALL], key=bearer_key(request.headers.get("authorization", "")))


def _answer(error: Exception) -> tuple[int, answers.Failure]:
    for kind, status, name, code in _ERRORS:
        if isinstance(error, kind):
            if isinstance(error, InvalidField):
                field = requests.body_field(error.field)
                return status, _failure(f"{field}: {error.wanted}", name, code, field)
            return status, _failure(str(error), name, code)
    telemetry.log().error("unexpected", exc_info=error)
    return 500, _failure("something unexpected happened here", "server_error", "internal")


def _failure(message: str, kind: str, code: str, field: str | None = None) -> answers.Failure:
    return answers.Failure(answers.Error(message, kind, field, code))


def _json(status: int, value: Struct) -> web.Response:
    return web.Response(status=status, body=json.encode(value), content_type="application/json")


async def _write(response: web.StreamResponse, data: bytes) -> None:
    try:
        async with asyncio.timeout(PIECE_SECONDS):
            await response.write(data)
    except TimeoutError as error:
        raise ConnectionError("the client takes nothing") from error


async def _body(request: web.Request) -> bytes:
    if request.content.is_eof():  # all of it has come
        return await request.read()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise web.HTTPRequestTimeout from error
