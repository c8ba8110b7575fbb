"""An export: one folder with a specialist's weights and what is known of it, of use without Gyre.

README.md             what it is and how it is opened: a model card in Hugging Face's form
LICENSE, NOTICE       the base model's, where it has them
gate.json             the candidate's record: what it learned from, what the gate found, and the digest of adapter/
report.html           of the gate, for people; gate.json has its SHA-256
deployment.json       the record that made it live
dataset.json          the manifest of the dataset that it learned from; the rows stay where they are
response_schema.json  what its answers are held to, where they are
audit-proof.json      that these records are on record; `gyre export` adds it
adapter/              what was trained, for PEFT
base/                 what it was trained on, a Hugging Face folder
merged/               both in one, a Hugging Face folder
gguf/                 merged, for llama.cpp: model.F16.gguf and model.Q8_0.gguf; and adapter.gguf alone
triton/cpu/           a model repository for Triton's Python backend, with llama.cpp
triton/gpu/           a model repository for Triton's vLLM backend, with LoRA
SHA256SUMS            of all the others: `sha256sum -c SHA256SUMS`
"""

import hashlib
import re
from pathlib import Path

CARD = "README.md"
GATE = "gate.json"
REPORT = "report.html"
DEPLOYMENT = "deployment.json"
DATASET = "dataset.json"
RESPONSE_SCHEMA = "response_schema.json"
PROOF = "audit-proof.json"
CHECKSUMS = "SHA256SUMS"

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def sha256(path: Path) -> str:
    """Return a file's SHA-256, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_sha256(folder: Path) -> str:
    """Return the SHA-256 of what `sha256sum *` prints in a folder of files, 64 hex digits."""
    lines = (f"{sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_of(folder: Path) -> list[str]:
    """Return the files of an export, SHA256SUMS aside, as SHA256SUMS names them."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != CHECKSUMS)


def write_checksums(folder: Path, *names: str) -> None:
    """Add files of an export to its SHA256SUMS."""
    with (folder / CHECKSUMS).open("a") as sums:
        sums.writelines(f"{sha256(folder / name)}  {name}\n" for name in names)


def read_checksums(folder: Path) -> dict[str, str]:
    """Return what SHA256SUMS says of each file.

    Raises:
        ValueError: A line is not what sha256sum writes.
        OSError: It cannot be read.
    """
    found = {}
    for number, line in enumerate((folder / CHECKSUMS).read_text().splitlines(), 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"line {number} is no checksum: wanted 64 hex digits, two spaces and a name")
        found[match[2]] = match[1]
    return found
