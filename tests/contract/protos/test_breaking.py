"""A change of protos/ that would break a caller is found by buf."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUF = Path(sys.executable).parent / "buf"
ROOT = Path(__file__).parents[3]


def _breaking(changed: Path, against: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BUF, "breaking", str(changed), "--against", str(against)], capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "protos", tmp_path / "protos")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def test_an_added_field_breaks_nobody(copy: Path) -> None:
    proto = copy / "protos/gyre/api/router/v1/router.proto"
    added = "  string feedback_id = 1;\n  string note = 2;\n"
    proto.write_text(proto.read_text().replace("  string feedback_id = 1;\n", added))
    assert _breaking(copy, ROOT).returncode == 0


def test_a_removed_field_is_found(copy: Path) -> None:
    proto = copy / "protos/gyre/api/router/v1/router.proto"
    proto.write_text(proto.read_text().replace("  string feedback_id = 1;\n", ""))
    result = _breaking(copy, ROOT)
    assert result.returncode != 0
    assert "feedback_id" in result.stdout


def test_the_protos_do_not_break_with_the_last_release(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so no released API is at hand")
    tags = subprocess.run(
        ["git", "tag", "--list", "v*", "--sort=-v:refname"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout.split()
    if not tags:
        pytest.skip("nothing has been released yet, so there is no released API to hold to")
    archive = subprocess.run(
        ["git", "archive", tags[0], "protos", "buf.yaml"], capture_output=True, cwd=ROOT, check=True
    )
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive.stdout, check=True)
    result = _breaking(ROOT, tmp_path)
    assert result.returncode == 0, result.stdout
