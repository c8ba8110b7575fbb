from pathlib import Path

from embedded.stack import log_tail


def test_the_last_lines_come_oldest_first(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("".join(f"line {number}\n" for number in range(20_000)))
    assert log_tail(tmp_path / "log", 2) == ["line 19998", "line 19999"]


def test_what_was_there_before_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    before = log.stat().st_size
    with log.open("a") as file:
        file.write("after\n")
    assert log_tail(log, after_bytes=before) == ["after"]


def test_a_log_that_was_rotated_meanwhile_is_all_new(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("new\n")
    assert log_tail(tmp_path / "log", after_bytes=1000) == ["new"]


def test_no_log_has_no_lines(tmp_path: Path) -> None:
    assert log_tail(tmp_path / "log") == []
