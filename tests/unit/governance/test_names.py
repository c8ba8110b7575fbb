"""Names of people are found in ordinary English; what else is written with a capital is left alone."""

import subprocess
import sys
from functools import cache

import pytest

from schemas.bundle import Guardrail
from services.governance.domain.guardrails import Guardrails
from services.governance.domain.names import CHUNK_CHARACTERS, shipped


@cache  # loading the model takes seconds
def guardrails() -> Guardrails:
    return Guardrails([Guardrail(detect=("name",), action="mask")])


def masked(text: str) -> str:
    (screened,) = guardrails().screen([text]).texts
    return screened


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("My name is John Smith and I live in Paris.", "My name is <NAME_1> and I live in Paris."),
        ("Dear Mr. Brown, thank you for your order.", "Dear Mr. <NAME_1>, thank you for your order."),
        ("I spoke with Susan Miller and Robert Jones.", "I spoke with <NAME_1> and <NAME_2>."),
        ("We met at Angela Merkel's office.", "We met at <NAME_1>'s office."),
        ("We met at Angela Merkel’s office.", "We met at <NAME_1>’s office."),  # noqa: RUF001
        ("Patient: Mary O'Brien, born in 1980", "Patient: <NAME_1>, born in 1980"),
        ("Hello,\nJohn Smith called.\n\nRegards,\nSusan Miller", "Hello,\n<NAME_1> called.\n\nRegards,\n<NAME_2>"),
        (r'{"text": "Hello,\nJohn Smith called."}', r'{"text": "Hello,\n<NAME_1> called."}'),
        ("é 😀 ß ﬀ 👩‍👩‍👧: my name is José García, and yours?", "é 😀 ß ﬀ 👩‍👩‍👧: my name is <NAME_1>, and yours?"),
        ("My name is Jose\u0301 Garci\u0301a, and yours?", "My name is <NAME_1>, and yours?"),
    ],
)
def test_the_name_of_a_person_is_masked_where_it_stands(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_the_same_name_has_one_number_however_it_is_set() -> None:
    texts = ["My name is John Smith and I live in Paris.", "I spoke with John  Smith and with Mary Jones yesterday."]
    assert guardrails().screen(texts).texts == (
        "My name is <NAME_1> and I live in Paris.",
        "I spoke with <NAME_1> and with <NAME_2> yesterday.",
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "Please send two garden chairs to the store in Leeds and tell me when they arrive.",
        "What's the weather like in San Francisco on Monday, in Celsius?",
        "The wireless headphones cost $59.99 and come with a two-year warranty.",
        "Open Monday to Friday 9 to 17, Saturday 10 to 14, closed on Sunday.",
        "Could you find me a table for four in a quiet place near the old harbour on Friday evening?",
        "Book a flight from London to New York on 12 May and a hotel near Central Park.",
        "How much are 150 US dollars in euros?",
        "stop docker ps after 2 minute max, jika ini bisa dilakukan, ka kapan ready stok",
        "可以帮我查一下北京的天气吗？ 텍스트 형식으로 보여주세요.",  # noqa: RUF001
        'get_weather(location="Berlin, Germany", unit="celsius")',
        "Write to <EMAIL_1> or call <PHONE_2>; I am <NAME_1>.",
        "see https://example.com/John/Smith or jo@example.com",
    ],
)
def test_ordinary_texts_hold_no_name(text: str) -> None:
    assert masked(text) == text


def test_a_long_text_is_read_in_parts_that_cut_no_name() -> None:
    sentence = "My name is John Smith and I live in Paris. "
    text = sentence * (3 * CHUNK_CHARACTERS // len(sentence))
    assert masked(text) == sentence.replace("John Smith", "<NAME_1>") * (3 * CHUNK_CHARACTERS // len(sentence))


def test_text_without_any_space_is_read_to_its_end() -> None:
    assert masked("x" * 3 * CHUNK_CHARACTERS) == "x" * 3 * CHUNK_CHARACTERS


def test_the_model_keeps_nothing_of_what_it_reads() -> None:
    masked("I live in Paris.")
    known = len(shipped()._model.vocab.strings)
    masked("My name is Zyxwvut Qponmlk and I live in Abcdefgh.")
    assert len(shipped()._model.vocab.strings) == known


def test_a_bundle_that_looks_for_no_names_does_not_load_spacy() -> None:
    code = (
        "import sys\n"
        "from schemas.bundle import Guardrail\n"
        "from services.governance.domain.guardrails import Guardrails\n"
        "Guardrails([Guardrail(detect=('email', 'address'), action='mask')]).screen(['I am John Smith'])\n"
        "assert 'spacy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
