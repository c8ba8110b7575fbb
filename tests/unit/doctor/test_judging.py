"""What is made of facts that no test can bring about here: of machines, stacks and groups."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from embedded.settings import Settings
from embedded.stack import Stack
from gyre.doctor.checks import Severity
from gyre.doctor.machine import (
    Descriptors,
    Disk,
    Memory,
    PartFacts,
    Versions,
    judge_descriptors,
    judge_disks,
    judge_memory,
    judge_parts,
    judge_versions,
    last_words,
)
from gyre.doctor.reading import GroupFacts, judge_groups
from gyre.doctor.record import ServerDisk, Signed, judge_server_disks, judge_signed
from gyre.doctor.weights import damage
from schemas.ledger.notes import SigningKey
from services.audit.settings import Settings as AuditSettings
from tests.unit.doctor.test_checks import HERE

GIB = 2**30


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(Settings(state_dir=tmp_path))


def test_an_old_python_and_a_java_that_kafka_does_not_run_on_are_told(stack: Stack) -> None:
    found = list(judge_versions(replace(HERE, stack=stack), Versions((3, 13), 11)))
    assert [each.cause for each in found] == [
        "This is Python 3.13; Gyre runs on 3.11 and 3.12.",
        "Java is of version 11; Kafka 4 runs on 17 and later.",
    ]
    assert found[1].breaks == ("kafka",)
    assert not list(judge_versions(replace(HERE, stack=stack), Versions((3, 12), 25)))


def test_java_that_does_not_run_and_a_triton_that_is_not_installed_are_told(stack: Stack) -> None:
    facts = Versions((3, 12), 0, "exec format error", True, "/x/python has no tritonserver; run `make setup`.")
    causes = [each.cause for each in judge_versions(replace(HERE, stack=stack), facts)]
    assert causes == [
        "Java cannot be run: exec format error.",
        "Triton cannot be started: /x/python has no tritonserver.",
    ]


@pytest.mark.parametrize(
    ("total", "available", "severities"),
    [(16, 9, []), (10, 5, [Severity.WARNING]), (6, 4, [Severity.ERROR]), (16, 0.1, [Severity.ERROR])],
)
def test_memory_is_judged_by_what_there_is_and_what_is_left(
    total: float, available: float, severities: list[Severity]
) -> None:
    found = list(judge_memory(HERE, Memory(int(total * GIB), int(available * GIB), "ray (process 7, 3.0 GiB)")))
    assert [each.severity for each in found] == severities
    if available < 1:
        assert "most of it has ray (process 7, 3.0 GiB)" in found[0].cause


def test_few_file_descriptors_are_told_of_running_parts_or_else_of_this_shell() -> None:
    def causes(limit: int, **parts: tuple[int, int]) -> list[str]:
        return [each.cause for each in judge_descriptors(HERE, Descriptors(limit, parts))]

    assert causes(1024) == ["A process started from here may have only 1024 files open."]
    assert causes(1024, kafka=(300, 65536)) == []
    assert causes(65536, kafka=(300, 1024)) == ["kafka may have only 1024 files open each."]
    assert causes(65536, kafka=(60000, 65536)) == ["kafka has 60000 of the 65536 files open that it may."]


def test_disks_are_judged_by_what_is_left_of_bytes_and_files() -> None:
    def found(free: float, total: float, **files: int) -> list[Severity]:
        disk = Disk("/data", "records", int(free * GIB), int(total * GIB), **files)
        return [each.severity for each in judge_disks(HERE, [disk])]

    assert found(50, 500) == []
    assert found(4, 500) == [Severity.WARNING]
    assert found(0.5, 500) == [Severity.ERROR]
    assert found(50, 500, free_files=5, files=1_000_000) == [Severity.ERROR]
    assert list(judge_server_disks(HERE, [ServerDisk("default", 2 * GIB, 500 * GIB)]))
    assert not list(judge_server_disks(HERE, [ServerDisk("default", 200 * GIB, 500 * GIB)]))


def parts(stack: Stack, *facts: PartFacts) -> list[tuple[str, str]]:
    ready = [PartFacts(name, "ready") for name in ("kafka", "audit") if name not in {each.name for each in facts}]
    return [(each.severity.value, each.cause) for each in judge_parts(replace(HERE, stack=stack), [*ready, *facts])]


def test_a_part_that_fails_is_told_with_its_last_words_and_what_waits_for_it_is_not(stack: Stack) -> None:
    assert parts(
        stack,
        PartFacts("kafka", "failed", last_words="no space left on device"),
        PartFacts("audit", "restarting", after=("kafka",), last_words="Kafka does not answer"),
    ) == [("error", "kafka ends as soon as it is started; its log ends with: no space left on device.")]


def test_a_part_that_starts_is_to_be_waited_for_and_one_that_hangs_is_told(stack: Stack) -> None:
    assert parts(stack, PartFacts("audit", "starting")) == [("warning", "audit is starting.")]
    assert parts(stack, PartFacts("audit", "not answering")) == [("error", "audit runs and does not answer.")]


def test_last_words_are_the_last_error_of_a_log_or_its_last_line() -> None:
    lines = ['{"event": "failed", "level": "error", "error": "no key"}', '{"event": "stopping", "level": "info"}']
    assert last_words(lines) == "failed: no key"
    assert last_words(["Traceback (most recent call last):", "  File x", "ValueError: no"]) == "ValueError: no"
    assert last_words([]) == ""


def test_a_group_is_judged_by_its_members_and_whether_it_gains() -> None:
    def causes(**facts: object) -> list[str]:
        group = replace(GroupFacts(1, (0, 0), 0), **facts)  # type: ignore[arg-type]
        return [each.cause for each in judge_groups("triage")(HERE, {"gyre-triage": group})]

    assert causes() == []
    assert causes(behind=(900, 950)) == []
    assert causes(behind=(5000, 4000), read=2000) == []
    assert causes(behind=(5000, 5100), read=100) == [
        "gyre-triage does not keep up: it is 5,100 records behind, 100 more than 3 s before."
    ]
    assert causes(behind=(5000, 5000)) == ["gyre-triage stands still, 5,000 records behind."]
    assert "Nobody reads" in causes(members=0)[0]


def test_a_key_that_is_gone_from_a_stack_whose_record_it_signed_is_told(stack: Stack) -> None:
    key = SigningKey.generate("gyre-audit")
    signed = Signed(rows=True, key_ids={key.verifying.label})
    (found,) = judge_signed(replace(HERE, stack=stack), signed)
    assert found.cause == f"The signing key {key.verifying.label} is gone from this machine."
    # The environment of an operator need not hold it.
    assert not list(judge_signed(HERE, signed))
    for audit in (
        AuditSettings(signing_keys=SecretStr(key.secret())),
        AuditSettings(signing_keys=SecretStr(SigningKey.generate("new").secret()), former_keys=str(key.verifying)),
    ):
        assert not list(judge_signed(replace(HERE, audit=audit), signed))
    (found,) = judge_signed(replace(HERE, audit=AuditSettings(signing_keys=SecretStr("no-key"))), signed)
    assert "no-key" not in found.cause


def test_a_file_of_weights_that_was_cut_off_is_told_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    header = b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'
    whole = struct.pack("<Q", len(header)) + header + b"\0" * 16
    path.write_bytes(whole)
    assert damage(path) == ""
    path.write_bytes(whole[:-1])
    assert damage(path) == f"it has {len(whole) - 1} bytes, wanted {len(whole)}"
    path.write_bytes(b"<html>")
    assert damage(path) == "it does not begin as safetensors does"
    assert damage(tmp_path / "none.gguf") == "it is missing"
    (tmp_path / "x.gguf").write_bytes(b"GGUF\x03\0\0\0")
    assert damage(tmp_path / "x.gguf") == "it does not begin as gguf does"
