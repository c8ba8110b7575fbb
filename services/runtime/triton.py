"""Language models in Triton: one decoupled gRPC stream a request, the same for the CPU and the vLLM backend."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
import msgspec
import numpy as np
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from schemas.prompts import Generated, Prompt
from services.runtime import tracing
from services.runtime.errors import DeadlineExceeded, InvalidArgument, Retryable
from services.runtime.tls import Renewed, Tls

# As tritonclient's own, but that a restarted Triton is found again within seconds and not within two minutes.
CHANNEL_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
]
# The fields that only the caller can have got wrong, as the models name them in their errors.
_CALLERS_FIELDS = ("text_input", "sampling_parameters")


class TritonClients:
    """A client of one Triton server, with the certificate as it is then."""

    def __init__(self, url: str, tls: Tls | None) -> None:
        self._clients = Renewed(
            tls, lambda credentials: InferenceServerClient(url, creds=credentials, channel_args=CHANNEL_OPTIONS)
        )

    def current(self) -> InferenceServerClient:
        """Return the client."""
        return self._clients.current()

    async def close(self) -> None:
        """End the connections."""
        for client in self._clients.made:
            await client.close()


class TritonModels:
    """Asks the models of one Triton server."""

    def __init__(self, url: str, tls: Tls | None = None) -> None:
        self._clients = TritonClients(url, tls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._clients.close()

    async def generate(self, prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        """Yield the answer piece by piece, then how it ended. Closing the generator stops the generation.

        Args:
            prompt: What is asked, and of whom.
            timeout_seconds: For the whole answer.

        Raises:
            InvalidArgument: The model refuses the messages or the sampling.
            Retryable: It does not answer.
        """
        inference = {
            "model_name": prompt.model,
            "model_version": prompt.version,
            "inputs": [
                _text("text_input", msgspec.json.encode(prompt.messages)),
                _flag("stream", True),
                _text("sampling_parameters", msgspec.json.encode(prompt.sampling)),
                _flag("exclude_input_in_output", True),
            ],
        }
        responses = self._clients.current().stream_infer(
            _once(inference), stream_timeout=timeout_seconds, headers=tracing.headers()
        )
        generated, refusal = None, None
        try:
            async for result, error in responses:
                if error is not None:
                    refusal = error
                    continue
                text = _output(result, "text_output")
                if text:
                    yield text
                usage = _output(result, "usage")
                if usage:
                    generated = _generated(prompt.model, usage, result.get_response().model_version)
            # Only now: of a stream that is cancelled between its last response and its end, Triton 2.51 counts the
            # request as under way for ever, and keeps the model in memory when it is unloaded.
            if refusal is not None:
                raise refusal
            if generated is not None:
                yield generated
        except grpc.aio.AioRpcError as error:
            kind = DeadlineExceeded if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED else Retryable
            raise kind(f"model {prompt.model!r} did not answer: {error.details()}") from error
        except InferenceServerException as error:
            raise _model_error(prompt.model, error) from error
        finally:
            responses.cancel()

    async def answer(self, prompt: Prompt, timeout_seconds: float) -> tuple[str, Generated]:
        """Return the whole answer and how it ended; arguments and errors as for `generate`."""
        return await whole_answer(self.generate(prompt, timeout_seconds))


async def whole_answer(pieces: AsyncGenerator[str | Generated, None]) -> tuple[str, Generated]:
    """Return an answer that comes in pieces, and how it ended.

    Raises:
        Retryable: It broke off.
    """
    text = ""
    async with aclosing(pieces):
        async for piece in pieces:
            if isinstance(piece, Generated):
                return text, piece
            text += piece
    raise Retryable("the model ended without saying how")


async def _once(inference: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    yield inference


def _text(name: str, value: bytes) -> InferInput:
    tensor = InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=np.object_))
    return tensor


def _flag(name: str, value: bool) -> InferInput:
    tensor = InferInput(name, [1], "BOOL")
    tensor.set_data_from_numpy(np.array([value], dtype=np.bool_))
    return tensor


def _output(result: Any, name: str) -> str:
    values = result.as_numpy(name)
    return values[0].decode() if values is not None and len(values) else ""


def _generated(model: str, usage: str, model_version: str) -> Generated:
    try:
        return msgspec.convert({**msgspec.json.decode(usage), "model_version": model_version}, Generated)
    except (msgspec.MsgspecError, TypeError) as error:
        raise Retryable(f"model {model!r} did not say what its answer took: {error}") from error


def _model_error(model: str, error: InferenceServerException) -> Exception:
    message = str(error.message())
    if any(field in message for field in _CALLERS_FIELDS):
        return InvalidArgument(f"messages: model {model!r} refuses them: {message}")
    return Retryable(f"model {model!r} did not answer: {message}")
