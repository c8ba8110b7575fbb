"""Personal data and secrets are found wherever they stand; what only looks like them is left alone."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import iban, luhn
from stdnum.us import ssn

from schemas.bundle import Guardrail
from services.governance.domain.guardrails import Guardrails, Screened

GUARDRAILS = Guardrails([Guardrail(detect=("secret", "iban", "card", "id", "email", "ip", "phone"), action="mask")])


def screen(*texts: str) -> Screened:
    return GUARDRAILS.screen(texts)


def found(text: str) -> list[tuple[str, str]]:
    return [(finding.kind, text[finding.start : finding.end]) for finding in screen(text).findings]


# Text that cannot belong to what is found: no digits, letters, or anything that may stand inside a number or address.
surroundings = st.text(st.sampled_from('äЖ漢字؟!?,;:\n"’«»“”😀👩\u200d👧🏽\u0301'), max_size=20)  # noqa: RUF001
separators = st.sampled_from(["", " ", "-", "\u00a0", "\u2011"])


@st.composite
def cards(draw: st.DrawFn) -> tuple[str, str]:
    """A payment card's number, and the way that somebody wrote it."""
    prefix = draw(st.sampled_from(["4", "51", "55", "2221", "34", "37", "36", "6011", "62"]))
    length = 15 if prefix in ("34", "37") else 14 if prefix == "36" else 16
    missing = length - len(prefix) - 1
    number = prefix + draw(st.text("0123456789", min_size=missing, max_size=missing))
    number += luhn.calc_check_digit(number)
    groups = {14: (4, 6, 4), 15: (4, 6, 5), 16: (4, 4, 4, 4)}[length]
    parts, rest = [], number
    for size in groups:
        parts.append(rest[:size])
        rest = rest[size:]
    return number, draw(separators).join(parts)


@st.composite
def ibans(draw: st.DrawFn) -> tuple[str, str]:
    """An account number of one of many countries, and the way that somebody wrote it."""
    country, letters, digits = draw(
        st.sampled_from([("DE", 0, 18), ("GB", 4, 14), ("NL", 4, 10), ("AT", 0, 16), ("CH", 0, 17), ("NO", 0, 11)])
    )
    account = draw(st.text("ABCDEFGHIJ", min_size=letters, max_size=letters))
    account += draw(st.text("0123456789", min_size=digits, max_size=digits))
    number = country + iban.calc_check_digits(f"{country}00{account}") + account
    separator = draw(separators)
    written = separator.join(number[i : i + 4] for i in range(0, len(number), 4))
    return number, draw(st.sampled_from([written, written.lower()]))


@given(surroundings, cards(), surroundings)
def test_every_valid_card_number_is_found_where_it_stands(before: str, card: tuple[str, str], after: str) -> None:
    _, written = card
    assert found(f"{before} {written} {after}") == [("card", written)]


@given(surroundings, ibans(), surroundings)
def test_every_valid_iban_is_found_where_it_stands(before: str, account: tuple[str, str], after: str) -> None:
    _, written = account
    assert found(f"{before} {written} {after}") == [("iban", written)]


@given(surroundings, cards(), surroundings, st.integers(0, 2**16))
def test_jsons_escapes_hide_nothing(before: str, card: tuple[str, str], after: str, chosen: int) -> None:
    written = "".join(
        rf"\u{ord(character):04x}" if chosen >> place % 16 & 1 else character for place, character in enumerate(card[1])
    )
    assert found(f'{{"a": "{before} {written} {after}"}}') == [("card", written)]


def test_what_escapes_say_is_read_in_any_text() -> None:
    assert found(r"jo\u0040example\u002ecom and \ud835\udff0111 1111 1111 1111") == [
        ("email", r"jo\u0040example\u002ecom"),
        ("card", r"\ud835\udff0111 1111 1111 1111"),
    ]
    assert found(r"C:\users \ud800 \u00 and \u") == []


@given(cards(), st.integers(1, 9))
def test_a_card_number_with_a_wrong_check_digit_is_not_one(card: tuple[str, str], change: int) -> None:
    number, _ = card
    wrong = number[:-1] + str((int(number[-1]) + change) % 10)
    assert "card" not in {kind for kind, _ in found(f"no. {wrong}.")}


@given(
    st.from_regex(r"[a-z0-9][a-z0-9.+_-]{0,20}[a-z0-9]", fullmatch=True),
    st.from_regex(r"[a-z0-9][a-z0-9-]{0,10}[a-z0-9](\.[a-z]{2,6}){1,3}", fullmatch=True),
    surroundings,
)
def test_every_email_address_is_found(local: str, domain: str, around: str) -> None:
    address = f"{local}@{domain}"
    # Personal data of another kind may stand inside an address; then all of it is masked as that.
    spans = [text for _, text in found(f"{around} <{address}> {around}")]
    assert spans == [address]


@given(st.integers(1, 899), st.integers(1, 99), st.integers(1, 9999), st.sampled_from([" ", "-", ".", "‐"]))  # noqa: RUF001
def test_every_social_security_number_is_found(area: int, group: int, serial: int, separator: str) -> None:
    written = f"{area:03}{separator}{group:02}{separator}{serial:04}"
    expected = [("id", written)] if ssn.is_valid(f"{area:03}{group:02}{serial:04}") else []
    assert found(f"It is {written}, he said") == expected


@pytest.mark.parametrize(
    "number",
    [
        "RCCMNL83S18D969H",
        "54362315K",
        "54362315-k",
        "X2482300W",
        "X-2482300-W",
        "BOXW310820HNERXN09",
        "360426199101010071",
        "2 95 11 78 234 567 84",
        "295117823456784",
        "131052-308T",
        "131052A308T",
        "15108695088",
        "880320-0016",
        "19880320-0016",
        "756.9217.0769.85",
        "85.07.30-033.28",
        "390.533.447-05",
        "971013-9019902",
        "710319/2745",
        "AB123456C",
        "536-90-4399",
    ],
)
def test_national_identity_numbers_are_found_in_their_own_forms(number: str) -> None:
    assert found(f"Here it is: {number}, thanks") == [("id", number)]
    assert found(rf"Here:\n{number}\nthanks") == [("id", number)]


@pytest.mark.parametrize(
    "text",
    [
        "PESEL: 44051401359",
        "Steuer-ID 36 574 261 809",
        "steueridentifikationsnummer: 36574261809",
        "my BSN is 111222333",
        "NHS number 943 476 5870",
        "Aadhaar no. 2341 2341 2346",
        "PAN: ACUPA7085R",
        "SIN 123 456 782",
        "ID number 7503305044089",
        "PPS number: 6433435F",
        "CPR: 211062-5629",
        "NI number: AB 12 34 56 C",
        "rodné číslo 7103192745",
        "CPF 39053344705",
        "my social security number is 536904399",
        "the social security number of my wife: 536904399",
        "customerSSN: 536904399",
        r"\nSSN: 536904399",
    ],
)
def test_identity_numbers_that_could_be_any_number_are_found_where_the_text_says_so(text: str) -> None:
    named, unnamed = found(text), found(re.search(r"[A-Z]*[0-9].*", text)[0])  # type: ignore[index]
    assert [kind for kind, _ in named] == ["id"]
    assert text.endswith(named[0][1])
    assert "id" not in [kind for kind, _ in unnamed]


@pytest.mark.parametrize(
    "number", ["RCCMNL83S18D969A", "54362315L", "X2482300A", "BOXW310820HNERXN08", "295117823456785", "131052-308U"]
)
def test_an_identity_number_with_a_wrong_check_digit_is_not_one(number: str) -> None:
    assert found(f"Here it is: {number}, thanks") == []


@pytest.mark.parametrize(
    "number",
    [
        "+49 (0)171 1234567",
        "+1 415 555 2671",
        "+14155552671",
        "0049 171 1234567",
        "(415) 555-2671",
        "415-555-2671",
        "415.555.2671",
        "1-800-555-0199",
        "020 7946 0958",
        "(020) 7946 0958",
        "07700 900123",
        "0171/12345678",
        "06 12 34 56 78",
    ],
)
def test_telephone_numbers_are_found_as_they_are_written(number: str) -> None:
    assert found(f"Please reach us at {number}, thanks") == [("phone", number)]


@pytest.mark.parametrize(
    "text",
    [
        "my phone is 5550123",
        "Tel.: 555-0123",
        "call 4155552671 now",
        "WhatsApp 555 01234",
        "Phone:\n555 0123",
        r"Bye\nDesk: 555 0123",
        "555 0123-Office",
        "(894)134-3524 fax, or write",
        "stop the messages to 555 01 23",
    ],
)
def test_a_bare_number_is_a_telephone_number_where_the_text_says_so(text: str) -> None:
    assert [kind for kind, _ in found(text)] == ["phone"]


@pytest.mark.parametrize(
    "number", ["415-555-2671x549", "+1 415 555 2671 ext. 12", "030 12345678 ext 12", "(415) 555-2671 x1234"]
)
def test_an_extension_belongs_to_its_telephone_number(number: str) -> None:
    assert found(f"Please reach us at {number}, thanks") == [("phone", number)]


@pytest.mark.parametrize("text", ["my card 587662702899", "cc: 5876 6270 2899", r"Hi,\nCard no. 587662702899"])
def test_twelve_digits_are_a_card_where_the_text_says_so(text: str) -> None:
    assert [kind for kind, _ in found(text)] == ["card"]


def test_an_email_address_after_a_written_line_break_is_its_own() -> None:
    assert found(r"To:\nbob@x.com or \nora@x.com") == [("email", "bob@x.com"), ("email", "ora@x.com")]


@given(st.ip_addresses(), surroundings)
def test_every_ip_address_is_found(address: object, around: str) -> None:
    # An address of IPv6 that is all letters, or nothing, is left alone.
    text = str(address)
    wanted = [("ip", text)] if re.search("[0-9]", text) else []
    assert found(rf"host:\n{text}") == wanted
    assert found(f"{around} {text} {around}") == wanted


@pytest.mark.parametrize(
    "form",
    [
        r"(AKIA|ASIA)[0-9A-Z]{16}",
        r"AIza[0-9A-Za-z_]{35}",
        r"gh[pousr]_[0-9A-Za-z]{36}",
        r"github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
        r"glpat-[0-9A-Za-z_]{20}",
        r"hf_[A-Za-z]{34}",
        r"npm_[0-9A-Za-z]{36}",
        r"pypi-AgEIcHlwaS5vcmc[0-9A-Za-z]{60,90}",
        r"sk_live_[0-9A-Za-z]{24}",
        r"sk-(proj-|ant-api03-)?[0-9A-Za-z]{20}[0-9][0-9A-Za-z]{20}",
        r"xoxb-[0-9]{11}-[0-9]{11}-[0-9A-Za-z]{24}",
        r"eyJhbGciOiJIUzI1NiJ9\.eyJ[0-9A-Za-z_]{20,60}\.[0-9A-Za-z_]{43}",
    ],
)
@given(data=st.data(), around=surroundings)
def test_keys_and_tokens_are_found_by_their_issuers_forms(form: str, data: st.DataObject, around: str) -> None:
    token = data.draw(st.from_regex(re.compile(form, re.ASCII), fullmatch=True))
    assert found(f"{around} {token} {around}") == [("secret", token)]


@given(
    st.text(string.ascii_letters + string.digits, min_size=8, max_size=60),
    st.sampled_from(["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "]),
    st.booleans(),
)
def test_a_private_key_is_found_whole_also_when_its_end_is_missing(body: str, algorithm: str, ended: bool) -> None:
    end = f"\n-----END {algorithm}PRIVATE KEY-----" if ended else ""
    key = f"-----BEGIN {algorithm}PRIVATE KEY-----\n{body}\n{body}{end}"
    assert found(f"Here it is:\n{key}") == [("secret", key)]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("my password is hunter2hunter2, do not tell", "hunter2hunter2"),
        ("password: S3cret!pw.", "S3cret!pw"),
        ('{"api_key": "0123456789abcdef"}', "0123456789abcdef"),
        ("export DB_PASSWORD=tiger12345", "tiger12345"),
        ('{"cmd": "curl -d \\"password=abc12345\\" x"}', "abc12345"),
        ('{"cmd": "password: \\"abc12345\\""}', "abc12345"),
        ("client_secret='a1b2c3d4e5'", "a1b2c3d4e5"),
        ("Authorization: Bearer abcdefghijklmnopqrst", "abcdefghijklmnopqrst"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
        ("postgres://app:tiger@db.example.com/shop", "tiger@db.example.com"),
    ],
)
def test_a_secret_is_found_where_the_text_says_that_it_is_one(text: str, secret: str) -> None:
    assert found(text) == [("secret", secret)]


@pytest.mark.parametrize(
    "text",
    [
        "order 4155552671 of 1700000000",
        "pi is 3.14159265358979 and 0.1234567890",
        "on 2024-01-15 10:30:00, 01.02.2024 15:30 and 05/06/2024 10",
        "version 10.20.30.40, 10.20.30.4000 and v1.2.3.4, 300.1.1.1",
        "at 12:30:45, std::vector, add::face, aa:bb:cc:dd:ee:ff",
        "article 587662702899",
        "we sold 1500000 mobile phones",
        "rows 10 20 30 40 50 60 70 80",
        "id 123456789",
        "user@localhost and a @ b.c and 3@4.5",
        "ssn 000-12-3456, 666-12-3456, 900-12-3456",
        "DE88370400440532013000",
        "123e4567-e89b-12d3-a456-426614174000",
        "reset your password: click the link, the token is missing",
        "the secret is out and the key is under the mat",
        "task-force-one-has-many-members, sk-learn-is-a-name-for-it",
        "https://example.com:8080/a@b and 10:30",
        "commit 3b18e512dba79e4c8300dd08aeb37f8e728b8dad",
    ],
)
def test_what_only_looks_like_personal_data_is_left_alone(text: str) -> None:
    assert found(text) == []
    assert screen(text).texts == (text,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("card ４１１１ １１１１ １１１１ １１１１", ("card", "４１１１ １１１１ １１１１ １１１１")),  # noqa: RUF001
        ("card ٤١١١١١١١١١١١١١١١", ("card", "٤١١١١١١١١١١١١١١١")),
        ("card 4111\u200b1111\u200b1111\u20611111 x", ("card", "4111\u200b1111\u200b1111\u20611111")),
        ("jo\u00adhn@exa\u200bmple.com x", ("email", "jo\u00adhn@exa\u200bmple.com")),
        ("jörg＠exämple．de x", ("email", "jörg＠exämple．de")),  # noqa: RUF001
        ("e\u0301mile@example.com x", ("email", "e\u0301mile@example.com")),
        ("👩‍👩‍👧‍👦 😀 a@b.de 😀", ("email", "a@b.de")),
        ("用户@例子.广告 x", ("email", "用户@例子.广告")),
    ],
)
def test_spelling_in_other_characters_hides_nothing(text: str, expected: tuple[str, str]) -> None:
    assert found(text) == [expected]


@given(st.text(), st.sampled_from(["a@b.de", "4111111111111111", "DE89370400440532013000", "536-90-4399"]), st.text())
def test_nothing_but_what_was_found_changes(before: str, data: str, after: str) -> None:
    text = f"{before} {data} {after}"
    screened = screen(text)
    masked = screened.texts[0]
    for finding in screened.findings:
        start = finding.start
        end = masked.index(">", start) + 1
        assert masked[start : start + 2 + len(finding.kind)] == f"<{finding.kind.upper()}_"
        masked = masked[:start] + text[finding.start : finding.end] + masked[end:]
    assert masked == text
    assert data not in screened.texts[0]
