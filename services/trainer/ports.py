"""What the trainer needs of the world."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.events import Candidate
from schemas.prompts import Generated, Prompt


@dataclass(frozen=True)
class Progress:
    """How far a training process is.

    Attributes:
        step: Steps done.
        steps: Steps to do; 0 until that is known.
        loss: Of the last step, per completion token.
        tokens_per_second: Of training.
        seconds_left: Estimated.
    """

    step: int = 0
    steps: int = 0
    loss: float = 0.0
    tokens_per_second: float = 0.0
    seconds_left: float = 0.0


class Learner(Protocol):
    """Something that turns a run folder with a `run.json` into an adapter."""

    def learn(self, run_dir: Path) -> AsyncGenerator[Progress, None]:
        """Train, and yield how far it is; closing the generator cancels the training.

        Raises:
            Rejected: It ended without an adapter; the message says why.
        """
        ...


class Trial(Protocol):
    """Serving, as far as the gate needs it."""

    async def deploy(self, tenant: str, task: str, candidate_id: str, adapter_path: str) -> tuple[str, str]:
        """Load a candidate for trial; return its model and version in Triton. Raises `Retryable`, `Rejected`."""
        ...


class Models(Protocol):
    """The models that serving keeps in Triton."""

    async def answer(self, prompt: Prompt, timeout_seconds: float) -> tuple[str, Generated]:
        """Return the whole answer, and what it took. Raises `Retryable`, `InvalidArgument`."""
        ...


class Announcer(Protocol):
    """Where candidates are told."""

    async def candidate(self, candidate: Candidate) -> None:
        """Tell a candidate; on return it is acknowledged."""
        ...
