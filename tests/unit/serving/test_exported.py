"""An export is checked without a server: whatever is done to it is found, and a whole one is whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from safetensors.numpy import load_file, save_file

from gyre.cli import main
from gyre.exports import Finding, verify
from schemas.exports import CHECKSUMS, PROOF, files_of, sha256, write_checksums
from schemas.ledger.notes import SigningKey
from schemas.ledger.proofs import Proof
from schemas.topics import Topic
from services.audit.signing import Keys
from tests.unit.audit.proofs import proof_of
from tests.unit.serving.conftest import CANDIDATE, DEPLOYMENT, exporter

KEY, STRANGER = SigningKey.generate("gyre-audit"), SigningKey.generate("stranger")
TOLD = {Topic.CANDIDATES: [CANDIDATE], Topic.DEPLOYMENTS: [DEPLOYMENT]}
DAMAGES = 200


@pytest.fixture(scope="module")
async def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    folder = root / "artifacts" / exporter(root).export(CANDIDATE, DEPLOYMENT)[0]
    add_proof(folder, await proof_of(CANDIDATE.candidate_id, TOLD, Keys([KEY])))
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "export")


def add_proof(folder: Path, proof: Proof) -> None:
    (folder / PROOF).write_text(proof.json())
    write_checksums(folder, PROOF)


def check(folder: Path) -> list[Finding]:
    return verify(folder, [KEY.verifying])


def checksums_anew(folder: Path) -> None:
    """What a forger would do."""
    (folder / CHECKSUMS).unlink()
    write_checksums(folder, *files_of(folder))


def test_a_whole_export_has_no_findings(whole: Path) -> None:
    assert check(whole) == []


# What may be done to a file. Each returns the file in which it is found.
def flip_a_bit(chance: Random, folder: Path, name: str) -> str:
    content = bytearray((folder / name).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(content)
    return name


def cut_it_short(chance: Random, folder: Path, name: str) -> str:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: chance.randrange(len(content))])
    return name


def remove_it(chance: Random, folder: Path, name: str) -> str:
    (folder / name).unlink()
    return name


def rename_it(chance: Random, folder: Path, name: str) -> str:
    (folder / name).rename(folder / f"{name}.old")
    return chance.choice([name, f"{name}.old"])


def put_another_there(chance: Random, folder: Path, name: str) -> str:
    other = chance.choice([each for each in files_of(folder) if sha256(folder / each) != sha256(folder / name)])
    shutil.copyfile(folder / other, folder / name)
    return name


def put_a_link_there(chance: Random, folder: Path, name: str) -> str:
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    return name


def put_one_beside_it(chance: Random, folder: Path, name: str) -> str:
    beside = (folder / name).parent / f"{chance.random()}.py"
    beside.write_text("import os")
    return str(beside.relative_to(folder))


def garble_its_checksum(chance: Random, folder: Path, name: str) -> str:
    digest = sha256(folder / name)
    other = "".join(chance.choices("0123456789abcdef", k=64))
    sums = (folder / CHECKSUMS).read_text()
    (folder / CHECKSUMS).write_text(sums.replace(f"{digest}  {name}\n", f"{other}  {name}\n"))
    return name


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        cut_it_short,
        remove_it,
        rename_it,
        put_another_there,
        put_a_link_there,
        put_one_beside_it,
        garble_its_checksum,
    ],
)
def test_a_damaged_file_is_named(whole: Path, tmp_path: Path, damage: Callable[[Random, Path, str], str]) -> None:
    names = files_of(whole)
    for seed in range(DAMAGES // 8):
        chance = Random(f"{damage.__name__}{seed}")
        folder = shutil.copytree(whole, tmp_path / str(seed) / "export")
        name = damage(chance, folder, chance.choice(names))
        assert name in [finding.name for finding in check(folder)], seed


def test_without_checksums_every_file_is_one_that_nothing_vouches_for(folder: Path) -> None:
    (folder / CHECKSUMS).write_text("")
    assert {(each.name, each.problem) for each in check(folder)} == {
        (name, f"is not in {CHECKSUMS}") for name in files_of(folder)
    }
    (folder / CHECKSUMS).write_text("abc  README.md\n")
    problem = "cannot be read: line 1 is no checksum: wanted 64 hex digits, two spaces and a name"
    assert check(folder) == [Finding(CHECKSUMS, problem)]


def edit(name: str, **changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**document, **changes}))

    return change


def scale(folder_name: str, factor: float) -> Callable[[Path], None]:
    """Changes the last tensor of a folder."""

    def change(folder: Path) -> None:
        (path,) = (folder / folder_name).glob("*.safetensors")
        tensors = load_file(path)
        name = max(name for name in tensors if "proj" in name)
        tensors[name] = tensors[name] * np.float32(factor)
        save_file(tensors, path, metadata={"format": "pt"})

    return change


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def write(name: str, content: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(content) and None


MODEL = DEPLOYMENT.model
APART = "is not what base and adapter add up to"


@pytest.mark.parametrize(
    ("forge", "name", "problem"),
    [
        (drop("gate.json"), "gate.json", "is missing"),
        (drop("merged/tokenizer.json"), "merged/tokenizer.json", "is missing"),
        (drop(f"triton/gpu/{MODEL}/1/multi_lora.json"), f"triton/gpu/{MODEL}/1/multi_lora.json", "is missing"),
        (drop("audit-proof.json"), "audit-proof.json", "is missing: nothing shows that gate.json and deployment.json"),
        (write("gate.json", "{"), "gate.json", "cannot be read: Input data was truncated"),
        (write("dataset.json", "{}"), "dataset.json", "cannot be read: Object missing required field `dataset_id`"),
        (write("adapter/adapter_config.json", "["), "adapter/adapter_config.json", "cannot be read"),
        (write("README.md", "# A model"), "README.md", f"does not say 'candidate_id: {CANDIDATE.candidate_id}'"),
        (write("README.md", "# A model"), "README.md", f"does not say 'dataset_id: {CANDIDATE.dataset_id}'"),
        (edit("gate.json", verdict="refuse"), "gate.json", "verdict is 'refuse'; what goes live has 'promote'"),
        (edit("gate.json", candidate_accuracy=0.99), "gate.json", "is not what audit-proof.json shows to be on record"),
        (edit("gate.json", candidate_id="other"), "deployment.json", "gate.json has 'other'"),
        (write("report.html", "<p>refused</p>"), "report.html", "is not the report that gate.json has the SHA-256 of"),
        (drop("report.html"), "report.html", "is missing"),
        (edit("adapter/adapter_config.json", lora_alpha=7), "adapter", "is not the adapter that gate.json has"),
        (scale("adapter", 1.0001), "adapter", "is not the adapter that gate.json has the SHA-256 of"),
        (edit("gate.json", dataset_id="other"), "dataset.json", "gate.json has 'other'"),
        (edit("deployment.json", task="other"), "deployment.json", "task is 'other'; gate.json has 'orders'"),
        (edit("deployment.json", reason="other"), "deployment.json", "is not what audit-proof.json shows"),
        (edit("response_schema.json", type="array"), "response_schema.json", 'type is not "object"'),
        (edit("adapter/adapter_config.json", base_model_name_or_path="/a"), "adapter/adapter_config.json", "is not"),
        (edit("adapter/adapter_config.json", lora_alpha=7), "merged", APART),
        (edit("adapter/adapter_config.json", peft_type="IA3"), "merged", "peft_type is 'IA3'; wanted 'LORA'"),
        (edit(f"triton/cpu/{MODEL}/1/model.json", base_gguf="/a"), f"triton/cpu/{MODEL}/1/model.json", "base_gguf is"),
        (edit(f"triton/gpu/{MODEL}/1/model.json", model="/a"), f"triton/gpu/{MODEL}/1/model.json", 'is not "base"'),
        (scale("merged", 1.0001), "merged", APART),
        (scale("base", 1.0001), "merged", APART),
        (scale("adapter", 1.0001), "merged", APART),
        (scale("merged", float("nan")), "merged", APART),
        (write("merged/model.safetensors", "nothing"), "merged", "cannot be held to base and adapter"),
    ],
)
def test_what_is_forged_with_checksums_made_anew_shows_by_what_it_disagrees_with(
    folder: Path, forge: Callable[[Path], None], name: str, problem: str
) -> None:
    forge(folder)
    checksums_anew(folder)
    findings = check(folder)
    assert [each for each in findings if each.name == name and problem in each.problem], findings
    assert len({*findings}) == len(findings)


def test_a_tensor_that_is_left_out_of_what_is_merged_is_named(folder: Path) -> None:
    tensors = load_file(folder / "merged" / "model.safetensors")
    last = max(tensors)
    save_file({name: each for name, each in tensors.items() if name != last}, folder / "merged" / "model.safetensors")
    checksums_anew(folder)
    (found,) = check(folder)
    assert found == Finding("merged", f"has no more tensors (0,) where base and adapter have {last} (64,)")


async def test_only_a_proof_of_these_records_by_a_believed_key_is_one(folder: Path) -> None:
    other = replace(CANDIDATE, candidate_id="019aa0c0-0000-7000-8000-00000000000f")
    told = {Topic.CANDIDATES: [other], Topic.DEPLOYMENTS: [replace(DEPLOYMENT, candidate_id=other.candidate_id)]}
    proof = await proof_of(CANDIDATE.candidate_id, TOLD, Keys([KEY]))
    for forged, problem in (
        (await proof_of(other.candidate_id, told, Keys([KEY])), "is not what audit-proof.json shows to be on record"),
        (await proof_of(CANDIDATE.candidate_id, TOLD, Keys([STRANGER])), "and by none of the keys given"),
        (
            replace(proof, rows=proof.rows[:1], unsigned=["serving.deployments.v1/0 7"]),
            "not signed yet when it was exported: serving.",
        ),
        (replace(proof, rows=[replace(row, payload=row.payload + b"x") for row in proof.rows]), "not those that were"),
    ):
        (folder / PROOF).write_text(forged.json())
        checksums_anew(folder)
        findings = check(folder)
        assert findings
        assert all(problem in each.problem for each in findings), findings
        assert verify(folder) == []  # without a key nothing is said of what is on record


def test_the_command_names_what_is_wrong_and_fails(folder: Path) -> None:
    command = ["export", "verify", str(folder)]
    result = CliRunner().invoke(main, [*command, "--key", str(KEY.verifying)])
    assert (result.exit_code, "on record, as signed" in result.output) == (0, True), result.output
    assert "give --key" in CliRunner().invoke(main, command).output
    (folder / "README.md").unlink()
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.output) == (1, "README.md: is missing\n")
    result = CliRunner().invoke(main, [*command, "--key", "nonsense"])
    assert (result.exit_code, "Invalid value for --key" in result.output) == (2, True)


def test_a_folder_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["export", "care", "orders", str(tmp_path)])
    assert (result.exit_code, result.output) == (1, f"Error: {tmp_path} is there already; name a new folder.\n")
    result = CliRunner().invoke(main, ["export", "care"])
    assert (result.exit_code, "Missing argument 'TASK'" in result.output) == (2, True)
