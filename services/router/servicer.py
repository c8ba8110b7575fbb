"""The gRPC edge: protobuf to the pipeline and back."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, TypeVar

import grpc.aio
from google.protobuf.message import Message
from msgspec import json

from gyre.api.router.v1 import router_pb2, router_pb2_grpc
from gyre.api.types.v1 import types_pb2
from schemas.events import Tool
from services.router.domain.request import Feedback, Request, Sampling
from services.router.edge import (
    IDEMPOTENCY_KEY,
    REQUEST_ID,
    checked_idempotency_key,
    refuse_idempotency_key,
)
from services.router.handlers import Explanation, Router
from services.router.idempotency import Idempotency, Kept
from services.router.journal import Call, Completion, Piece
from services.runtime.authorization import bearer_key, metadata
from services.runtime.clock import Clock
from services.runtime.errors import Unauthenticated
from services.runtime.wire import message_of, message_value, sensitivity_value

M = TypeVar("M", bound=Message)
ServicerContext = grpc.aio.ServicerContext[Any, Any]


class RouterServicer(router_pb2_grpc.RouterServicer):
    """Answers applications over gRPC.

    The request's id is in the initial metadata of every answer, errors too, but for a message that breaks its proto's
    rules: that is turned away before it gets one.
    """

    def __init__(self, router: Router, clock: Clock, idempotency: Idempotency) -> None:
        self._router = router
        self._clock = clock
        self._idempotency = idempotency

    async def Complete(  # noqa: N802 - named by the proto
        self, request: router_pb2.CompleteRequest, context: ServicerContext
    ) -> router_pb2.CompleteResponse:
        """Answer once the record is acknowledged."""
        asked = _request(request)

        async def answer(call: Call) -> router_pb2.CompleteResponse:
            return _completion(await self._router.complete(call, asked))

        return await self._once(context, router_pb2.CompleteResponse, asked, answer)

    async def CompleteStream(  # noqa: N802 - named by the proto
        self, request: router_pb2.CompleteStreamRequest, context: ServicerContext
    ) -> AsyncGenerator[router_pb2.CompleteStreamResponse, None]:
        """Answer piece by piece; the last message carries `final`."""
        call = await self._call(context)
        if metadata(context, IDEMPOTENCY_KEY) is not None:
            raise refuse_idempotency_key()
        async with aclosing(self._router.stream(call, _request(request.request))) as pieces:
            async for piece in pieces:
                if isinstance(piece, Piece):
                    yield router_pb2.CompleteStreamResponse(request_id=call.request_id, text_delta=piece.text)
                else:
                    yield router_pb2.CompleteStreamResponse(request_id=call.request_id, final=_completion(piece))

    async def SendFeedback(  # noqa: N802 - named by the proto
        self, request: router_pb2.SendFeedbackRequest, context: ServicerContext
    ) -> router_pb2.SendFeedbackResponse:
        """Record what an application says of an earlier answer."""
        feedback = _feedback(request)

        async def answer(call: Call) -> router_pb2.SendFeedbackResponse:
            return router_pb2.SendFeedbackResponse(feedback_id=await self._router.send_feedback(call, feedback))

        return await self._once(context, router_pb2.SendFeedbackResponse, feedback, answer)

    async def Explain(  # noqa: N802 - named by the proto
        self, request: router_pb2.ExplainRequest, context: ServicerContext
    ) -> router_pb2.ExplainResponse:
        """Tell what would be decided about a request."""
        call = await self._call(context)
        return _explanation(await self._router.explain(call, _request(request.request)))

    async def _once(
        self,
        context: ServicerContext,
        kind: type[M],
        asked: Request | Feedback,
        answer: Callable[[Call], Awaitable[M]],
    ) -> M:
        """Answer, or answer again as before if the call has an idempotency key that stands for an answer."""
        key = metadata(context, IDEMPOTENCY_KEY)
        if key is None:
            return await answer(await self._call(context))
        call, named = self._arrived(context), False

        async def name(request_id: str) -> None:
            nonlocal named
            if not named:
                named = True
                await _name(context, request_id)

        async def encoded() -> Kept:
            await name(call.request_id)
            return Kept(call.request_id, (await answer(call)).SerializeToString())

        try:
            call = replace(call, key=_key(context))
            scope = (self._router.application_of(call.key), kind.DESCRIPTOR.full_name, checked_idempotency_key(key))
            kept = await self._idempotency.once(scope, json.encode(asked), encoded)
        except Exception:
            await name(call.request_id)
            raise
        await name(kept.request_id)
        return kind.FromString(kept.body)

    async def _call(self, context: ServicerContext) -> Call:
        call = self._arrived(context)
        await _name(context, call.request_id)
        return replace(call, key=_key(context))

    def _arrived(self, context: ServicerContext) -> Call:
        """Return how a call came in, as yet without its key."""
        return Call(
            request_id=self._clock.new_id(),
            key="",
            arrived=self._clock.monotonic(),
            received_at=self._clock.now(),
            deadline_seconds=context.time_remaining(),
        )


async def _name(context: ServicerContext, request_id: str) -> None:
    # Trailing metadata would be replaced by an error's details.
    await context.send_initial_metadata(((REQUEST_ID, request_id),))


def _key(context: ServicerContext) -> str:
    authorization = metadata(context, "authorization")
    if authorization is None:
        raise Unauthenticated("no application key was shown; wanted the metadata `authorization: Bearer <key>`")
    return bearer_key(authorization)


def _request(request: router_pb2.CompleteRequest) -> Request:
    sampling = request.sampling
    return Request(
        messages=tuple(message_of(message) for message in request.messages),
        task=request.task,
        model=request.model,
        tools=tuple(
            Tool(name=tool.name, description=tool.description, parameters=tool.parameters_json)
            for tool in request.tools
        ),
        sampling=Sampling(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            stop=tuple(sampling.stop),
            seed=sampling.seed if sampling.HasField("seed") else None,
            top_p=sampling.top_p if sampling.HasField("top_p") else 1.0,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            response_schema=sampling.response_schema_json,
        ),
        conversation_id=request.conversation_id,
        user=request.user,
    )


def _completion(completion: Completion) -> router_pb2.CompleteResponse:
    return router_pb2.CompleteResponse(
        request_id=completion.request_id,
        message=message_value(completion.message),
        finish_reason=completion.finish_reason,
        model=completion.model,
        model_version=completion.model_version,
        tier=completion.tier,
        usage=router_pb2.Usage(prompt_tokens=completion.prompt_tokens, completion_tokens=completion.completion_tokens),
        bundle_version=completion.bundle_version,
        sensitivity=sensitivity_value(completion.sensitivity),
        document_ids=completion.document_ids,
        context_available=completion.context_available,
    )


def _feedback(request: router_pb2.SendFeedbackRequest) -> Feedback:
    kind = request.WhichOneof("feedback")
    assert kind is not None  # its rule says required
    request_id = request.request_id.lower()  # as the record has it
    return Feedback.of(request_id, kind, getattr(request, kind), request.comment, request.user)


def _explanation(explanation: Explanation) -> router_pb2.ExplainResponse:
    journal = explanation.journal
    decision, verdict = journal.decision, journal.verdict
    assert verdict is not None  # without one there is an error in its place
    return router_pb2.ExplainResponse(
        bundle_version=journal.bundle_version,
        task=journal.task_name,
        task_by=journal.task_by,
        language=journal.language,
        verdict=verdict.verdict,
        findings=[
            types_pb2.Finding(
                kind=finding.kind,
                action=finding.action,
                text_index=finding.text_index,
                start=finding.start,
                end=finding.end,
            )
            for finding in verdict.findings
        ],
        sensitivity=sensitivity_value(journal.sensitivity),
        candidates=[
            router_pb2.RouteCandidate(
                model=candidate.model,
                model_version=candidate.model_version,
                tier=candidate.tier,
                cleared=candidate.cleared,
                live=candidate.live,
                chosen=candidate.chosen,
                reason=candidate.reason,
                chance=estimate.chance,
                price=estimate.price,
                seconds=estimate.seconds,
            )
            for candidate, estimate in (zip(decision.candidates, decision.estimates, strict=True) if decision else ())
        ],
        policies=decision.policies if decision else (),
        document_ids=[passage.document_id for passage in decision.knowledge.passages] if decision else (),
        context_available=journal.context_available,
        refusal=explanation.refusal,
    )
