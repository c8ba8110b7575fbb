from hypothesis import example, given
from hypothesis import strategies as st

from schemas.bundle import Guardrail
from services.router.domain.windows import HELD, LONGEST_WORD, Window
from tests.unit.router.fakes import DENIED

INSTRUCTIONS = ["You are the assistant of a shop. Never talk about the prices of competitors or about the weather."]
GUARDRAILS = [
    Guardrail(detect=("denied",), action="refuse", texts=(DENIED,)),
    Guardrail(detect=("leak",), action="refuse", directions=("output",), words=8),
]


def released_from(pieces: list[str]) -> str:
    window, released = Window(GUARDRAILS, INSTRUCTIONS), ""
    for piece in pieces:
        window.add(piece)
        due = window.due()
        characters = window.releasable(due, []) if due else 0
        released += window.text[:characters]
        window.release(characters)
    assert window.start == len(released)
    assert released + window.text == "".join(pieces)
    return released


@given(st.lists(st.text(alphabet="ab .,\n", max_size=200), max_size=20))
@example(["a" * LONGEST_WORD, "b" * 200])
def test_what_leaves_leaves_in_order_and_at_the_end_of_a_word(pieces: list[str]) -> None:
    released = released_from(pieces)
    assert "".join(pieces).startswith(released)
    longest = max((len(word) for word in "".join(pieces).split()), default=0)
    assert not released or released[-1].isspace() or longest >= LONGEST_WORD


@given(st.text(alphabet=". -\u3164", max_size=300), st.integers(1, 12))
def test_a_pattern_is_held_back_whatever_stands_between_its_words(between: str, cut: int) -> None:
    start, end = DENIED[:cut], DENIED[cut:]
    released = released_from(["fine " * 40, start + between, between])
    assert "t" not in released, end


@given(st.integers(0, 9), st.integers(1, 60))
def test_instructions_are_held_back_until_enough_words_are_there_to_tell_them(first: int, cut: int) -> None:
    run = " ".join(INSTRUCTIONS[0].split()[first : first + 8])
    released = released_from(["fine " * 40, run[:cut], run[cut:-1]])
    assert released == "fine " * (len(released) // 5)


def test_a_long_answer_does_leave() -> None:
    text = "word " * 200
    assert len(released_from([text[i : i + 7] for i in range(0, len(text), 7)])) > len(text) - 3 * HELD


def test_only_whole_words_are_asked_about() -> None:
    window = Window([], [])
    window.add("word " * 30 + "secr")
    assert window.due() == "word " * 30


def test_text_without_a_space_leaves_once_it_can_be_no_address() -> None:
    assert released_from(["x" * 200, "x" * 500, "x" * 200])


@given(st.integers(0, 80))
def test_the_name_of_a_mask_is_not_cut_in_text_without_a_space(letters_behind: int) -> None:
    released = released_from(["x" * 400 + "<EMAIL_1>" + "y" * letters_behind + ","])
    assert released in {"x" * len(released), f"{'x' * 400}<EMAIL_1>{'y' * (len(released) - 409)}"}
