import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Message
from services.router.domain.preparation import cut, estimated_tokens, language_of, normalise
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


def test_instructions_and_the_last_turn_with_all_that_follows_it_are_never_cut() -> None:
    messages = [
        Message(role="system", content="s" * 40),
        user("old" * 100),
        Message(role="assistant", content="answer" * 20),
        user("new"),
        Message(role="assistant", content="calls"),
        Message(role="tool", content="result"),
    ]
    kept, dropped = cut(messages, 60)
    assert [message.role for message in kept] == ["system", "user", "assistant", "tool"]
    assert dropped == estimated_tokens(messages[1]) + estimated_tokens(messages[2])


def test_a_tools_answer_goes_with_its_call() -> None:
    messages = [
        user("old" * 100),
        Message(role="assistant", content="call" * 50),
        Message(role="tool", content="result"),
        user("new"),
    ]
    kept, _ = cut(messages, 20)
    assert [message.role for message in kept] == ["user"]


def test_nothing_is_cut_that_fits() -> None:
    messages = [user("one"), Message(role="tool", content="stray"), user("two")]
    assert cut(messages, 1000) == (tuple(messages), 0)
