"""What serving expects of a model server and its repository, of the fakes and of Triton alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.runtime.errors import Rejected, Retryable
from services.serving.adapters import FolderRepository, TritonServer
from services.serving.domain.deployments import Placed
from services.serving.ports import ModelServer, Repository
from tests.integration.serving.adapters import write_random_adapter
from tests.unit.serving.fakes import FakeRepository, FakeServer

# The first test of a run may have to make the models and to start Triton.
pytestmark = pytest.mark.timeout(600)

MODEL = "contract-test"


class FakeBench:
    """The fakes."""

    def __init__(self) -> None:
        self.repository = FakeRepository()
        self.server = FakeServer(self.repository)

    def adapter(self, name: str, fits: bool = True) -> str:
        """Make an adapter; return its path."""
        self.repository.adapters.add(name)
        if not fits:
            self.server.unloadable.add(name)
        return name


class TritonBench:
    """Triton, and a part of its repository."""

    def __init__(self, server: TritonServer, repository: FolderRepository, artifacts: Path) -> None:
        self.server = server
        self.repository = repository
        self._artifacts = artifacts

    def adapter(self, name: str, fits: bool = True) -> str:
        """Make an adapter; return its path."""
        if not (self._artifacts / name).exists():
            write_random_adapter(self._artifacts / name, seed=1, inner=1536 if fits else 1500)
        return name


class Bench:
    """What both have."""

    def __init__(self, bench: FakeBench | TritonBench) -> None:
        self.server: ModelServer = bench.server
        self.repository: Repository = bench.repository
        self.adapter = bench.adapter

    async def loaded(self) -> frozenset[int]:
        """The versions that are loaded, of which each answers."""
        versions = (await self.server.loaded()).get(MODEL, frozenset())
        for version in versions:
            await self.server.check(MODEL, version)
        return versions

    async def load(self, *versions: int) -> None:
        """Load these versions."""
        self.repository.choose(MODEL, frozenset(versions))
        await self.server.load(MODEL)


@pytest.fixture(params=["fakes", "triton"], scope="module")
async def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    if request.param == "fakes":
        yield Bench(FakeBench())
        return
    address, folder = request.getfixturevalue("triton")
    models = request.getfixturevalue("models")
    artifacts = tmp_path_factory.mktemp("artifacts")
    repository = FolderRepository(folder, models, artifacts, parallel=1, context_tokens=512)
    async with TritonServer(address, load_seconds=60, parallel=1) as server:
        yield Bench(TritonBench(server, repository, artifacts))
        await server.unload(MODEL)


def test_a_candidate_is_written_once_and_found_again(bench: Bench) -> None:
    first = bench.repository.write_specialist(MODEL, "contract-first", bench.adapter("first"))
    assert first == Placed(MODEL, 1)
    assert bench.repository.write_specialist(MODEL, "contract-first", bench.adapter("first")) == first
    assert bench.repository.write_specialist(MODEL, "contract-second", bench.adapter("second")) == Placed(MODEL, 2)
    assert bench.repository.write_specialist(MODEL, "contract-ninth", bench.adapter("ninth"), 9) == Placed(MODEL, 9)
    mine = {name: place for name, place in bench.repository.placed().items() if place.model == MODEL}
    assert mine == {
        "contract-first": Placed(MODEL, 1),
        "contract-second": Placed(MODEL, 2),
        "contract-ninth": Placed(MODEL, 9),
    }
    assert MODEL in bench.repository.models()


def test_a_generic_model_is_written_once_for_the_same_weights(bench: Bench) -> None:
    name = f"{MODEL}-generic"
    assert bench.repository.write_generic(name, "base.Q8_0.gguf") == Placed(name, 1)
    assert bench.repository.write_generic(name, "base.Q8_0.gguf") == Placed(name, 1)


def test_what_is_not_there_is_rejected_by_name(bench: Bench) -> None:
    with pytest.raises(Rejected, match=r"models\.x\.weights: 'gone\.gguf' is no file"):
        bench.repository.write_generic("x", "gone.gguf")
    with pytest.raises(Rejected, match="adapter_path: there is no PEFT adapter in 'gone'"):
        bench.repository.write_specialist(MODEL, "gone", "gone")
    assert "gone" not in bench.repository.placed()


def test_the_number_of_another_candidate_is_rejected(bench: Bench) -> None:
    with pytest.raises(Rejected):
        bench.repository.write_specialist(MODEL, "intruder", bench.adapter("intruder"), 1)
    assert "intruder" not in bench.repository.placed()


def test_the_candidate_of_another_model_is_rejected(bench: Bench) -> None:
    with pytest.raises(Rejected, match="candidate_id: 'contract-first' is another task's"):
        bench.repository.write_specialist(f"{MODEL}-other", "contract-first", bench.adapter("first"))


async def test_just_the_chosen_versions_are_loaded(bench: Bench) -> None:
    for versions in ({1}, {1, 2}, {2}):
        await bench.load(*versions)
        assert await bench.loaded() == versions
    with pytest.raises(Retryable):
        await bench.server.check(MODEL, 1)


async def test_a_version_that_cannot_be_loaded_leaves_what_was(bench: Bench) -> None:
    await bench.load(2)
    misfit = bench.repository.write_specialist(MODEL, "contract-misfit", bench.adapter("contract-misfit", fits=False))
    with pytest.raises(Rejected):
        await bench.load(2, misfit.version)
    assert await bench.loaded() == {2}


async def test_an_unloaded_model_answers_no_more_and_may_be_unloaded_again(bench: Bench) -> None:
    await bench.load(1)
    for _ in range(2):
        await bench.server.unload(MODEL)
        assert await bench.loaded() == frozenset()
    with pytest.raises(Retryable):
        await bench.server.check(MODEL, 1)
    await bench.load(1)
    assert await bench.loaded() == {1}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("adapter_config.json", b"no json", "cannot be used"),
        ("adapter_config.json", b'{"peft_type": "IA3"}', "wanted 'LORA'"),
        ("adapter_config.json", b'{"peft_type": "LORA"}', "cannot be used"),
        ("adapter_model.safetensors", b"no tensors", "cannot be used"),
        ("adapter_model.safetensors", None, "holds no .safetensors"),
    ],
)
def test_a_damaged_adapter_is_rejected(tmp_path: Path, name: str, content: bytes | None, complaint: str) -> None:
    folder = tmp_path / "models" / "base"
    folder.mkdir(parents=True)
    heads: dict[str, Any] = {"model_type": "llama", "num_attention_heads": 9, "num_key_value_heads": 3}
    (folder / "config.json").write_text(str(heads).replace("'", '"'))
    (tmp_path / "models" / "base.Q8_0.gguf").write_bytes(b"GGUF")
    write_random_adapter(tmp_path / "adapter", seed=1)
    (tmp_path / "adapter" / name).unlink()
    if content is not None:
        (tmp_path / "adapter" / name).write_bytes(content)
    repository = FolderRepository(tmp_path / "triton", tmp_path / "models", tmp_path, 1, 512)
    with pytest.raises(Rejected, match=complaint):
        repository.write_specialist(MODEL, "damaged", "adapter")
    assert repository.placed() == {}
