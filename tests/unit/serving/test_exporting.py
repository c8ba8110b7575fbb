import json
import subprocess
from pathlib import Path
from typing import Any

import ml_dtypes
import msgspec
import numpy as np
import pytest
import yaml
from google.protobuf import text_format
from huggingface_hub import ModelCard
from msgspec.structs import replace
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tritonclient.grpc.model_config_pb2 import ModelConfig

from schemas.events import Candidate, Deployment
from schemas.exports import CHECKSUMS, files_of
from services.runtime.errors import Rejected
from services.serving.lora import merged_weights, write_merged
from services.serving.model_card import model_card
from tests.unit.serving.conftest import (
    ADAPTED,
    CANDIDATE,
    DEPLOYMENT,
    MANIFEST,
    SCHEMA,
    exporter,
    write_base,
)

MODEL = DEPLOYMENT.model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("export")
    directory, files = exporter(root).export(CANDIDATE, DEPLOYMENT)
    assert set(files) == {*files_of(root / "artifacts" / directory), CHECKSUMS}
    return root / "artifacts" / directory


def test_an_export_has_the_weights_four_ways_and_the_records(folder: Path) -> None:
    assert files_of(folder) == [
        "LICENSE",
        "README.md",
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
        "base/LICENSE",
        "base/config.json",
        "base/model.safetensors",
        "base/tokenizer.json",
        "dataset.json",
        "deployment.json",
        "gate.json",
        "gguf/adapter.gguf",
        "gguf/model.F16.gguf",
        "gguf/model.Q8_0.gguf",
        "merged/LICENSE",
        "merged/config.json",
        "merged/model.safetensors",
        "merged/tokenizer.json",
        "report.html",
        "response_schema.json",
        f"triton/cpu/{MODEL}/1/model.json",
        f"triton/cpu/{MODEL}/1/model.py",
        f"triton/cpu/{MODEL}/config.pbtxt",
        f"triton/gpu/{MODEL}/1/model.json",
        f"triton/gpu/{MODEL}/1/multi_lora.json",
        f"triton/gpu/{MODEL}/config.pbtxt",
    ]
    assert msgspec.json.decode((folder / "gate.json").read_bytes(), type=Candidate) == CANDIDATE
    assert msgspec.json.decode((folder / "deployment.json").read_bytes(), type=Deployment) == DEPLOYMENT
    assert json.loads((folder / "dataset.json").read_bytes()) == MANIFEST
    assert json.loads((folder / "response_schema.json").read_bytes()) == SCHEMA


def test_no_file_of_an_export_names_a_path_of_the_machine_that_it_was_made_on(folder: Path) -> None:
    here = str(folder.parents[2]).encode()
    assert [name for name in files_of(folder) if here in (folder / name).read_bytes()] == []


def test_sha256sum_checks_an_export_and_tells_the_digest_of_the_adapter_in_the_record(folder: Path) -> None:
    checked = subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=folder, capture_output=True)
    assert checked.returncode == 0
    assert checked.stdout.count(b": OK\n") == len(files_of(folder))
    told = subprocess.run("sha256sum * | sha256sum", shell=True, cwd=folder / "adapter", capture_output=True, text=True)
    assert told.stdout.split()[0] == CANDIDATE.adapter_sha256


def test_the_model_card_says_what_hugging_face_and_a_reader_want_to_know(folder: Path) -> None:
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.base_model, card.data.license_link) == ("peft", "base", "LICENSE")
    assert (card.data.candidate_id, card.data.dataset_id) == (CANDIDATE.candidate_id, CANDIDATE.dataset_id)
    for said in (
        "trained on 1,234 requests",
        CANDIDATE.system_prompt,
        "| this specialist | 75.0% |\n| small, before it | 10.0% |",
        "+65.0 points (95 % interval +40.0 to +85.0)",
        CANDIDATE.reasons[0],
        "is confidential at most",
        "at most 512 tokens",
        f"/v2/models/{MODEL}/generate",
    ):
        assert said in card.text
    assert "$" not in card.text.replace(CANDIDATE.system_prompt, "")


def test_the_model_card_says_nothing_of_a_schema_or_a_licence_that_there_is_not() -> None:
    card = model_card(replace(CANDIDATE, response_schema=""), DEPLOYMENT, 512, has_licence=False)
    assert "held to no schema" in card
    assert "response_schema.json" not in card
    assert "license" not in yaml.safe_load(card.split("---\n")[1])


@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_triton_reads_both_configurations(folder: Path, kind: str) -> None:
    text = (folder / "triton" / kind / MODEL / "config.pbtxt").read_text()
    config: Any = text_format.Parse(text, ModelConfig())
    assert config.name == MODEL
    assert config.backend == {"cpu": "python", "gpu": "vllm"}[kind]
    assert config.model_transaction_policy.decoupled
    assert {each.name: each.optional for each in config.input} == {
        "text_input": False,
        "stream": True,
        "sampling_parameters": True,
        "exclude_input_in_output": True,
    }


def test_the_cpu_repository_finds_its_weights_wherever_the_export_lies(folder: Path) -> None:
    version = folder / "triton" / "cpu" / MODEL / "1"
    settings = json.loads((version / "model.json").read_text())
    assert (version / settings["base_gguf"]).resolve() == (folder / "gguf" / "model.Q8_0.gguf").resolve()
    assert (settings["adapter_gguf"], settings["parallel"], settings["context_tokens"]) == (None, 3, 512)


def test_an_export_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    exporting = exporter(tmp_path)
    directory, files = exporting.export(CANDIDATE, DEPLOYMENT)
    before = (tmp_path / "artifacts" / directory / CHECKSUMS).stat().st_mtime_ns
    assert exporting.export(CANDIDATE, replace(DEPLOYMENT, model_version="9")) == (directory, files)
    assert (tmp_path / "artifacts" / directory / CHECKSUMS).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"adapter_path": "gone"}, "adapter_path: there is no PEFT adapter in 'gone'"),
        ({"adapter_sha256": "0" * 64}, f"'{CANDIDATE.adapter_path}' is not the adapter that the gate judged"),
        ({"adapter_path": "../models/base"}, "adapter_path: '../models/base' leads out of the artifacts folder"),
        ({"dataset_id": "gone"}, "dataset_id: there is no manifest of dataset 'gone'"),
        ({"dataset_id": "../../../../models"}, "dataset_id: .* leads out of the artifacts folder"),
        ({"response_schema": "{"}, "cannot be used: Expecting property name"),
    ],
)
def test_nothing_is_left_behind_where_what_it_is_made_from_is_gone(
    tmp_path: Path, changes: dict[str, str], complaint: str
) -> None:
    with pytest.raises(Rejected, match=complaint):
        exporter(tmp_path).export(replace(CANDIDATE, **changes), DEPLOYMENT)
    assert list((tmp_path / "artifacts").glob("exports/*")) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_merged_weights_are_written_in_the_type_that_they_are_stored_in(
    tmp_path: Path, adapter: Path, dtype: Any
) -> None:
    write_base(tmp_path / "model", dtype)
    write_merged(tmp_path / "model", adapter, tmp_path / "merged")
    written = load_file(tmp_path / "merged" / "model.safetensors")
    for name, wanted in merged_weights(tmp_path / "model", adapter):
        assert written[name].dtype == dtype
        np.testing.assert_array_equal(written[name], wanted.astype(dtype))
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}  # without which transformers refuses it


def test_a_model_in_several_files_is_merged_in_each_of_them(tmp_path: Path, base: Path, adapter: Path) -> None:
    whole = load_file(base / "model.safetensors")
    names = sorted(whole)
    (base / "model.safetensors").unlink()
    for place, part in enumerate((names[::2], names[1::2]), 1):
        save_file({name: whole[name] for name in part}, base / f"model-0000{place}-of-00002.safetensors")
    write_merged(base, adapter, tmp_path / "merged")
    changed = [
        name
        for path in (tmp_path / "merged").glob("*.safetensors")
        for name, each in load_file(path).items()
        if not np.array_equal(each, whole[name])
    ]
    assert sorted(changed) == sorted(f"model.layers.0.{module}.weight" for module in ADAPTED)
