"""What serving needs of the world."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from schemas.events import Candidate, Deployment
from services.serving.domain.deployments import Placed


class ModelServer(Protocol):
    """Triton, or something that behaves like it. Every method raises `Retryable` when it does not answer in time."""

    async def loaded(self) -> Mapping[str, frozenset[int]]:
        """Return the versions of each model that are loaded."""
        ...

    async def load(self, model: str) -> None:
        """Load the versions that the model's configuration names, and unload the others.

        Raises:
            Rejected: One of them cannot be loaded. What was loaded before still is.
        """
        ...

    async def unload(self, model: str) -> None:
        """Unload every version of a model."""
        ...

    async def check(self, model: str, version: int) -> None:
        """Ask a version for one token. Raises `Retryable` when none comes: a model may be loaded and answer nothing."""
        ...


class Repository(Protocol):
    """The model folders that a server loads from. Writing the same thing twice is writing it once."""

    def write_generic(self, model: str, weights: str) -> Placed:
        """Write a generic model. Raises `Rejected` when there are no such weights."""
        ...

    def write_specialist(self, model: str, candidate_id: str, adapter_path: str, version: int | None = None) -> Placed:
        """Write a specialist's version: the one given, or the next.

        Raises:
            Rejected: There is no such adapter, or it cannot be used; the candidate is another model's, or the version
                another candidate's.
        """
        ...

    def placed(self) -> Mapping[str, Placed]:
        """Return where each candidate's version is, by candidate id."""
        ...

    def models(self) -> frozenset[str]:
        """Return the names of all models that were written here."""
        ...

    def choose(self, model: str, versions: frozenset[int]) -> None:
        """Say which versions of a model are loaded the next time."""
        ...


class Announcer(Protocol):
    """Where deployments are told."""

    async def deployment(self, deployment: Deployment) -> None:
        """Tell a deployment; on return it is acknowledged."""
        ...


class Exporter(Protocol):
    """Writes what is live as a folder that others can use."""

    def export(self, candidate: Candidate, deployment: Deployment) -> tuple[Path, list[str]]:
        """Write the folder; return its name below the artifacts folder, and its files' names below it.

        Raises:
            Rejected: What it is made from is gone.
        """
        ...
