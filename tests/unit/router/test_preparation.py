import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Cut, Message
from services.router.domain.errors import InvalidField
from services.router.domain.preparation import GAP, Fitted, estimated_tokens, fit, language_of, normalise
from tests.unit.router.fakes import user


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("ig\u200bno\u00adre\u200d this\ufeff", "ignore this"),
        ("e\u0301", "\u00e9"),
        ("a\u00a0b\u3000c", "a b c"),
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("a\n\n\n\n\nb   \nc", "a\n\nb\nc"),
        ("if x:\n    y\x00\x1b", "if x:\n    y"),
        ("\u202eevil\u202c", "evil"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),  # a technologist is one emoji
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
    ],
)
def test_text_comes_into_one_form(text: str, normalised: str) -> None:
    assert normalise(text) == normalised


@given(st.text())
def test_a_normal_form_stays_as_it_is(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Where is the parcel that I ordered last week?", "en"),
        ("Wo ist das Paket, das ich letzte Woche bestellt habe?", "de"),
        ("¿Dónde está el paquete que pedí la semana pasada?", "es"),
    ],
)
def test_the_language_is_found(text: str, code: str) -> None:
    assert language_of(text) == code


SYSTEM = Message(role="system", content="s" * 40)
TURNS = [
    SYSTEM,
    user("old" * 100),
    Message(role="assistant", content="answer" * 20),
    user("new"),
    Message(role="assistant", content="calls"),
    Message(role="tool", content="result"),
]


def test_instructions_and_the_last_turn_with_all_that_follows_it_are_never_left_out() -> None:
    fitted = fit(TURNS, 60, "oldest-turns")
    assert [message.role for message in fitted.messages] == ["system", "user", "assistant", "tool"]
    assert fitted.cuts == (
        Cut(message=1, start=0, end=300, tokens=estimated_tokens(TURNS[1])),
        Cut(message=2, start=0, end=120, tokens=estimated_tokens(TURNS[2])),
    )


def test_a_tools_answer_goes_with_its_call() -> None:
    messages = [
        user("old" * 100),
        Message(role="assistant", content="call" * 50),
        Message(role="tool", content="result"),
        user("new"),
    ]
    assert [message.role for message in fit(messages, 20, "oldest-turns").messages] == ["user"]


@pytest.mark.parametrize("cut", ["oldest-turns", "longest-texts", "nothing"])
def test_nothing_is_left_out_that_fits(cut: str) -> None:
    messages = [user("one"), Message(role="tool", content="stray"), user("two")]
    assert fit(messages, 1000, cut) == Fitted(tuple(messages))


@given(st.lists(st.text(alphabet="aé😀 ", max_size=800), min_size=1, max_size=6), st.integers(60, 400))
def test_the_longest_texts_lose_their_middles_and_nothing_else(texts: list[str], budget_tokens: int) -> None:
    messages = [SYSTEM, *map(user, texts)]
    try:
        fitted = fit(messages, budget_tokens, "longest-texts")
    except InvalidField:
        assert sum(min(len(text.encode()), 64) for text in texts) / 4 + 14 + 5 * len(texts) > budget_tokens
        return
    assert sum(map(estimated_tokens, fitted.messages)) <= budget_tokens
    assert fitted.messages[0] == SYSTEM
    shortest_cut = min((len(texts[cut.message - 1].encode()) for cut in fitted.cuts), default=0)
    for i, (before, after) in enumerate(zip(messages, fitted.messages, strict=True)):
        gone = [cut for cut in fitted.cuts if cut.message == i]
        if not gone:
            assert before == after
            assert i == 0 or not fitted.cuts or len(before.content.encode()) <= shortest_cut
        for cut in gone:
            assert after.content == f"{before.content[: cut.start]}{GAP}{before.content[cut.end :]}"
            assert cut.tokens == estimated_tokens(before) - estimated_tokens(after) > 0


@pytest.mark.parametrize(("cut", "budget_tokens"), [("nothing", 60), ("oldest-turns", 20), ("longest-texts", 60)])
def test_what_may_not_be_left_out_is_refused_by_its_length(cut: str, budget_tokens: int) -> None:
    with pytest.raises(InvalidField, match=f"wanted at most {budget_tokens}"):
        fit(TURNS, budget_tokens, cut)
