"""Serving's ports made real: Triton by gRPC, its repository as folders, deployments by Kafka; exports have a module."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safetensors import SafetensorError
from tritonclient.utils import InferenceServerException

from schemas.events import Deployment
from schemas.prompts import Prompt
from schemas.topics import Topic
from services.runtime.errors import InvalidArgument, Rejected, Retryable
from services.runtime.kafka import Producer
from services.runtime.tls import Tls
from services.runtime.triton import TritonClients, TritonModels
from services.serving import gguf
from services.serving.domain.deployments import Placed
from services.serving.llama_backend import choose_versions, model_versions, version_settings, write_model_version

BASE = "base"
BASE_GGUF = "base.Q8_0.gguf"


class TritonServer:
    """Triton's model control, and its models asked as anyone would ask them."""

    def __init__(self, url: str, load_seconds: float, parallel: int, tls: Tls | None = None) -> None:
        self._clients = TritonClients(url, tls)
        self._models = TritonModels(url, tls)
        self._load_seconds = load_seconds
        self._parallel = parallel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._models.__aexit__(kind, error, trace)
        await self._clients.close()

    async def loaded(self) -> Mapping[str, frozenset[int]]:
        """Return the versions of each model that are ready."""
        try:
            index = await self._clients.current().get_model_repository_index(client_timeout=self._load_seconds)
        except InferenceServerException as error:
            raise Retryable(f"Triton does not answer: {error.message()}") from error
        found: dict[str, set[int]] = {}
        for model in index.models:
            if model.state == "READY":
                found.setdefault(model.name, set()).add(int(model.version))
        return {name: frozenset(versions) for name, versions in found.items()}

    async def load(self, model: str) -> None:
        """Load a model. A stub that cannot start would make Triton wait for ever, so the time is limited.

        Triton loads all the versions that config.pbtxt names or, where one fails, keeps what it had.
        """
        await self._control(self._clients.current().load_model, model)

    async def unload(self, model: str) -> None:
        """Unload a model."""
        await self._control(self._clients.current().unload_model, model)

    async def _control(self, call: Any, model: str) -> None:
        try:
            await call(model, client_timeout=self._load_seconds)
        except InferenceServerException as error:
            reason = f"Triton, model {model!r}: {str(error.message()).strip().splitlines()[0]}"
            # The status with which Triton reports a model.py that raised.
            if error.status() == "StatusCode.INVALID_ARGUMENT":
                raise Rejected(reason) from error
            raise Retryable(reason) from error

    async def check(self, model: str, version: int) -> None:
        """Ask a version for one token, at once as often as it has processes: one of them may be dead."""
        question = Prompt(model, str(version), [{"role": "user", "content": "ping"}], {"max_tokens": 1})
        try:
            await asyncio.gather(*(self._models.answer(question, self._load_seconds) for _ in range(self._parallel)))
        except InvalidArgument as error:
            raise Retryable(str(error)) from error


class FolderRepository:
    """Triton's model repository as folders, for llama.cpp on CPU."""

    def __init__(
        self, repository: Path, models_dir: Path, artifacts_dir: Path, parallel: int, context_tokens: int
    ) -> None:
        self._repository = repository
        self._models_dir = models_dir
        self._artifacts_dir = artifacts_dir
        self._how: dict[str, Any] = {"parallel": parallel, "context_tokens": context_tokens}

    def write_generic(self, model: str, weights: str) -> Placed:
        """Write a generic model's version for these weights, unless its newest is just that."""
        path = self._models_dir / weights
        if not path.is_file():
            raise Rejected(f"models.{model}.weights: {weights!r} is no file in the models folder")
        version = max(model_versions(self._repository, model), default=0)
        wanted = {**self._how, "base_gguf": str(path.resolve())}
        if not version or not wanted.items() <= version_settings(self._repository, model, version).items():
            version += 1
            with unusable(f"models.{model}"):
                write_model_version(self._repository, model, version, base_gguf=path, adapter_gguf=None, **self._how)
        return Placed(model, version)

    def write_specialist(self, model: str, candidate_id: str, adapter_path: str, version: int | None = None) -> Placed:
        """Write a specialist's version from a PEFT adapter."""
        known = self.placed().get(candidate_id)
        if known is not None:
            if known.model != model:
                raise Rejected(f"candidate_id: {candidate_id!r} is another task's")
            return known
        adapter = adapter_folder(self._artifacts_dir, adapter_path)
        version = version or max(model_versions(self._repository, model), default=0) + 1
        with tempfile.TemporaryDirectory() as scratch, unusable(f"adapter_path: {adapter_path!r}"):
            adapter_gguf = Path(scratch) / "adapter.gguf"
            gguf.write_adapter(adapter, self._models_dir / BASE, adapter_gguf)
            write_model_version(
                self._repository,
                model,
                version,
                base_gguf=self._models_dir / BASE_GGUF,
                adapter_gguf=adapter_gguf,
                candidate_id=candidate_id,
                **self._how,
            )
        return Placed(model, version)

    def placed(self) -> Mapping[str, Placed]:
        """Return where each candidate's version is."""
        found = {}
        for model in self.models():
            for version in model_versions(self._repository, model):
                candidate_id = version_settings(self._repository, model, version).get("candidate_id")
                if candidate_id:
                    found[candidate_id] = Placed(model, version)
        return found

    def models(self) -> frozenset[str]:
        """Return the names of all models that were written here."""
        return frozenset(path.parent.parent.name for path in self._repository.glob("*/*/model.json"))

    def choose(self, model: str, versions: frozenset[int]) -> None:
        """Say which versions are loaded the next time."""
        choose_versions(self._repository, model, sorted(versions))


def inside(artifacts_dir: Path, name: str, field: str) -> Path:
    """Return a folder below the artifacts folder. Raises `Rejected` where the name leads out of it."""
    folder = (artifacts_dir / name).resolve()
    if not folder.is_relative_to(artifacts_dir.resolve()):
        raise Rejected(f"{field}: {name!r} leads out of the artifacts folder")
    return folder


def adapter_folder(artifacts_dir: Path, adapter_path: str) -> Path:
    """Return the folder of a PEFT adapter. Raises `Rejected` where there is none."""
    adapter = inside(artifacts_dir, adapter_path, "adapter_path")
    if not (adapter / "adapter_config.json").is_file():
        raise Rejected(f"adapter_path: there is no PEFT adapter in {adapter_path!r}")
    return adapter


@contextlib.contextmanager
def unusable(what: str) -> Iterator[None]:
    """Whatever is wrong with files that came from elsewhere is a reason to reject them."""
    try:
        yield
    except (ValueError, KeyError, FileExistsError, FileNotFoundError, SafetensorError) as error:
        raise Rejected(f"{what} cannot be used: {error}") from error


class KafkaAnnouncer:
    """Deployments on their topic."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer

    async def deployment(self, deployment: Deployment) -> None:
        """Tell a deployment; on return it is acknowledged."""
        await self._producer.send(Topic.DEPLOYMENTS, deployment)
