"""Random LoRA adapters as peft writes them, made without torch."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

RANK = 4


def write_random_adapter(folder: Path, seed: int, inner: int = 1536, strength: float = 1.0) -> None:
    """Writes an adapter of one module of the base model.

    Args:
        folder: Created.
        seed: Of its weights.
        inner: Width of the module's input; any but the base model's makes an adapter that does not fit.
        strength: 1 is enough to change its answers; 0 leaves them as they are.
    """
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    module = "base_model.model.model.layers.15.mlp.down_proj"
    weights = {
        "lora_A": rng.normal(size=(RANK, inner)) * 0.05,
        "lora_B": rng.normal(size=(576, RANK)) * 0.05 * strength,
    }
    save_file(
        {f"{module}.{half}.weight": each.astype(np.float32) for half, each in weights.items()},
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["down_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
