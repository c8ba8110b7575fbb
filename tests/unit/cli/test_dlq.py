import pytest
from click.testing import CliRunner

from gyre.cli import main
from gyre.cli.dlq import readable


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("Zürich\n\t1".encode(), "Zürich\n\t1"),
        (b"\xff\x01", "ff 01"),
        (b"\x1b[2J", "1b 5b 32 4a"),  # what a terminal would obey
        (bytes(1025), " ".join(["00"] * 1024) + " and 1 bytes more"),
    ],
)
def test_bytes_are_text_where_they_can_be_read_and_else_hexadecimal(data: bytes, text: str) -> None:
    assert readable(data) == text


@pytest.mark.parametrize("arguments", [["replay", "triage.labels.v1"], ["replay", "triage.labels.v1", "3", "--all"]])
def test_what_to_replay_has_to_be_said_in_one_way(arguments: list[str]) -> None:
    result = CliRunner().invoke(main, ["dlq", *arguments])
    assert result.exit_code == 2
    assert "Name the offsets of letters, or --all." in result.output


def test_a_topic_that_does_not_exist_is_named_beside_those_that_do() -> None:
    result = CliRunner().invoke(main, ["dlq", "list", "--topic", "router.gossip.v1"])
    assert result.exit_code == 2
    assert "'router.gossip.v1' is none of router.interactions.v1, " in result.output
