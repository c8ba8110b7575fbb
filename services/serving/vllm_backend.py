"""Writes a model into a Triton repository, for Triton's vLLM backend with LoRA adapters, which runs on GPU.

The backend hands model.json to vLLM's AsyncEngineArgs as it is, and multi_lora.json names the adapters that a request
may ask for by `lora_name` in its sampling parameters (https://github.com/triton-inference-server/vllm_backend, README
and docs/llama_multi_lora_tutorial). Relative paths are from the folder that Triton is started in.
"""

from __future__ import annotations

import json
from pathlib import Path

from services.serving.lora import adapter_config

# What vLLM takes as `max_lora_rank`.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_CONFIG = """\
name: "{name}"
backend: "vllm"
max_batch_size: 0
model_transaction_policy {{ decoupled: true }}
input [
  {{ name: "text_input" data_type: TYPE_STRING dims: [ 1 ] }},
  {{ name: "stream" data_type: TYPE_BOOL dims: [ 1 ] optional: true }},
  {{ name: "sampling_parameters" data_type: TYPE_STRING dims: [ 1 ] optional: true }},
  {{ name: "exclude_input_in_output" data_type: TYPE_BOOL dims: [ 1 ] optional: true }}
]
output [ {{ name: "text_output" data_type: TYPE_STRING dims: [ -1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_MODEL }} ]
"""


def write_lora_model(
    repository: Path, model_name: str, *, model_dir: Path, adapter_dir: Path, started_in: Path, context_tokens: int
) -> None:
    """Writes `<repository>/<model_name>/`: config.pbtxt, 1/model.json and 1/multi_lora.json.

    Args:
        repository: Triton's model repository.
        model_name: Also the folder's name, and the adapter's `lora_name`.
        model_dir: Hugging Face folder of the base model.
        adapter_dir: A PEFT LoRA folder.
        started_in: The folder that Triton will be started in.
        context_tokens: Prompt and answer together.

    Raises:
        ValueError: The adapter's rank is more than vLLM takes, or it is of an unsupported kind.
    """
    rank = int(adapter_config(adapter_dir)["r"])
    allowed = [each for each in _RANKS if each >= rank]
    if not allowed:
        raise ValueError(f"{adapter_dir}: r is {rank}; vLLM takes {_RANKS[-1]} at most")
    version = repository / model_name / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(_CONFIG.format(name=model_name))
    engine = {
        "model": str(model_dir.relative_to(started_in)),
        "max_model_len": context_tokens,
        "gpu_memory_utilization": 0.9,
        "enable_lora": True,
        "max_loras": 4,
        "max_lora_rank": allowed[0],
    }
    (version / "model.json").write_text(json.dumps(engine, indent=2) + "\n")
    adapters = {model_name: str(adapter_dir.relative_to(started_in))}
    (version / "multi_lora.json").write_text(json.dumps(adapters, indent=2) + "\n")
