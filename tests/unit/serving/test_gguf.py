from pathlib import Path

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from services.serving.gguf import permute, read_model, unpermute, write_adapter, write_model
from services.serving.lora import merged_weights, read_safetensors, write_merged
from tests.unit.serving.conftest import ADAPTED, ALPHA, HEADS, RANK, SHAPES, configure


def _weights(folder: Path, adapter: Path | None = None) -> dict[str, np.ndarray]:
    return dict(merged_weights(folder, adapter) if adapter else read_safetensors(folder))


def test_permuting_turns_rotated_halves_into_neighbouring_pairs() -> None:
    one_head = np.arange(6, dtype=np.float32).reshape(6, 1)
    assert permute(one_head, 1).ravel().tolist() == [0, 3, 1, 4, 2, 5]


def test_unpermuting_undoes_permuting_per_head() -> None:
    rows = np.random.default_rng(0).normal(size=(24, 5)).astype(np.float32)
    assert not np.array_equal(permute(rows, 3), rows)
    np.testing.assert_array_equal(unpermute(permute(rows, 3), 3), rows)


def test_permuting_two_heads_mixes_no_rows_between_them() -> None:
    heads = np.repeat([0.0, 1.0], 8).astype(np.float32).reshape(16, 1)
    np.testing.assert_array_equal(permute(heads, 2), heads)


def test_merged_weights_are_base_plus_scaled_product(base: Path, adapter: Path) -> None:
    plain, merged = _weights(base), _weights(base, adapter)
    for module in SHAPES:
        name = f"model.layers.0.{module}.weight"
        if module in ADAPTED:
            prefix = f"base_model.model.model.layers.0.{module}"
            halves = _weights(adapter)
            product = halves[f"{prefix}.lora_B.weight"] @ halves[f"{prefix}.lora_A.weight"]
            np.testing.assert_allclose(merged[name], plain[name] + ALPHA / RANK * product, rtol=1e-5)
        else:
            np.testing.assert_array_equal(merged[name], plain[name])


@pytest.mark.parametrize(("quantization", "tolerance"), [("F16", 2e-3), ("Q8_0", 3e-2)])
def test_a_written_model_reads_back_as_the_merged_one(
    base: Path, adapter: Path, described_by: Path, tmp_path: Path, quantization: str, tolerance: float
) -> None:
    target = tmp_path / "model.gguf"
    write_merged(base, adapter, tmp_path / "merged")
    write_model(tmp_path / "merged", described_by, target, quantization=quantization)  # type: ignore[arg-type]
    read = read_model(target)
    merged = _weights(base, adapter)
    assert read.keys() == merged.keys()
    for name, each in merged.items():
        np.testing.assert_allclose(read[name], each, atol=tolerance * np.abs(each).max())


def test_a_written_model_keeps_the_tokenizer_and_chat_template(base: Path, described_by: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.gguf"
    write_model(base, described_by, target, quantization="F16")
    fields = gguf.GGUFReader(target).fields
    assert fields["tokenizer.ggml.tokens"].contents()[3] == "token3"
    assert fields["tokenizer.chat_template"].contents() == "{{ messages }}"


def test_a_written_adapter_holds_permuted_query_rows_and_the_scale(base: Path, adapter: Path, tmp_path: Path) -> None:
    target = tmp_path / "adapter.gguf"
    write_adapter(adapter, base, target)
    reader = gguf.GGUFReader(target)
    tensors = {tensor.name: tensor.data for tensor in reader.tensors}
    assert len(tensors) == 2 * len(ADAPTED)
    halves = _weights(adapter)
    prefix = "base_model.model.model.layers.0."
    query = halves[f"{prefix}self_attn.q_proj.lora_B.weight"]
    np.testing.assert_array_equal(tensors["blk.0.attn_q.weight.lora_b"], permute(query, HEADS))
    down = halves[f"{prefix}mlp.down_proj.lora_B.weight"]
    np.testing.assert_array_equal(tensors["blk.0.ffn_down.weight.lora_b"], down)
    assert reader.fields["adapter.lora.alpha"].contents() == ALPHA


def test_rank_stabilised_scaling_is_written_as_the_alpha_that_means_the_same(
    base: Path, adapter: Path, tmp_path: Path
) -> None:
    configure(adapter, use_rslora=True)
    target = tmp_path / "adapter.gguf"
    write_adapter(adapter, base, target)
    alpha = gguf.GGUFReader(target).fields["adapter.lora.alpha"].contents()
    assert alpha / RANK == pytest.approx(ALPHA / RANK**0.5)


@pytest.mark.parametrize("option", [{"use_dora": True}, {"rank_pattern": {"q_proj": 4}}, {"peft_type": "IA3"}])
def test_an_adapter_that_llama_cpp_cannot_apply_is_refused(
    base: Path, adapter: Path, tmp_path: Path, option: dict[str, object]
) -> None:
    configure(adapter, **option)
    with pytest.raises(ValueError, match=next(iter(option))):
        write_adapter(adapter, base, tmp_path / "adapter.gguf")


def test_an_adapter_for_another_model_is_refused(base: Path, adapter: Path) -> None:
    save_file(
        {
            f"base_model.model.model.layers.7.mlp.up_proj.lora_{half}.weight": np.zeros((2, 2), np.float32)
            for half in "AB"
        },
        adapter / "adapter_model.safetensors",
    )
    with pytest.raises(ValueError, match=r"layers\.7"):
        _weights(base, adapter)
