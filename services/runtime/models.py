"""Language models, wherever they run."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from schemas.prompts import Generated, Prompt
from services.runtime.openai import OpenAIModels
from services.runtime.settings import UpstreamSettings
from services.runtime.tls import Tls
from services.runtime.triton import TritonModels, whole_answer


class ModelServers:
    """Asks Triton or an OpenAI-compatible server, as the prompt says."""

    def __init__(self, settings: UpstreamSettings, tls: Tls | None = None) -> None:
        self._triton = TritonModels(settings.triton_url, tls)
        self._openai = OpenAIModels(settings.upstream_keys)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._triton)
        await self._stack.enter_async_context(self._openai)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def generate(self, prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        """Yield the answer piece by piece, then how it ended. Closing the generator stops the generation.

        Args:
            prompt: What is asked, and of whom.
            timeout_seconds: For the whole answer.

        Raises:
            InvalidArgument: The model refuses the messages or the sampling.
            Retryable: It does not answer.
        """
        servers = self._triton if prompt.url is None else self._openai
        return servers.generate(prompt, timeout_seconds)

    async def answer(self, prompt: Prompt, timeout_seconds: float) -> tuple[str, Generated]:
        """Return the whole answer and how it ended; arguments and errors as for `generate`."""
        return await whole_answer(self.generate(prompt, timeout_seconds))
