"""A tiny Llama model, an adapter for it, a GGUF that describes it, and an export of them."""

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import save_file

from schemas.events import Candidate, Deployment, Sensitivity
from schemas.exports import folder_sha256
from services.serving.exporting import FolderExporter

HEADS, KEY_VALUE_HEADS, HIDDEN, FEED_FORWARD, VOCABULARY, RANK, ALPHA = 4, 2, 64, 96, 32, 2, 6
SHAPES = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN // 2, HIDDEN),
    "self_attn.v_proj": (HIDDEN // 2, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (FEED_FORWARD, HIDDEN),
    "mlp.up_proj": (FEED_FORWARD, HIDDEN),
    "mlp.down_proj": (HIDDEN, FEED_FORWARD),
}
ADAPTED = ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj")


def write_adapter(folder: Path, **changes: object) -> None:
    rng = np.random.default_rng(2)
    folder.mkdir(parents=True)
    weights = {}
    for module in ADAPTED:
        rows, columns = SHAPES[module]
        prefix = f"base_model.model.model.layers.0.{module}"
        weights[f"{prefix}.lora_A.weight"] = rng.normal(size=(RANK, columns)).astype(np.float32)
        weights[f"{prefix}.lora_B.weight"] = rng.normal(size=(rows, RANK)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    configure(folder, **changes)


def configure(folder: Path, **changes: object) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": "base", "r": RANK, "lora_alpha": ALPHA, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def digest_of_adapter() -> str:
    with tempfile.TemporaryDirectory() as scratch:
        write_adapter(Path(scratch) / "adapter")
        return folder_sha256(Path(scratch) / "adapter")


SCHEMA = {"type": "object", "properties": {"name": {"const": "refund"}}, "required": ["name"]}
AT = datetime(2026, 11, 24, tzinfo=UTC)
OF = {"tenant": "care", "task": "orders"}
REPORT = b"<p>promoted</p>"
CANDIDATE = Candidate(
    candidate_id="019aa0c0-0000-7000-8000-000000000001",
    run_id="019aa0c0-0000-7000-8000-000000000001",
    created_at=AT,
    verdict="promote",
    reasons=("met: 20 requests were compared; at least 20 are needed",),
    base_model="base",
    adapter_path="care/orders/runs/1/adapter",
    system_prompt="Reply with one JSON function call of $5 or {more}.",
    response_schema=json.dumps(SCHEMA),
    dataset_id="d" * 64,
    training_request_ids=tuple(f"r-{place}" for place in range(1234)),
    holdout_request_ids=tuple(f"h-{place}" for place in range(20)),
    incumbent="small",
    candidate_accuracy=0.75,
    incumbent_accuracy=0.1,
    gain=0.65,
    gain_low=0.4,
    gain_high=0.85,
    report_sha256=hashlib.sha256(REPORT).hexdigest(),
    adapter_sha256=digest_of_adapter(),
    sensitivity=Sensitivity.CONFIDENTIAL,
    bundle_version="b1",
    **OF,
)
DEPLOYMENT = Deployment(
    task_key="care/orders",
    deployment_id="019aa0c0-0000-7000-8000-000000000002",
    state="live",
    candidate_id=CANDIDATE.candidate_id,
    model="specialist-care-orders",
    model_version="3",
    adapter_path=CANDIDATE.adapter_path,
    system_prompt=CANDIDATE.system_prompt,
    response_schema=CANDIDATE.response_schema,
    sensitivity=CANDIDATE.sensitivity,
    deployed_at=AT,
    reason="better",
    **OF,
)
MANIFEST = {"dataset_id": CANDIDATE.dataset_id, "rows": 1254, "label_ids": ["l-1"], **OF}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    write_base(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    write_adapter(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.fixture
def described_by(tmp_path: Path) -> Path:
    write_description(tmp_path / "described.gguf")
    return tmp_path / "described.gguf"


def exporter(root: Path) -> FolderExporter:
    """An exporter, with all that the candidate was made from."""
    artifacts = root / "artifacts"
    write_base(root / "models" / "base")
    (root / "models" / "base" / "LICENSE").write_text("Apache License")
    (root / "models" / "base" / "tokenizer.json").write_text("{}")
    write_description(root / "models" / "base.Q8_0.gguf")
    write_adapter(artifacts / CANDIDATE.adapter_path)
    (artifacts / CANDIDATE.adapter_path).with_name("report.html").write_bytes(REPORT)
    dataset = artifacts / "care" / "orders" / "datasets" / CANDIDATE.dataset_id
    dataset.mkdir(parents=True)
    (dataset / "manifest.json").write_text(json.dumps(MANIFEST))
    return FolderExporter(root / "models", artifacts, parallel=3, context_tokens=512)


def write_base(folder: Path, dtype: Any = np.float32) -> None:
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True)
    weights = {
        "model.embed_tokens.weight": rng.normal(size=(VOCABULARY, HIDDEN)),
        "model.norm.weight": rng.normal(size=HIDDEN),
        "model.layers.0.input_layernorm.weight": rng.normal(size=HIDDEN),
        "model.layers.0.post_attention_layernorm.weight": rng.normal(size=HIDDEN),
        **{f"model.layers.0.{module}.weight": rng.normal(size=shape) for module, shape in SHAPES.items()},
    }
    stored = {name: each.astype(dtype) for name, each in weights.items()}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "model_type": "llama",
        "num_hidden_layers": 1,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KEY_VALUE_HEADS,
        "tie_word_embeddings": True,
    }
    (folder / "config.json").write_text(json.dumps(config))


def write_description(path: Path) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_VALUE_HEADS)
    writer.add_token_list([f"token{i}" for i in range(VOCABULARY)])
    writer.add_chat_template("{{ messages }}")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
