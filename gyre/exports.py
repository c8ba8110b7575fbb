"""An export (`schemas.exports`), checked without Gyre running, ClickHouse or a network."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors import SafetensorError

from gyre.auditor.proof import check
from schemas.codecs import codec
from schemas.events import Candidate, Deployment
from schemas.exports import (
    CARD,
    CHECKSUMS,
    DATASET,
    DEPLOYMENT,
    GATE,
    PROOF,
    REPORT,
    RESPONSE_SCHEMA,
    files_of,
    folder_sha256,
    read_checksums,
    sha256,
)
from schemas.ledger.notes import VerifyingKey
from schemas.ledger.proofs import Proof
from schemas.topics import Topic
from services.serving.lora import merged_weights, read_safetensors

_NEEDED = (
    CARD,
    GATE,
    DEPLOYMENT,
    DATASET,
    "adapter/adapter_config.json",
    "adapter/adapter_model.safetensors",
    "base/config.json",
    "gguf/adapter.gguf",
    "gguf/model.F16.gguf",
    "gguf/model.Q8_0.gguf",
)
# How far merged weights may lie apart that were added up in another order, in steps of their type at the largest.
_STEPS = 8


class _Dataset(msgspec.Struct):
    """As much of a dataset's manifest as is compared."""

    dataset_id: str
    tenant: str
    task: str


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a file of an export, or with a folder of it."""

    name: str
    problem: str


def verify(
    folder: Path, keys: Sequence[VerifyingKey] = (), progress: Callable[[int], None] = lambda _bytes: None
) -> list[Finding]:
    """Return everything that is wrong with an export.

    Args:
        folder: The export.
        keys: Whose signatures are believed; none: what its proof proves is not looked at.
        progress: Told how many more bytes have been read for the checksums.

    Raises:
        OSError: A file cannot be read.
    """
    findings = [*_check_files(folder, progress)]
    records: dict[str, Any] = {}
    for name, kind in ((GATE, Candidate), (DEPLOYMENT, Deployment), (DATASET, _Dataset)):
        with suppress(FileNotFoundError):  # said already
            try:
                records[name] = msgspec.json.decode((folder / name).read_bytes(), type=kind)
            except msgspec.MsgspecError as error:
                findings.append(Finding(name, f"cannot be read: {error}"))
    if len(records) == 3:
        findings += _check_records(folder, *records.values())
    findings += _check_weights(folder)
    if keys:
        findings += _check_proof(folder, keys, records)
    return list(dict.fromkeys(findings))


def bytes_of(folder: Path) -> int:
    """Return how many bytes the files of an export have."""
    return sum((folder / name).lstat().st_size for name in files_of(folder))


def _check_files(folder: Path, progress: Callable[[int], None]) -> Iterator[Finding]:
    there = files_of(folder)
    try:
        listed = read_checksums(folder)
    except (OSError, ValueError) as error:
        yield Finding(CHECKSUMS, f"cannot be read: {error}")
        listed = dict.fromkeys(there, "")
    merged = {f"merged/{name.removeprefix('base/')}" for name in there if name.startswith("base/")}
    for name in sorted({*listed, *_NEEDED, *merged}.difference(there)):
        yield Finding(name, "is missing")
    for name in there:
        path = folder / name
        if path.is_symlink():
            yield Finding(name, "is a link; wanted a file")
            continue
        if name not in listed:
            yield Finding(name, f"is not in {CHECKSUMS}")
        elif listed[name] and sha256(path) != listed[name]:
            yield Finding(name, f"is not as it was exported: {CHECKSUMS} has another digest")
        progress(path.stat().st_size)


def _check_records(folder: Path, gate: Candidate, deployment: Deployment, dataset: _Dataset) -> Iterator[Finding]:
    if gate.verdict != "promote":
        yield Finding(GATE, f"verdict is {gate.verdict!r}; what goes live has 'promote'")
    for name, record, fields in (
        (DEPLOYMENT, deployment, ("candidate_id", "tenant", "task", "system_prompt", "response_schema")),
        (DATASET, dataset, ("dataset_id", "tenant", "task")),
    ):
        for field in fields:
            if (found := getattr(record, field)) != (wanted := getattr(gate, field)):
                yield Finding(name, f"{field} is {found!r}; {GATE} has {wanted!r}")
    if gate.adapter_sha256:  # empty in records of before it was kept
        try:
            is_it = folder_sha256(folder / "adapter") == gate.adapter_sha256
        except OSError:  # it is gone, or has folders
            is_it = False
        if not is_it:
            yield Finding("adapter", f"is not the adapter that {GATE} has the SHA-256 of")
    if gate.report_sha256:
        try:
            if sha256(folder / REPORT) != gate.report_sha256:
                yield Finding(REPORT, f"is not the report that {GATE} has the SHA-256 of")
        except FileNotFoundError:
            yield Finding(REPORT, "is missing")
    with suppress(FileNotFoundError):
        card = (folder / CARD).read_text(errors="replace").splitlines()
        for field in ("candidate_id", "dataset_id"):
            if (line := f"{field}: {getattr(gate, field)}") not in card:
                yield Finding(CARD, f"it does not say {line!r}, which {GATE} does")
    for name, wanted in _settings(gate, deployment).items():
        try:
            document = json.loads((folder / name).read_bytes())
        except FileNotFoundError:
            yield Finding(name, "is missing")
        except ValueError as error:
            yield Finding(name, f"cannot be read: {error}")
        else:
            for key, value in wanted.items():
                if not isinstance(document, dict) or document.get(key) != value:
                    yield Finding(name, f"{key} is not {json.dumps(value)}")


def _settings(gate: Candidate, deployment: Deployment) -> dict[str, dict[str, Any]]:
    """Return what JSON files must say, besides what else they say, for all to be of one specialist."""
    cpu, gpu = (f"triton/{kind}/{deployment.model}/1" for kind in ("cpu", "gpu"))
    found: dict[str, dict[str, Any]] = {
        "adapter/adapter_config.json": {"base_model_name_or_path": "base"},
        f"{cpu}/model.json": {"base_gguf": "../../../../gguf/model.Q8_0.gguf", "candidate_id": gate.candidate_id},
        f"{gpu}/model.json": {"model": "base", "enable_lora": True},
        f"{gpu}/multi_lora.json": {deployment.model: "adapter"},
    }
    with suppress(ValueError):  # none: nothing is held to it
        found[RESPONSE_SCHEMA] = json.loads(gate.response_schema)
    return found


def _check_weights(folder: Path) -> Iterator[Finding]:
    """Add up base and adapter, one tensor at a time, and hold what is merged to that."""
    try:
        both = merged_weights(folder / "base", folder / "adapter"), read_safetensors(folder / "merged")
        for (name, weights), (its, found) in zip_longest(*both, fillvalue=("no more tensors", np.empty(0))):
            if (its, found.shape) != (name, weights.shape):
                yield Finding("merged", f"has {its} {found.shape} where base and adapter have {name} {weights.shape}")
                return
            rounded = weights.astype(found.dtype).astype(np.float32)
            apart = np.abs(found.astype(np.float32) - rounded).max()
            if not apart <= _STEPS * float(np.spacing(np.abs(rounded).max().astype(found.dtype))):
                yield Finding("merged", f"{name} is not what base and adapter add up to: up to {apart:.2g} apart")
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        yield Finding("merged", f"cannot be held to base and adapter: {error}")


def _check_proof(folder: Path, keys: Sequence[VerifyingKey], records: dict[str, Any]) -> Iterator[Finding]:
    try:
        proof = Proof.parse((folder / PROOF).read_bytes())
        recorded = [codec(Topic(row.topic)).decode(row.payload) for row, _ in check(proof, keys) if not row.is_erased]
    except FileNotFoundError:
        yield Finding(PROOF, f"is missing: nothing shows that {GATE} and {DEPLOYMENT} are on record")
        return
    except ValueError as error:
        yield Finding(PROOF, str(error))
        return
    not_yet = f"; not signed yet when it was exported: {', '.join(proof.unsigned)}" if proof.unsigned else ""
    for name in (GATE, DEPLOYMENT):
        if name in records and records[name] not in recorded:
            yield Finding(name, f"is not what {PROOF} shows to be on record{not_yet}")
