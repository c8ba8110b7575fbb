import json
from pathlib import Path

import pytest

from services.serving.llama_backend import choose_versions, model_versions, render_config, write_model_version


@pytest.fixture
def base_gguf(tmp_path: Path) -> Path:
    path = tmp_path / "base.Q8_0.gguf"
    path.write_bytes(b"GGUF")
    return path


def test_two_versions_of_one_model_keep_their_own_adapters(tmp_path: Path, base_gguf: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"adapter")
    repository = tmp_path / "models"
    write_model_version(repository, "small", 1, base_gguf=base_gguf, adapter_gguf=None)
    write_model_version(repository, "small", 2, base_gguf=base_gguf, adapter_gguf=adapter)
    assert model_versions(repository, "small") == [1, 2]
    first, second = (json.loads((repository / "small" / v / "model.json").read_text()) for v in "12")
    assert first["adapter_gguf"] is None
    assert (repository / "small" / "2" / second["adapter_gguf"]).read_bytes() == b"adapter"
    assert "versions: [ 1, 2 ]" in (repository / "small" / "config.pbtxt").read_text()


def test_the_caller_chooses_what_stays_loaded(tmp_path: Path, base_gguf: Path) -> None:
    for version in (1, 2):
        write_model_version(tmp_path, "small", version, base_gguf=base_gguf, adapter_gguf=None)
    choose_versions(tmp_path, "small", [1])
    assert "versions: [ 1 ]" in (tmp_path / "small" / "config.pbtxt").read_text()
    with pytest.raises(FileNotFoundError, match="3"):
        choose_versions(tmp_path, "small", [3])


def test_a_version_is_as_many_processes_as_answers_at_once(tmp_path: Path, base_gguf: Path) -> None:
    config = tmp_path / "small" / "config.pbtxt"
    write_model_version(tmp_path, "small", 1, base_gguf=base_gguf, adapter_gguf=None, parallel=3)
    assert "count: 3 kind: KIND_CPU" in config.read_text()
    choose_versions(tmp_path, "small", [1])
    assert "count: 3 kind: KIND_CPU" in config.read_text()
    with pytest.raises(ValueError, match="parallel: 0; wanted 1 or more"):
        write_model_version(tmp_path, "small", 2, base_gguf=base_gguf, adapter_gguf=None, parallel=0)
    assert model_versions(tmp_path, "small") == [1]


def test_a_version_is_never_overwritten(tmp_path: Path, base_gguf: Path) -> None:
    write_model_version(tmp_path, "small", 1, base_gguf=base_gguf, adapter_gguf=None)
    with pytest.raises(FileExistsError, match="never changed"):
        write_model_version(tmp_path, "small", 1, base_gguf=base_gguf, adapter_gguf=None)


def test_nothing_is_left_behind_when_the_adapter_is_missing(tmp_path: Path, base_gguf: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.gguf"):
        write_model_version(tmp_path, "small", 1, base_gguf=base_gguf, adapter_gguf=tmp_path / "gone.gguf")
    assert not (tmp_path / "small").exists()


@pytest.mark.parametrize("name", ["", "../up", "a b", 'a" b', "."])
def test_a_model_name_that_is_no_folder_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="model_name"):
        render_config(name, [1], parallel=1)
