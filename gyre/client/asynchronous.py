"""The client for asyncio. Its methods do what those of `gyre.client.blocking` do, and say so there."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc.aio

from gyre.api.router.v1 import router_pb2, router_pb2_grpc
from gyre.client.answers import AsyncAnswer, Explanation, answer_fields, explanation_of
from gyre.client.connection import (
    IDEMPOTENCY_KEY,
    OPTIONS,
    RETRIES,
    Attempts,
    Metadata,
    Retries,
    Tls,
    authorization_of,
    target_of,
)
from gyre.client.errors import error_of
from gyre.client.requests import Message, Said, Wanted, feedback_value, request_value


class AsyncClient:
    """Asks the router. It belongs to the event loop that it was made in; closing it ends what is under way."""

    def __init__(
        self,
        target: str | None = None,
        key: str | None = None,
        *,
        tls: Tls | None = None,
        timeout_seconds: float = 60.0,
        retries: Retries = RETRIES,
    ) -> None:
        """Make ready; it connects with the first call.

        Args:
            target: The router's gRPC address, host:port; else `GYRE_TARGET`, else this machine.
            key: The application's key; else `GYRE_API_KEY`.
            tls: How the router is believed; None talks in the clear, for a router on this machine or behind a proxy.
            timeout_seconds: For each request, retries counted in, unless the call says otherwise.
            retries: How often what is away is asked again.

        Raises:
            ValueError: There is no key.
        """
        self._authorization = authorization_of(key)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        to = target_of(target)
        self._channel = (
            grpc.aio.secure_channel(to, tls.credentials(), OPTIONS) if tls else grpc.aio.insecure_channel(to, OPTIONS)
        )
        self._stub = router_pb2_grpc.RouterStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection."""
        await self._channel.close()

    async def complete(
        self,
        messages: str | Sequence[Message],
        *,
        timeout_seconds: float | None = None,
        idempotency_key: str | None = None,
        **wanted: Unpack[Wanted],
    ) -> AsyncAnswer:
        """Return the answer to a request, once it is on record.

        Args:
            messages: The turns; a text stands for one of the user's.
            timeout_seconds: The request's deadline, retries counted in.
            idempotency_key: By which the router knows that the same is asked again; without, each call has its own.
            **wanted: See `Wanted`.

        Raises:
            GyreError: There is none.
            ValueError: A value is not of the kind that its field takes.
        """
        request, attempts = request_value(messages, wanted), self._attempts(timeout_seconds)
        response = await self._call(self._stub.Complete, request, attempts, self._once(idempotency_key))
        return AsyncAnswer(**answer_fields(response), _feedback=self.feedback)

    def stream(
        self, messages: str | Sequence[Message], *, timeout_seconds: float | None = None, **wanted: Unpack[Wanted]
    ) -> "AsyncStream":
        """Return a stream of the answer's text; arguments as for `complete`.

        It is asked for when the reading begins. Until its first piece has come, it is tried again like any request.

        Raises:
            ValueError: A value is not of the kind that its field takes.
        """
        request = router_pb2.CompleteStreamRequest(request=request_value(messages, wanted))

        def ask(timeout_seconds: float) -> Any:
            return self._stub.CompleteStream(request, metadata=self._authorization, timeout=timeout_seconds)

        return AsyncStream(ask, lambda: self._attempts(timeout_seconds), self.feedback)

    async def feedback(self, request_id: str, *, timeout_seconds: float | None = None, **said: Unpack[Said]) -> str:
        """Say how good an earlier answer was. Returns the feedback's id.

        Raises:
            ValueError: Not exactly one of rating, edit, correct_answer and outcome is said.
            GyreError: It is not on record.
        """
        request, attempts = feedback_value(request_id, said), self._attempts(timeout_seconds)
        response: router_pb2.SendFeedbackResponse = await self._call(
            self._stub.SendFeedback, request, attempts, self._once(None)
        )
        return response.feedback_id

    async def explain(
        self, messages: str | Sequence[Message], *, timeout_seconds: float | None = None, **wanted: Unpack[Wanted]
    ) -> Explanation:
        """Return what would be decided about a request; no model is asked. Arguments and errors as for `complete`."""
        request = router_pb2.ExplainRequest(request=request_value(messages, wanted))
        return explanation_of(
            await self._call(self._stub.Explain, request, self._attempts(timeout_seconds), self._authorization)
        )

    def _once(self, key: str | None) -> Metadata:
        return (*self._authorization, (IDEMPOTENCY_KEY, key or str(uuid.uuid4())))

    def _attempts(self, timeout_seconds: float | None) -> Attempts:
        return Attempts(self._retries, self._timeout_seconds if timeout_seconds is None else timeout_seconds)

    async def _call(self, method: Any, request: Any, attempts: Attempts, metadata: Metadata) -> Any:
        while True:
            try:
                return await method(request, metadata=metadata, timeout=attempts.left_seconds())
            except grpc.aio.AioRpcError as error:
                failed = error_of(error)
                pause_seconds = attempts.pause_seconds(failed)
                if pause_seconds is None:
                    raise failed from error
            await asyncio.sleep(pause_seconds)


class AsyncStream:
    """An answer that is being written: iterating gives its text piece by piece; in the end it has the whole `answer`.

    Closing it, or leaving its block, stops the model.
    """

    def __init__(
        self, ask: Callable[[float], Any], attempts: Callable[[], Attempts], feedback: Callable[..., Awaitable[str]]
    ) -> None:
        self._ask = ask
        self._attempts = attempts
        self._feedback = feedback
        self._answer: AsyncAnswer | None = None
        self._texts = self._read()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts

    @property
    def answer(self) -> AsyncAnswer:
        """The whole answer.

        Raises:
            RuntimeError: The stream has not been read to its end.
        """
        if self._answer is None:
            raise RuntimeError("the stream has not been read to its end")
        return self._answer

    async def close(self) -> None:
        """Stop the model, if it still writes."""
        await self._texts.aclose()

    async def _read(self) -> AsyncGenerator[str, None]:
        attempts = self._attempts()
        while True:
            call, has_begun = self._ask(attempts.left_seconds()), False
            try:
                async for message in call:
                    has_begun = True
                    if message.text_delta:
                        yield message.text_delta
                    if message.HasField("final"):
                        self._answer = AsyncAnswer(**answer_fields(message.final), _feedback=self._feedback)
                return
            except grpc.aio.AioRpcError as error:
                failed = error_of(error)
                pause_seconds = None if has_begun else attempts.pause_seconds(failed)
                if pause_seconds is None:
                    raise failed from error
            finally:
                call.cancel()
            await asyncio.sleep(pause_seconds)
