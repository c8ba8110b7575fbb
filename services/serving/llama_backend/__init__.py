"""Writes models into a Triton repository, for Triton's Python backend with llama.cpp (`model.py`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_MODEL_CODE = Path(__file__).with_name("model.py")
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 0
model_transaction_policy {{ decoupled: true }}
input [
  {{ name: "text_input" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true }},
  {{ name: "sampling_parameters" data_type: TYPE_STRING dims: [ 1 ] optional: true }},
  {{ name: "exclude_input_in_output" data_type: TYPE_BOOL dims: [ 1 ] optional: true }}
]
output [
  {{ name: "text_output" data_type: TYPE_STRING dims: [ -1 ] }},
  {{ name: "usage" data_type: TYPE_STRING dims: [ -1 ] }}
]
instance_group [ {{ count: {parallel} kind: KIND_CPU }} ]
version_policy: {{ specific: {{ versions: [ {versions} ] }} }}
"""


def render_config(model_name: str, versions: Sequence[int], parallel: int) -> str:
    """Renders config.pbtxt for a model of which just these versions are loaded, in `parallel` processes each.

    Raises:
        ValueError: The name would not be a plain folder name, or there is no version, or a number is below 1.
    """
    if not _MODEL_NAME.fullmatch(model_name):
        raise ValueError(f"model_name: {model_name!r}; wanted letters, digits, dots, dashes and underscores")
    if not versions or min(versions) < 1:
        raise ValueError(f"versions: {list(versions)}; wanted at least one, all from 1")
    if parallel < 1:
        raise ValueError(f"parallel: {parallel}; wanted 1 or more")
    listed = ", ".join(str(version) for version in sorted(set(versions)))
    return _CONFIG.format(name=model_name, versions=listed, parallel=parallel)


def write_model_version(
    repository: Path,
    model_name: str,
    version: int,
    *,
    base_gguf: Path,
    adapter_gguf: Path | None,
    loaded_versions: Sequence[int] | None = None,
    candidate_id: str = "",
    parallel: int = 2,
    context_tokens: int = 2048,
    movable: bool = False,
) -> None:
    """Writes `<repository>/<model_name>/<version>/` and the model's config.pbtxt.

    A version is written once, whole, and never changed; the adapter is copied (or linked) into it. Triton sees the
    change when it is next asked to load the model.

    Args:
        repository: Triton's model repository.
        model_name: Also the folder's name.
        version: From 1.
        base_gguf: The model; stays where it is, because versions share it.
        adapter_gguf: A LoRA adapter, or None for the model as it is.
        loaded_versions: The versions that Triton is to keep loaded; by default those there are and this one.
        candidate_id: Of a specialist, kept in its model.json; the model itself makes no use of it.
        parallel: Answers generated at once: processes of one thread each, of every loaded version of the model.
        context_tokens: Prompt and answer together; costs memory times `parallel`.
        movable: The model is named by its path from the version's folder, so that both can be moved together.

    Raises:
        ValueError: A bad name or number.
        FileNotFoundError: There is no such model or adapter, or no such version as is to be loaded.
        FileExistsError: The version exists.
    """
    if context_tokens < 1:
        raise ValueError(f"context_tokens: {context_tokens}; wanted 1 or more")
    for path in (base_gguf, adapter_gguf):
        if path is not None and not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
    folder = repository / model_name
    target = folder / str(version)
    written = {*model_versions(repository, model_name), version}
    loaded = sorted(written) if loaded_versions is None else list(loaded_versions)
    config = render_config(model_name, loaded, parallel)
    if missing := set(loaded) - written:
        raise FileNotFoundError(f"{folder}: versions {sorted(missing)} are to be loaded and do not exist")
    if target.exists():
        raise FileExistsError(f"{target}: versions are never changed; write another one")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".version-", dir=folder) as scratch:
        made = Path(scratch) / "made"
        made.mkdir()
        shutil.copyfile(_MODEL_CODE, made / "model.py")
        if adapter_gguf is not None:
            _link_or_copy(adapter_gguf, made / "adapter.gguf")
        settings = {
            "base_gguf": os.path.relpath(base_gguf, target) if movable else str(base_gguf.resolve()),
            "adapter_gguf": "adapter.gguf" if adapter_gguf is not None else None,
            "parallel": parallel,
            "context_tokens": context_tokens,
            "candidate_id": candidate_id,
        }
        (made / "model.json").write_text(json.dumps(settings, indent=2) + "\n")
        made.rename(target)
    _replace(folder / "config.pbtxt", config)


def choose_versions(repository: Path, model_name: str, versions: Sequence[int]) -> None:
    """Rewrites config.pbtxt so that just these versions are loaded the next time.

    Raises:
        FileNotFoundError: One of them has not been written.
    """
    if missing := set(versions) - set(model_versions(repository, model_name)):
        raise FileNotFoundError(f"{repository / model_name}: versions {sorted(missing)} do not exist")
    parallel = version_settings(repository, model_name, max(versions))["parallel"]
    _replace(repository / model_name / "config.pbtxt", render_config(model_name, versions, parallel))


def model_versions(repository: Path, model_name: str) -> list[int]:
    """The versions written so far, ascending; none where there is no such model."""
    return sorted(int(path.parent.name) for path in (repository / model_name).glob("*/model.json") if _is_version(path))


def version_settings(repository: Path, model_name: str, version: int) -> dict[str, Any]:
    """What a version was written with: its model.json."""
    settings: dict[str, Any] = json.loads((repository / model_name / str(version) / "model.json").read_text())
    return settings


def _is_version(path: Path) -> bool:
    return path.parent.name.isdecimal()


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def _replace(path: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".config-", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    # Triton may run as another user, and temporary files are their owner's alone.
    Path(file.name).chmod(0o644)
    Path(file.name).replace(path)
