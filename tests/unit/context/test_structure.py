"""Documents cut by their structure."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.context.domain.passages import estimated_tokens
from services.context.domain.structure import Part, cut

MANUAL = """\
# Manual

Read this first.

## Returns

Parcels may be sent back.

### Abroad

Ask the desk.

Payment
-------

By card only.
"""
TABLE = ["| city | hours |", "|---|:-:|", "| Bonn | nine to five |", "| Kiel | ten to six |", "| Ulm | never |"]


def texts(text: str, tokens: int) -> list[str]:
    return [part.text for part in cut(text, tokens)]


def test_a_part_knows_the_headings_that_it_lies_under_and_reaches_into_no_other_section() -> None:
    assert cut(MANUAL, 200) == [
        Part(("Manual",), "Read this first."),
        Part(("Manual", "Returns"), "Parcels may be sent back."),
        Part(("Manual", "Returns", "Abroad"), "Ask the desk."),
        Part(("Manual", "Payment"), "By card only."),
    ]


def test_a_heading_with_nothing_under_it_is_not_lost() -> None:
    assert cut("# Offices\n## Bonn\n## Kiel\nIs new.", 50) == [
        Part(("Offices", "Bonn"), "Bonn"),
        Part(("Offices", "Kiel"), "Is new."),
    ]


def test_of_a_long_heading_the_beginning_is_kept() -> None:
    (part,) = cut(f"# {'very ' * 500}long\nText.", 50)
    assert part.headings[0].endswith("[…]")
    assert estimated_tokens(part.headings[0]) <= 24


def test_plain_text_is_cut_at_paragraphs() -> None:
    assert cut("Refunds take five days.\n\nAsk the desk.", 6) == [
        Part((), "Refunds take five days."),
        Part((), "Ask the desk."),
    ]


def test_each_part_of_a_table_that_is_cut_begins_with_its_header() -> None:
    assert texts("\n".join(TABLE), 200) == ["\n".join(TABLE)]
    assert texts("\n".join(["Hours:", *TABLE]), 21) == [
        "\n".join(["Hours:", "", *TABLE[:4]]),
        "\n".join([*TABLE[:2], TABLE[4]]),
    ]


def test_code_stays_whole_where_it_fits_and_in_fences_where_it_does_not() -> None:
    code = ["```python", "def first():", "    return 1", "", "# no heading", "```"]
    assert texts("\n".join(["Before.", "", *code, "After."]), 200) == ["Before.\n\n" + "\n".join(code) + "\n\nAfter."]
    assert texts("\n".join(["Before, with some words.", *code, "After."]), 15) == [
        "Before, with some words.",
        "\n".join(code),
        "After.",
    ]
    assert texts("\n".join(code), 13) == [
        "```python\ndef first():\n    return 1\n```",
        "```python\n# no heading\n```",
    ]


def test_code_without_an_end_reaches_to_the_end() -> None:
    assert texts("~~~\n# code\n```\nmore", 50) == ["~~~\n# code\n```\nmore\n~~~"]


@given(
    st.lists(
        st.sampled_from(
            "# w;### w;w;w w w w w w w w w w;;- w;  - w;1. w;```;~~~ w;| w | w |;|---|---|;===;---;    w;#;```w ```;"
            f"{'w' * 90}".split(";")
        ),
        max_size=30,
    ),
    st.integers(8, 40),
)
def test_whatever_the_structure_every_word_is_there_in_order_and_every_part_fits(lines: list[str], tokens: int) -> None:
    numbers = iter(range(10_000))
    text = re.sub(r"w+", lambda word: f"{word[0]}{next(numbers)}", "\n".join(lines))
    parts = cut(text, tokens)
    assert all(part.text.strip() and estimated_tokens(part.text) <= tokens for part in parts)
    seen = re.findall(r"\d", " ".join(" ".join((*part.headings, part.text)) for part in parts))
    for word in re.findall(r"w+\d+", text):
        if len(word) < 20:
            assert any(word in " ".join((*part.headings, part.text)) for part in parts)
    assert len(seen) >= len(re.findall(r"\d", text))


@pytest.mark.parametrize(
    "unit", ["- ", "> ", "`", "|", "- a\n", "####### x\n", "# x\n", "~~~\n", "|\n-|\n", "# ", "a\n-\n"]
)
def test_no_text_takes_long(unit: str) -> None:
    text = (unit * 524_288)[:524_288]
    started = time.process_time()
    cut(text, 200)
    assert time.process_time() - started < 10
