"""What the router needs of others. Every method raises the runtime's errors: `Retryable` for away or too late."""

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from schemas.events import Feedback, Interaction, Sensitivity, Shadow, Usage
from schemas.prompts import Generated, Prompt
from services.router.domain.answers import Asked
from services.router.domain.knowledge import InputVerdict, Knowledge, OutputVerdict


class Governance(Protocol):
    """Verdicts on text."""

    async def check_input(
        self, application: str, task: str, texts: Sequence[str], instructions: Sequence[int], timeout_seconds: float
    ) -> InputVerdict:
        """Return the verdict on a request's texts, with as many texts as were asked about.

        Args:
            application: Who asks.
            task: What for.
            texts: All that a model would see.
            instructions: Which of them the application itself tells the model, by position.
            timeout_seconds: How long the answer is worth waiting for.
        """
        ...

    async def check_output(
        self, application: str, task: str, text: str, asked: Asked, timeout_seconds: float
    ) -> OutputVerdict:
        """Return the verdict on an answer or a part of it, given what was asked for."""
        ...


class Context(Protocol):
    """What is known for a request."""

    async def stitch(
        self,
        tenant: str,
        task: str,
        query: str,
        conversation_id: str,
        budget_tokens: int,
        max_sensitivity: Sensitivity,
        timeout_seconds: float,
    ) -> Knowledge:
        """Return passages and earlier turns within the budget, none above a sensitivity."""
        ...


class Models(Protocol):
    """Models that answer."""

    def generate(self, prompt: Prompt, timeout_seconds: float) -> AsyncGenerator[str | Generated, None]:
        """Yield the answer piece by piece, then how it ended. Closing the generator stops the generation."""
        ...


class Recorder(Protocol):
    """The record."""

    async def interaction(self, interaction: Interaction) -> None:
        """Write an interaction; on return it is acknowledged."""
        ...

    async def feedback(self, feedback: Feedback) -> None:
        """Write feedback; on return it is acknowledged."""
        ...

    async def shadow(self, shadow: Shadow) -> None:
        """Write what a specialist in the shadow answered; on return it is acknowledged."""
        ...

    async def usage(self, usage: Usage) -> None:
        """Write what an application has used; on return it is acknowledged."""
        ...
