"""Backups of a state folder: what is in them, and when they are refused."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from embedded.backup import KEPT, MANIFEST, back_up, restore, verified
from embedded.errors import BackupError
from embedded.settings import Settings
from gyre.cli import main


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A stack that is down, with a file in each folder."""
    state = tmp_path / "state"
    for path in (*(path for path, _ in KEPT.values()), "logs", "run"):
        (state / path).mkdir(parents=True, exist_ok=True)
    (state / "kafka" / "meta.properties").write_text("cluster.id=x")
    (state / "kafka" / "empty").mkdir()
    (state / "clickhouse" / "engine" / "part").write_bytes(b"\0" * 1000)
    (state / "clickhouse" / "engine" / "table").symlink_to("part")
    (state / "artifacts" / "adapter").write_text("weights")
    secret = state / "run" / "secrets" / "audit-signing-keys"
    secret.write_text("the key")
    secret.chmod(0o600)
    return Settings(state_dir=state)


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): "folder"
        if path.is_dir() and not path.is_symlink()
        else os.readlink(path)
        if path.is_symlink()
        else path.read_bytes().hex()
        for path in folder.rglob("*")
    }


def test_what_is_restored_is_what_was_there_links_empty_folders_and_modes_included(
    settings: Settings, tmp_path: Path
) -> None:
    made = back_up(settings, tmp_path / "backup")
    assert made.left_out == ("logs",)
    new = tmp_path / "new"
    restore(Settings(state_dir=new), tmp_path / "backup")
    for path, _ in KEPT.values():
        assert content(new / path) == content(settings.state_dir / path)
    assert (new / "run" / "secrets" / "audit-signing-keys").stat().st_mode & 0o777 == 0o600
    assert (new / "run" / "secrets").stat().st_mode & 0o777 == 0o700
    assert not (new / "logs").exists()


def test_a_backup_is_for_its_owner_alone(settings: Settings, tmp_path: Path) -> None:
    back_up(settings, tmp_path / "backup")
    assert (tmp_path / "backup").stat().st_mode & 0o077 == 0
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "backup").glob("*.tar")} == {0o600}


def test_what_cannot_be_archived_is_an_error_and_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    os.mkfifo(settings.state_dir / "kafka" / "pipe")
    with pytest.raises(BackupError, match="kafka/pipe: it is a socket or pipe"):
        back_up(settings, tmp_path / "backup")
    (settings.state_dir / "kafka" / "pipe").unlink()
    (settings.state_dir / "artifacts" / "out").symlink_to(tmp_path)
    with pytest.raises(BackupError, match="artifacts/out: it leads out of"):
        back_up(settings, tmp_path / "backup")
    assert [each.name for each in tmp_path.iterdir()] == ["state"]


def test_a_damaged_or_missing_archive_is_found_before_anything_is_written(settings: Settings, tmp_path: Path) -> None:
    backup, new = tmp_path / "backup", tmp_path / "new"
    back_up(settings, backup)
    archive = backup / "clickhouse.tar"
    whole = archive.read_bytes()
    archive.write_bytes(whole[:600] + b"\1" + whole[601:])
    with pytest.raises(BackupError, match=r"clickhouse\.tar is damaged"):
        restore(Settings(state_dir=new), backup)
    archive.unlink()
    with pytest.raises(BackupError, match=r"clickhouse\.tar: No such file"):
        restore(Settings(state_dir=new), backup)
    archive.write_bytes(whole)
    assert {each.part for each in verified(backup)} == KEPT.keys()
    (backup / MANIFEST).write_text("{")
    with pytest.raises(BackupError, match="damaged"):
        restore(Settings(state_dir=new), backup)
    (backup / MANIFEST).unlink()
    with pytest.raises(BackupError, match="it is no backup, or not a whole one"):
        restore(Settings(state_dir=new), backup)
    assert not new.exists()


def test_a_backup_of_another_format_or_with_unknown_parts_is_refused(settings: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    back_up(settings, backup)
    manifest = json.loads((backup / MANIFEST).read_text())
    for changed, reason in (
        ({**manifest, "format": 2}, "of format 2; this Gyre reads 1"),
        ({**manifest, "archives": {"../x": manifest["archives"]["kafka"]}}, "does not know"),
    ):
        (backup / MANIFEST).write_text(json.dumps(changed))
        with pytest.raises(BackupError, match=reason):
            restore(Settings(state_dir=tmp_path / "new"), backup)


def test_nothing_that_is_there_is_written_over(settings: Settings, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    back_up(settings, backup)
    with pytest.raises(BackupError, match="is there already"):
        back_up(settings, backup)
    with pytest.raises(BackupError, match="holds something already"):
        restore(settings, backup)


def test_a_folder_without_a_stack_is_no_stack(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="There is no stack in"):
        back_up(Settings(state_dir=tmp_path / "none"), tmp_path / "backup")


def test_the_commands_say_what_is_kept_what_is_left_out_and_that_there_are_secrets(
    settings: Settings, tmp_path: Path
) -> None:
    runner, backup = CliRunner(), tmp_path / "backup"
    said = runner.invoke(main, ["backup", str(backup), "--state-dir", str(settings.state_dir)])
    assert said.exit_code == 0, said.output
    assert "passwords, the key that signs the record, accounts" in said.output
    assert "Left out: logs" in said.output
    assert "It holds secrets in the clear (secrets.tar)" in said.output
    assert "the key\n" not in said.output
    said = runner.invoke(main, ["restore", str(backup), "--state-dir", str(tmp_path / "new")])
    assert said.exit_code == 0, said.output
    assert "Start it: gyre up." in said.output
    said = runner.invoke(main, ["restore", str(backup), "--state-dir", str(tmp_path / "new")])
    assert (said.exit_code, said.output.startswith("Error: ")) == (1, True)
