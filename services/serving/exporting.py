"""Exports below the artifacts folder: `exports/<candidate_id>/`, each as `schemas.exports` describes it."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from schemas import exports
from schemas.events import Candidate, Deployment
from services.runtime.errors import Rejected
from services.serving import gguf
from services.serving.adapters import BASE, BASE_GGUF, adapter_folder, inside, unusable
from services.serving.llama_backend import write_model_version
from services.serving.lora import write_merged
from services.serving.model_card import model_card
from services.serving.vllm_backend import write_lora_model


class FolderExporter:
    """Writes what is live as a folder that is of use without Gyre."""

    def __init__(self, models_dir: Path, artifacts_dir: Path, parallel: int, context_tokens: int) -> None:
        self._models_dir = models_dir
        self._artifacts_dir = artifacts_dir
        self._parallel = parallel
        self._context_tokens = context_tokens

    def export(self, candidate: Candidate, deployment: Deployment) -> tuple[Path, list[str]]:
        """Write the folder of a candidate; one that is there already is left as it is."""
        target = self._artifacts_dir / "exports" / candidate.candidate_id
        if not target.exists():
            dataset = self._dataset_manifest(candidate)
            target.parent.mkdir(parents=True, exist_ok=True)
            with (
                tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as scratch,
                unusable(f"adapter_path: {candidate.adapter_path!r}"),
            ):
                made = Path(scratch) / "made"
                self._write_weights(made, candidate, deployment.model)
                self._write_records(made, candidate, deployment, dataset)
                exports.write_checksums(made, *exports.files_of(made))
                try:
                    made.rename(target)
                except OSError:
                    # Whoever asked before has gone away, and what was being made for it was made first.
                    if not target.exists():
                        raise
        return target.relative_to(self._artifacts_dir), [*exports.files_of(target), exports.CHECKSUMS]

    def _dataset_manifest(self, candidate: Candidate) -> Path:
        """Return where the trainer keeps what it says of a dataset."""
        dataset = f"{candidate.tenant}/{candidate.task}/datasets/{candidate.dataset_id}"
        manifest = inside(self._artifacts_dir, dataset, "dataset_id") / "manifest.json"
        if not manifest.is_file():
            raise Rejected(f"dataset_id: there is no manifest of dataset {candidate.dataset_id!r}")
        return manifest

    def _write_weights(self, folder: Path, candidate: Candidate, model: str) -> None:
        base, adapter, merged, ggufs = (folder / name for name in ("base", "adapter", "merged", "gguf"))
        for source, target in (
            (self._models_dir / BASE, base),
            (adapter_folder(self._artifacts_dir, candidate.adapter_path), adapter),
        ):
            shutil.copytree(source, target, copy_function=shutil.copyfile)
        if candidate.adapter_sha256 not in ("", exports.folder_sha256(adapter)):
            raise Rejected(f"adapter_path: {candidate.adapter_path!r} is not the adapter that the gate judged")
        write_merged(base, adapter, merged)
        ggufs.mkdir()
        gguf.write_adapter(adapter, base, ggufs / "adapter.gguf")
        for quantization in gguf.QUANTIZATIONS:
            target = ggufs / f"model.{quantization}.gguf"
            gguf.write_model(merged, self._models_dir / BASE_GGUF, target, quantization=quantization)
        write_model_version(
            folder / "triton" / "cpu",
            model,
            1,
            base_gguf=ggufs / "model.Q8_0.gguf",
            adapter_gguf=None,
            candidate_id=candidate.candidate_id,
            parallel=self._parallel,
            context_tokens=self._context_tokens,
            movable=True,
        )
        write_lora_model(
            folder / "triton" / "gpu",
            model,
            model_dir=base,
            adapter_dir=adapter,
            started_in=folder,
            context_tokens=self._context_tokens,
        )

    def _write_records(self, folder: Path, candidate: Candidate, deployment: Deployment, dataset: Path) -> None:
        for path in (folder / "base").iterdir():
            if path.name.startswith(("LICENSE", "NOTICE")):
                shutil.copyfile(path, folder / path.name)
        _write_json(folder / exports.GATE, msgspec.to_builtins(candidate))
        _write_json(folder / exports.DEPLOYMENT, msgspec.to_builtins(deployment))
        shutil.copyfile(dataset, folder / exports.DATASET)
        if candidate.report_sha256:
            run = adapter_folder(self._artifacts_dir, candidate.adapter_path).parent
            shutil.copyfile(run / exports.REPORT, folder / exports.REPORT)
        if candidate.response_schema:
            _write_json(folder / exports.RESPONSE_SCHEMA, json.loads(candidate.response_schema))
        has_licence = (folder / "LICENSE").exists()
        card = model_card(candidate, deployment, self._context_tokens, has_licence=has_licence)
        (folder / exports.CARD).write_text(card)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
