"""What vLLM and Triton's backend for it document; nothing of them runs here."""

import json
from pathlib import Path

import pytest

from services.serving.vllm_backend import write_lora_model
from tests.unit.serving.conftest import configure

# Fields of AsyncEngineArgs with their types, those that a deployment decides, as in vLLM 0.14 to 0.32
# (https://docs.vllm.ai/en/v0.14.0/api/vllm/engine/arg_utils/). The backend calls AsyncEngineArgs(**model.json), so a
# name that it does not have fails the load.
ENGINE_ARGUMENTS = {
    "model": str,
    "tokenizer": str,
    "dtype": str,
    "seed": int,
    "max_model_len": int,
    "max_num_seqs": int,
    "gpu_memory_utilization": float,
    "tensor_parallel_size": int,
    "pipeline_parallel_size": int,
    "enforce_eager": bool,
    "enable_prefix_caching": bool,
    "enable_lora": bool,
    "max_loras": int,
    "max_lora_rank": int,
    "max_cpu_loras": int,
    "disable_log_stats": bool,
}
# MaxLoRARanks (https://docs.vllm.ai/en/v0.14.0/api/vllm/config/lora/).
RANKS = {1, 8, 16, 32, 64, 128, 256, 320, 512}


def write(root: Path, adapter: Path) -> Path:
    write_lora_model(
        root / "triton",
        "specialist",
        model_dir=root / "base",
        adapter_dir=adapter,
        started_in=root,
        context_tokens=512,
    )
    return root / "triton" / "specialist" / "1"


def test_the_engine_is_given_documented_arguments_alone(tmp_path: Path, adapter: Path) -> None:
    engine = json.loads((write(tmp_path, adapter) / "model.json").read_text())
    assert engine.keys() <= ENGINE_ARGUMENTS.keys()
    assert {name: type(value) for name, value in engine.items()} == {name: ENGINE_ARGUMENTS[name] for name in engine}
    assert 0 < engine["gpu_memory_utilization"] <= 1
    assert engine["max_loras"] >= 1


def test_adapters_are_named_beside_the_engine_as_enable_lora_wants(tmp_path: Path, adapter: Path) -> None:
    version = write(tmp_path, adapter)
    engine = json.loads((version / "model.json").read_text())
    # From the folder that Triton is started in: both are there, or vLLM would take them for names on a hub.
    assert (tmp_path / engine["model"]) == tmp_path / "base"
    assert json.loads((version / "multi_lora.json").read_text()) == {"specialist": "adapter"}
    assert (engine["enable_lora"], engine["max_model_len"]) == (True, 512)


@pytest.mark.parametrize(("rank", "largest"), [(1, 1), (2, 8), (16, 16), (17, 32), (300, 320), (512, 512)])
def test_the_engine_takes_the_next_rank_that_it_knows(tmp_path: Path, adapter: Path, rank: int, largest: int) -> None:
    configure(adapter, r=rank)
    engine = json.loads((write(tmp_path, adapter) / "model.json").read_text())
    assert engine["max_lora_rank"] == largest
    assert largest in RANKS


def test_an_adapter_of_a_higher_rank_than_vllm_takes_is_refused(tmp_path: Path, adapter: Path) -> None:
    configure(adapter, r=513)
    with pytest.raises(ValueError, match="r is 513; vLLM takes 512 at most"):
        write(tmp_path, adapter)
