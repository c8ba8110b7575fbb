"""What of the embedded stack cannot be made again, out into a folder and back into an empty one.

    manifest.json     what the archives hold, with their digests
    <part>.tar        the files of each part of `KEPT`, as they lay in the state folder

The stack must be down: then Kafka and the ClickHouse engine have written everything, and agree with one another.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from embedded.errors import BackupError
from embedded.kafka import KAFKA
from embedded.settings import Settings
from embedded.stack import Stack

FORMAT = 1
MANIFEST = "manifest.json"
# Below the state folder, with what is lost where it is lost.
KEPT = {
    "kafka": ("kafka", "every topic, and where consumer groups are in them"),
    "clickhouse": ("clickhouse/engine", "the record with its chains"),
    "artifacts": ("artifacts", "datasets, adapters, reports and exports"),
    "checkpoints": ("audit", "checkpoints that are kept out of reach of the database"),
    "secrets": ("run/secrets", "passwords, the key that signs the record, accounts"),
}


@dataclass(frozen=True)
class Archived:
    """One archive of a backup: how many files it holds, and its own length and SHA-256."""

    part: str
    files: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Backup:
    """What was written or restored.

    Attributes:
        archives: Those that hold something.
        left_out: Names in the state folder that are in none, because they are made again or are not the stack's.
    """

    archives: tuple[Archived, ...]
    left_out: tuple[str, ...] = ()


def back_up(settings: Settings, folder: Path, report: Callable[[str], None] = lambda _part: None) -> Backup:
    """Write the backup of a stack that is down; the folder appears under its name when it is whole.

    Raises:
        BackupError: The folder holds something, there is nothing to back up, or a file cannot be read or written.
        StackConflict: The stack runs.
    """
    if folder.exists():
        raise BackupError(f"{folder} is there already; name a new folder.")
    with Stack(settings).held_down():
        parts = {part: settings.state_dir / path for part, (path, _) in KEPT.items()}
        if not parts["kafka"].is_dir() and not parts["clickhouse"].is_dir():
            raise BackupError(f"There is no stack in {settings.state_dir}; say where it is (GYRE_STATE_DIR).")
        scratch = folder.with_name(f".{folder.name}.partial")
        try:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True, mode=0o700)
            archives = []
            for part, source in parts.items():
                if source.is_dir():
                    report(part)
                    archives.append(_archive(part, source, scratch))
            _write_synced(scratch / MANIFEST, json.dumps(_manifest(archives), indent=2).encode() + b"\n")
            scratch.rename(folder)
        except OSError as error:
            raise BackupError(f"The backup could not be made: {_what(error)}; nothing of it is kept.") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        kept = {path.split("/")[0] for path, _ in KEPT.values()}
        left_out = sorted(each.name for each in settings.state_dir.iterdir() if each.name not in kept)
        return Backup(tuple(archives), tuple(left_out))


def restore(settings: Settings, folder: Path, report: Callable[[str], None] = lambda _part: None) -> Backup:
    """Put a backup into a state folder that is empty or not there; it is whole there, or not at all.

    Raises:
        BackupError: The state folder holds something, or the backup is damaged, of another format, or not whole.
    """
    state = settings.state_dir
    if state.exists() and any(state.iterdir()):
        raise BackupError(f"{state} holds something already; restore into a new folder (GYRE_STATE_DIR).")
    archives = verified(folder, report)
    scratch = state.with_name(f".{state.name}.partial")
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, mode=0o700)
        for each in archives:
            report(each.part)
            target = scratch / KEPT[each.part][0]
            # Of owners' alone, as `gyre up` makes them.
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.mkdir(mode=0o700)
            with tarfile.open(folder / f"{each.part}.tar") as archive:
                archive.extractall(target, filter="data")
        if state.exists():
            state.rmdir()
        scratch.rename(state)
    except (OSError, tarfile.TarError) as error:
        raise BackupError(f"The backup could not be restored: {_what(error)}; nothing of it is kept.") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Backup(tuple(archives))


def verified(folder: Path, report: Callable[[str], None] = lambda _part: None) -> list[Archived]:
    """Return the archives of a backup, each read to its end and found as it was written.

    Raises:
        BackupError: One is missing or damaged, or there is no manifest that can be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise BackupError(f"{folder} is a backup of format {manifest['format']}; this Gyre reads {FORMAT}.")
        archives = [Archived(part=part, **each) for part, each in manifest["archives"].items()]
        if unknown := {each.part for each in archives} - KEPT.keys():
            raise BackupError(f"{folder} holds {min(unknown)}, which this Gyre does not know; restore it with a newer.")
    except FileNotFoundError as error:
        raise BackupError(f"{folder} holds no {MANIFEST}, so it is no backup, or not a whole one.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BackupError(f"{folder / MANIFEST} cannot be read: it is damaged.") from error
    for each in archives:
        report(each.part)
        path = folder / f"{each.part}.tar"
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise BackupError(f"The backup cannot be read: {_what(error)}.") from error
        if digest != each.sha256:
            raise BackupError(f"{path} is damaged: its SHA-256 is not that of {MANIFEST}.")
    return archives


def _archive(part: str, source: Path, folder: Path) -> Archived:
    path = folder / f"{part}.tar"
    files = 0

    def counted(member: tarfile.TarInfo) -> tarfile.TarInfo:
        nonlocal files
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            raise OSError(0, "it is no file and no folder", str(source / member.name))
        if member.issym() and not (source / member.name).resolve().is_relative_to(source.resolve()):
            raise OSError(0, f"it leads out of {source}, where nothing is backed up", str(source / member.name))
        files += not member.isdir()
        return member

    _check_all_are_files(source)
    # They hold what people asked and, one of them, secrets.
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            archive.add(source, arcname=".", filter=counted)
        file.flush()
        os.fsync(file.fileno())
    with path.open("rb") as written:  # as it is on the disk
        return Archived(part, files, path.stat().st_size, hashlib.file_digest(written, "sha256").hexdigest())


def _check_all_are_files(source: Path) -> None:
    """Raise where something is that an archive would silently leave out."""
    for path in source.rglob("*"):
        if path.is_socket() or path.is_fifo():
            raise OSError(0, "it is a socket or pipe, of something that still runs", str(path))


def _manifest(archives: list[Archived]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        # For whoever has to find out with what it can be read.
        "versions": {"gyre": metadata.version("gyre-flywheel"), "kafka": KAFKA, "chdb": metadata.version("chdb")},
        "archives": {each.part: {"files": each.files, "bytes": each.bytes, "sha256": each.sha256} for each in archives},
    }


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _what(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)
