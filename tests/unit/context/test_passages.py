"""Documents cut into passages."""

import re

from hypothesis import given
from hypothesis import strategies as st

from services.context.domain.passages import CUT, beginning, estimated_tokens, packed, pieces


def split(text: str, tokens: int) -> list[str]:
    return packed(pieces(text, tokens), tokens)


@given(st.text(st.sampled_from("ab é漢😀.!?\n\t "), max_size=400), st.integers(4, 40))
def test_nothing_but_white_space_is_lost_and_every_part_fits(text: str, tokens: int) -> None:
    parts = split(text, tokens)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)
    assert all(part.strip() and estimated_tokens(part) <= tokens for part in parts)


def test_a_short_document_is_one_passage_as_it_was_written() -> None:
    assert split("Refunds take five days.\n\nAsk the desk.", 200) == ["Refunds take five days.\n\nAsk the desk."]


def test_paragraphs_stay_whole_where_they_fit() -> None:
    paragraphs = ["a" * 30, "b" * 30, "c" * 30]
    assert split("\n\n".join(paragraphs), 16) == [f"{paragraphs[0]}\n\n{paragraphs[1]}", paragraphs[2]]


def test_a_long_paragraph_is_cut_between_sentences() -> None:
    assert split("One is here. Two is here. Three is here.", 7) == ["One is here. Two is here.", "Three is here."]


def test_a_long_sentence_is_cut_between_words_and_a_long_word_anywhere() -> None:
    assert split("aaaa bbbb cccc", 3) == ["aaaa bbbb", "cccc"]
    assert all(estimated_tokens(part) <= 3 for part in split("漢" * 50, 3))


def test_a_token_is_four_bytes() -> None:
    assert [estimated_tokens(text) for text in ("", "a", "abcd", "abcde", "漢字")] == [0, 1, 1, 2, 2]


def test_a_long_paragraph_of_items_is_cut_between_them_and_not_between_their_lines() -> None:
    assert split("- one is\n  here\n- two is\n  there", 4) == ["- one is\n  here", "- two is\n  there"]


def test_a_beginning_ends_between_words_and_says_that_more_was_there() -> None:
    assert beginning("short", 2) == "short"
    assert beginning("one two three four five six seven", 6) == "one two three four […]"


@given(st.text(st.sampled_from("ab <EMAIL_12>"), max_size=80), st.integers(4, 20))
def test_no_beginning_is_too_long_or_ends_within_a_mask(text: str, tokens: int) -> None:
    whole = f"{text} write to <EMAIL_12>, <STREET_ADDRESS_3> or elsewhere, whichever is nearer to you"
    shown = beginning(whole, tokens)
    assert estimated_tokens(shown) <= tokens
    assert shown.endswith(CUT)
    kept = shown.removesuffix(CUT)
    assert whole.startswith(kept)
    for mask in re.finditer(r"<[A-Z][A-Z_]*_\d+>", whole):
        assert not mask.start() < len(kept) < mask.end()
