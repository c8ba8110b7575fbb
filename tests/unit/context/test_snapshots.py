"""Snapshots as files, and what goes into them and comes out."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from schemas.events import Document, Message, Sensitivity, ToolCall
from schemas.topics import Topic
from services.context.adapters import HybridIndex
from services.context.bootstrap import fingerprint
from services.context.domain.memory import Memory, Rule, Turn
from services.context.settings import Settings
from services.context.snapshots import Snapshot, SnapshotFile
from tests.unit.context.test_index import KnownMeanings, document, found

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CALL = ToolCall(id="1", name="find", arguments="{}")
TURN = Turn(
    NOON, "r", (Message(role="user", content="a"), Message(role="assistant", tool_calls=(CALL,))), Sensitivity.PUBLIC
)


def index(*documents: Document) -> HybridIndex:
    embedder: Any = KnownMeanings()
    made = HybridIndex(embedder, passage_tokens=50, candidates=10, minimum_similarity=0.9)
    made.update(documents)
    return made


def memory(hours: float = 24) -> Memory:
    made = Memory(8, 8, 100, 1000)
    made.rule({"t": Rule(timedelta(hours=hours), Sensitivity.RESTRICTED)}, NOON)
    return made


def snapshot(file: SnapshotFile, of: HybridIndex, remembered: Memory) -> Snapshot:
    return Snapshot(
        fingerprint=file.fingerprint,
        offsets=[(Topic.DOCUMENTS, 0, 17), (Topic.INTERACTIONS, 3, 4)],
        documents=of.dump(),
        remembered=remembered.dump(),
    )


def test_what_was_written_is_read_and_finds_the_same(tmp_path: Path) -> None:
    kept = memory()
    kept._conversations["t", "c"] = [TURN]
    kept.forget("t", "gone", NOON)
    first = index(
        document("a", "refund form\n\n" + "money " * 60), document("b", "pizza", level=Sensitivity.RESTRICTED)
    )
    file = SnapshotFile(tmp_path / "new", "x")
    written = snapshot(file, first, kept)
    file.write(written)
    read = SnapshotFile(tmp_path / "new", "x").read()
    assert read == written
    second, again = index(), memory()
    second.restore(read.documents)
    again.restore(read.remembered, NOON)
    for query in ("refund form", "reimburse", "dinner", "pizza"):
        assert found(second, query) == found(first, query) != []
        assert found(second, query, level=Sensitivity.PUBLIC) == found(first, query, level=Sensitivity.PUBLIC)
    assert again.recall("t", "c", Sensitivity.PUBLIC, NOON) == [TURN]
    assert again.dump() == kept.dump()
    second.update([document("a", "", deleted=True)])
    assert found(second, "refund form") == []


def test_what_was_deleted_is_in_no_snapshot() -> None:
    held = index(document("a", "refund form"), document("b", "pizza"))
    held.update([document("a", "", deleted=True)])
    assert [each.document_key for each in held.dump()] == ["t/b"]


def test_of_a_snapshot_only_what_the_rules_still_allow_is_remembered() -> None:
    kept = memory()
    kept._conversations["t", "c"] = [TURN]
    stricter = memory(hours=1)
    stricter.restore(kept.dump(), NOON + timedelta(hours=2))
    assert stricter.dump().conversations == []


def test_only_its_owner_can_read_it_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "new", "x")
    (tmp_path / "new").mkdir(mode=0o700)
    (tmp_path / "new" / "killed.partial").write_text("half")
    file.write(snapshot(file, index(), memory()))
    (path,) = (tmp_path / "new").iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[:40] + b"x" + content[41:],
        lambda content: b"no snapshot at all, but long enough to hold a digest",
    ],
)
def test_a_damaged_snapshot_is_none(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    file = SnapshotFile(tmp_path, "x")
    file.write(snapshot(file, index(document("a", "refund form")), memory()))
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert file.read() is None


def test_a_snapshot_of_other_embeddings_or_settings_is_none(tmp_path: Path) -> None:
    assert SnapshotFile(tmp_path, "x").read() is None
    file = SnapshotFile(tmp_path, fingerprint(Settings(), "embeddings"))
    file.write(snapshot(file, index(), memory()))
    assert file.read() is not None
    assert SnapshotFile(tmp_path, fingerprint(Settings(), "others")).read() is None
    assert SnapshotFile(tmp_path, fingerprint(Settings(passage_tokens=100), "embeddings")).read() is None
    assert SnapshotFile(tmp_path, fingerprint(Settings(snapshot_seconds=1), "embeddings")).read() is not None
