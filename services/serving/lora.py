"""PEFT LoRA adapters over Hugging Face folders: read, and merged into the weights, one tensor at a time.

Needs safetensors and numpy only: the serving image carries no torch.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401  (registers bfloat16 with numpy, in which many Hugging Face folders are stored)
import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

Weights = NDArray[np.float32]

_TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # as safetensors and as numpy name them


def merged_weights(model_dir: Path, adapter_dir: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yields a model's weights by Hugging Face name, one at a time, with a PEFT LoRA adapter merged in.

    Merged weights are float32, `W + scale * B @ A`; the others keep their stored type.

    Raises:
        ValueError: The adapter is of an unsupported kind, or is for modules that the model has not.
    """
    adapter, scale = read_adapter(adapter_dir), adapter_scale(adapter_dir)
    for name, stored in read_safetensors(model_dir):
        pair = adapter.pop(name.removesuffix(".weight"), None)
        if pair is None:
            yield name, stored
        else:
            yield name, stored.astype(np.float32) + scale * (pair["lora_B"] @ pair["lora_A"])
    if adapter:
        raise ValueError(f"{adapter_dir}: adapts {sorted(adapter)[0]}, which {model_dir} has not")


def write_merged(model_dir: Path, adapter_dir: Path, target: Path) -> None:
    """Writes a Hugging Face folder with a PEFT LoRA adapter merged in; each weight keeps the type it is stored in.

    Args:
        model_dir: The base model.
        adapter_dir: Holds adapter_config.json and adapter_model.safetensors.
        target: The folder to write.

    Raises:
        ValueError: The adapter is of an unsupported kind, or is for modules that the model has not.
    """
    # With the modes of new files: models are often their owner's alone.
    shutil.copytree(model_dir, target, copy_function=shutil.copyfile)
    # Types and shapes stay, and with them the places in the files: what is merged is written over what was copied.
    places = {name: place for path in target.glob("*.safetensors") for name, place in _places(path).items()}
    adapted = {f"{module}.weight" for module in read_adapter(adapter_dir)}
    for name, values in merged_weights(model_dir, adapter_dir):
        if name in adapted:
            place = places[name]
            with place.path.open("r+b") as file:
                file.seek(place.offset)
                file.write(values.astype(place.dtype).tobytes())


@dataclass(frozen=True)
class _Place:
    path: Path
    offset: int
    dtype: np.dtype[Any]


def _places(path: Path) -> dict[str, _Place]:
    """Where each tensor of a safetensors file begins (https://github.com/huggingface/safetensors, "Format")."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return {
        name: _Place(path, 8 + length + tensor["data_offsets"][0], np.dtype(_TYPES[tensor["dtype"]]))
        for name, tensor in header.items()
    }


def adapter_config(adapter_dir: Path) -> dict[str, Any]:
    """Reads adapter_config.json.

    Raises:
        ValueError: The adapter is none of LoRA's, or of a kind that cannot be exported.
    """
    config: dict[str, Any] = json.loads((adapter_dir / "adapter_config.json").read_text())
    if config.get("peft_type") != "LORA":
        raise ValueError(f"{adapter_dir}: peft_type is {config.get('peft_type')!r}; wanted 'LORA'")
    for option in ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save"):
        if config.get(option):
            raise ValueError(f"{adapter_dir}: adapters with {option} cannot be exported; wanted one rank and one alpha")
    return config


def adapter_scale(adapter_dir: Path) -> float:
    """By what `B @ A` is multiplied."""
    config = adapter_config(adapter_dir)
    rank = int(config["r"])
    return float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def read_adapter(adapter_dir: Path) -> dict[str, dict[str, Weights]]:
    """Module name (`model.layers.<i>....`) to its float32 lora_A `[rank, in]` and lora_B `[out, rank]`."""
    adapter_config(adapter_dir)
    adapter: dict[str, dict[str, Weights]] = {}
    for name, stored in read_safetensors(adapter_dir):
        module, _, half = name.removeprefix("base_model.model.").removesuffix(".weight").rpartition(".")
        if half not in ("lora_A", "lora_B"):
            raise ValueError(f"{adapter_dir}: {name} is no lora_A or lora_B weight")
        adapter.setdefault(module, {})[half] = stored.astype(np.float32)
    for module, pair in adapter.items():
        if len(pair) != 2:
            raise ValueError(f"{adapter_dir}: {module} has {sorted(pair)} alone; wanted lora_A and lora_B")
    return adapter


def tensor_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields the shapes of all tensors of a folder by name, in the order of `read_safetensors`."""
    for name, tensors in _tensors(folder):
        yield name, tuple(tensors.get_slice(name).get_shape())


def read_safetensors(folder: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yields the tensors of all safetensors files of a folder by name, one at a time."""
    for name, tensors in _tensors(folder):
        yield name, tensors.get_tensor(name)


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no .safetensors file")
    for path in files:
        with safe_open(path, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  (a safetensors file is no mapping)
                yield name, tensors
