"""Run specifications on disk, and what stays out of the service's own process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.trainer.training.configuration import RunSpecification, cpu, gpu, read_specification, write_specification


@pytest.fixture
def specification(tmp_path: Path) -> RunSpecification:
    for folder, file in (("dataset", "manifest.json"), ("base", "config.json")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("{}")
    return RunSpecification(dataset="../dataset", base="../base", configuration=cpu(), seed=3)


def test_what_is_read_is_what_was_written_with_paths_made_whole(
    specification: RunSpecification, tmp_path: Path
) -> None:
    write_specification(tmp_path / "run", specification)
    assert read_specification(tmp_path / "run") == msgspec.structs.replace(
        specification, dataset=str(tmp_path / "dataset"), base=str(tmp_path / "base")
    )


def test_runs_that_learn_the_same_share_a_fingerprint_wherever_they_run(specification: RunSpecification) -> None:
    replace = msgspec.structs.replace
    assert replace(specification, ray_address="ray-head:6379").fingerprint == specification.fingerprint
    assert replace(specification, seed=4).fingerprint != specification.fingerprint
    assert replace(specification, configuration=gpu()).fingerprint != specification.fingerprint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trained_depth", 0),
        ("trained_depth", 1.5),
        ("precision", "float8"),
        ("epochs", 0),
        ("learning_rate", -1e-3),
        ("use_gpu", "yes"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_by_its_field(
    specification: RunSpecification, tmp_path: Path, field: str, value: object
) -> None:
    raw: dict[str, Any] = json.loads(msgspec.json.encode(specification))
    raw["configuration"][field] = value
    (tmp_path / "run.json").write_text(json.dumps(raw))
    with pytest.raises(ValueError, match=rf"run\.json: .*\$\.configuration\.{field}"):
        read_specification(tmp_path)


def test_nothing_in_a_configuration_is_left_to_a_default(specification: RunSpecification, tmp_path: Path) -> None:
    raw = json.loads(msgspec.json.encode(specification))
    for field in list(raw["configuration"]):
        less = {
            **raw,
            "configuration": {name: raw["configuration"][name] for name in raw["configuration"] if name != field},
        }
        (tmp_path / "run.json").write_text(json.dumps(less))
        with pytest.raises(ValueError, match=f"missing required field `{field}`"):
            read_specification(tmp_path)


def test_more_workers_than_rows_in_a_batch_are_refused(specification: RunSpecification, tmp_path: Path) -> None:
    many = msgspec.structs.replace(specification.configuration, workers=17)
    write_specification(tmp_path / "run", msgspec.structs.replace(specification, configuration=many))
    with pytest.raises(ValueError, match=r"workers \(17\) must not exceed configuration\.batch_size \(4\)"):
        read_specification(tmp_path / "run")


def test_no_part_that_the_service_itself_needs_imports_torch_or_ray() -> None:
    modules = "bootstrap, run, training.configuration, training.examples, training.progress"
    imports = "; ".join(f"import services.trainer.{name}" for name in modules.split(", "))
    program = f"import sys; {imports}; print(sorted({{'torch', 'ray', 'transformers', 'peft'}} & sys.modules.keys()))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).strip() == "[]"
