"""Hugging Face Llama weights and PEFT adapters as GGUF files, for llama.cpp.

Needs gguf, safetensors and numpy only: the serving image carries no torch. Llama-style models only (SmolLM2 is one).
llama.cpp keeps the rows of the query and key projections in another order than Hugging Face, because it rotates
neighbouring pairs where Hugging Face rotates halves; `permute` and `unpermute` go between the two.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

from services.serving.lora import Weights, adapter_scale, read_adapter, read_safetensors, tensor_shapes

Quantization = Literal["F16", "Q8_0"]
QUANTIZATIONS: tuple[Quantization, ...] = ("F16", "Q8_0")

_BLOCK_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
_TOP_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
# What the writer sets by itself, so it must not be copied from another file.
_WRITTEN_BY_US = {"general.architecture", "general.file_type", "general.quantization_version"}


def permute(weights: Weights, heads: int) -> Weights:
    """Reorders rows from Hugging Face's rotary layout to llama.cpp's.

    Args:
        weights: `[heads * head_size, ...]`; head_size must be even.
        heads: Query heads for q_proj, key-value heads for k_proj.
    """
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, 2, half, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def unpermute(weights: Weights, heads: int) -> Weights:
    """The inverse of `permute`."""
    half = weights.shape[0] // heads // 2
    return weights.reshape(heads, half, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def read_model(path: Path) -> dict[str, Weights]:
    """Reads a GGUF Llama model into float32 weights under their Hugging Face names.

    Raises:
        ValueError: The file holds another architecture, or a tensor that a Llama model has not.
    """
    reader = gguf.GGUFReader(path)
    architecture = reader.fields["general.architecture"].contents()
    if architecture != "llama":
        raise ValueError(f"{path}: general.architecture is {architecture!r}; wanted 'llama'")
    heads = {
        "self_attn.q_proj": int(reader.fields["llama.attention.head_count"].contents()),
        "self_attn.k_proj": int(reader.fields["llama.attention.head_count_kv"].contents()),
    }
    modules = {ours: theirs for theirs, ours in _BLOCK_NAMES.items()}
    top = {ours: theirs for theirs, ours in _TOP_NAMES.items()}
    weights = {}
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32, copy=False)
        if tensor.name in top:
            weights[top[tensor.name]] = values
            continue
        block, _, rest = tensor.name.removeprefix("blk.").partition(".")
        module = modules.get(rest.removesuffix(".weight"))
        if module is None:
            raise ValueError(f"{path}: tensor {tensor.name} belongs to no Llama model")
        if module in heads:
            values = unpermute(values, heads[module])
        weights[f"model.layers.{block}.{module}.weight"] = values
    return weights


def write_adapter(adapter_dir: Path, model_dir: Path, target: Path) -> None:
    """Writes a PEFT LoRA folder as a GGUF adapter, float32.

    Args:
        adapter_dir: Holds adapter_config.json and adapter_model.safetensors.
        model_dir: The base model's Hugging Face folder; only its config.json is read.
        target: The GGUF file to write.

    Raises:
        ValueError: The adapter is of a kind that llama.cpp cannot apply, or the base is no Llama model.
    """
    heads = _heads(model_dir)
    adapter = read_adapter(adapter_dir)
    rank = next(iter(adapter.values()))["lora_A"].shape[0]
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp scales by alpha / rank, whatever rule the adapter was trained with.
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, adapter_scale(adapter_dir) * rank)
    for module, pair in sorted(adapter.items()):
        name, projection = _gguf_name(f"{module}.weight")
        b = permute(pair["lora_B"], heads[projection]) if projection in heads else pair["lora_B"]
        writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(pair["lora_A"]))
        writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_model(model_dir: Path, described_by: Path, target: Path, *, quantization: Quantization) -> None:
    """Writes a Hugging Face Llama folder as a GGUF model, one tensor at a time.

    Args:
        model_dir: Holds config.json and the safetensors.
        described_by: A GGUF of the same model or its base, from which tokenizer, chat template and sizes are copied.
        target: The GGUF file to write.
        quantization: How matrices are stored; vectors stay float32.

    Raises:
        ValueError: No Llama model, or `described_by` is of another shape.
    """
    heads = _heads(model_dir)
    reader = gguf.GGUFReader(described_by)
    config = json.loads((model_dir / "config.json").read_text())
    described_layers = int(reader.fields["llama.block_count"].contents())
    if described_layers != config["num_hidden_layers"]:
        raise ValueError(f"{described_by} has {described_layers} layers; {model_dir} has {config['num_hidden_layers']}")
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in _WRITTEN_BY_US:
            continue
        kind = field.types[0]
        writer.add_key_value(
            field.name, field.contents(), kind, sub_type=field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        )
    writer.add_file_type(int(gguf.LlamaFileType[f"MOSTLY_{quantization}"]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    # llama.cpp takes the embeddings when there is no output matrix.
    left_out = {"lm_head.weight"} if config.get("tie_word_embeddings") else set()
    types = {1: gguf.GGMLQuantizationType.F32, 2: gguf.GGMLQuantizationType[quantization]}
    for name, shape in tensor_shapes(model_dir):
        if name not in left_out:
            stored_as = types[len(shape)]
            in_bytes = gguf.quants.quant_shape_to_byte_shape(shape, stored_as)
            writer.add_tensor_info(_gguf_name(name)[0], in_bytes, np.dtype(np.uint8), math.prod(in_bytes), stored_as)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, stored in read_safetensors(model_dir):
        if name not in left_out:
            projection, values = _gguf_name(name)[1], stored.astype(np.float32)
            if projection in heads:
                values = permute(values, heads[projection])
            writer.write_tensor_data(gguf.quants.quantize(np.ascontiguousarray(values), types[values.ndim]))
    writer.close()


def _gguf_name(name: str) -> tuple[str, str]:
    """GGUF tensor name, and the module within its layer ('' outside the layers)."""
    if name in _TOP_NAMES:
        return _TOP_NAMES[name], ""
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    module = rest.removesuffix(".weight")
    if not layer.isdecimal() or module not in _BLOCK_NAMES:
        raise ValueError(f"{name} belongs to no Llama model")
    return f"blk.{layer}.{_BLOCK_NAMES[module]}.weight", module


def _heads(model_dir: Path) -> dict[str, int]:
    config = json.loads((model_dir / "config.json").read_text())
    if config.get("model_type") != "llama":
        raise ValueError(f"{model_dir}/config.json: model_type is {config.get('model_type')!r}; wanted 'llama'")
    return {
        "self_attn.q_proj": int(config["num_attention_heads"]),
        "self_attn.k_proj": int(config["num_key_value_heads"]),
    }
