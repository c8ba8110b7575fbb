"""Detectors of personal data and secrets. Each reads a folded text (`folding`) and finds every occurrence of its kind.

A detector's `hint` is a pattern that matches wherever the detector could find something: Hyperscan looks for all hints
in one pass, and only the detectors whose hint is there read the text. All patterns take time linear in the text.
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache

from stdnum import iban, luhn, numdb

from services.governance.domain import addresses, identity
from services.governance.domain.folding import fold
from services.runtime.secrets import SECRET_HINT, find_secrets


@dataclass(frozen=True)
class Span:
    """Something found in a folded text.

    Attributes:
        kind: Its detector's.
        start: Its first character.
        end: One past its last.
        value: What was found, spelled in one way, so that equal values compare equal; empty: as the text spells it.
    """

    kind: str
    start: int
    end: int
    value: str = ""


@dataclass(frozen=True)
class Detector:
    """One kind of what is looked for.

    Attributes:
        kind: As bundles name it.
        hint: Byte pattern that matches wherever `find` could find something.
        find: Yields what is there.
        reads_instructions: Whether it also reads what the application itself tells the model.
    """

    kind: str
    hint: bytes
    find: Callable[[str], Iterator[Span]]
    reads_instructions: bool = True


def _find_secrets(text: str) -> Iterator[Span]:
    for start, end in find_secrets(text):
        yield Span("secret", start, end)


# Where a word may begin: also after a line break or tab that is written as an escape, as in JSON.
_AFTER_ESCAPE = r"(?<=\\[nrt])"
_WORD = rf"(?:(?<![a-z])|{_AFTER_ESCAPE})"
_LOCAL = r"[\w.!#$%&'+^~-]"
_BEFORE_AT = re.compile(rf"(?:(?<!{_LOCAL})(?!(?<=\\)[nrt])|{_AFTER_ESCAPE}){_LOCAL}++\Z")
_BEHIND_AT = re.compile(r"(?:[\w-]+\.)+(?=[\w-]*[^\W\d_])[\w-]*\w")


def _find_emails(text: str) -> Iterator[Span]:
    free = 0
    for at in re.finditer("@", text):
        word = max(free, text.rfind(" ", free, at.start()), text.rfind("\n", free, at.start()))
        local, domain = _BEFORE_AT.search(text, word, at.start()), _BEHIND_AT.match(text, at.end())
        free = at.end()
        if local is None or domain is None:
            continue
        free = domain.end()
        value = text[local.start() : free].lstrip(".!#$%&'^~-")  # quotes and brackets of the sentence around it
        if not value.startswith("@"):
            yield Span("email", free - len(value), free, value)


_DIGIT_GROUPS = re.compile(r"[0-9]+(?:[ .-]{1,3}[0-9]+)*+")
_CARD_DIGITS = range(13, 20)
_CARD_GROUPS = 6
# Maestro also has twelve digits, as so much else: they are a card where the text has just said so.
_CALLED_A_CARD = re.compile(rf"{_WORD}(?:cards?|cc|maestro)(?![a-z])[^0-9\n]{{0,16}}\Z")
_CALLED_WITHIN = 24


def _find_cards(text: str) -> Iterator[Span]:
    for run in _DIGIT_GROUPS.finditer(text):
        number = re.sub("[^0-9]", "", run.group())
        if len(number) == 12 and luhn.is_valid(number):
            if _CALLED_A_CARD.search(text, max(0, run.start() - _CALLED_WITHIN), run.start()):
                yield Span("card", run.start(), run.end(), number)
            continue
        groups = [(group.start(), group.end()) for group in re.finditer("[0-9]+", run.group())]
        first = 0
        while first < len(groups):
            found = _card_from(run.group(), groups[first : first + _CARD_GROUPS])
            if found is None:
                first += 1
                continue
            count, number = found
            start, end = groups[first][0], groups[first + count - 1][1]
            yield Span("card", run.start() + start, run.start() + end, number)
            first += count


def _card_from(run: str, groups: list[tuple[int, int]]) -> tuple[int, str] | None:
    """Return how many of the groups are a card number, and the number; the longest there is."""
    # The industries that issue payment cards; 1800 is JCB's.
    if run[groups[0][0]] not in "23456" and not run.startswith("1800", groups[0][0]):
        return None
    number, best = "", None
    for count, (start, end) in enumerate(groups, 1):
        number += run[start:end]
        if len(number) > _CARD_DIGITS[-1]:
            break
        if len(number) in _CARD_DIGITS and luhn.is_valid(number):
            best = count, number
        if end - start < 3:  # only the last group of a card number is this short
            break
    return best


_IBAN_START = re.compile(r"(?=([a-z]{2})[0-9]{2}[ .-]{0,2}[a-z0-9])")


def _find_ibans(text: str) -> Iterator[Span]:
    free = 0
    for start in _IBAN_START.finditer(text):
        length = _iban_length(start.group(1))
        match = _iban_pattern(length).match(text, start.start()) if length else None
        if match is None or match.start() < free:
            continue
        value = re.sub("[ .-]", "", match.group()).upper()
        if iban.is_valid(value, check_country=False):
            free = match.end()
            yield Span("iban", match.start(), match.end(), value)


@cache
def _iban_length(country: str) -> int:
    """Return the characters of a country's account numbers; 0 for a country that has none."""
    ((_, entry), *_) = numdb.get("iban").info(country.upper())
    return sum((int(part) for part in re.findall(r"(\d+)!", entry.get("bban", ""))), 4) if entry else 0


@cache
def _iban_pattern(length: int) -> re.Pattern[str]:
    return re.compile(rf"[a-z0-9](?:[ .-]{{0,2}}[a-z0-9]){{{length - 1}}}")


def _find_ids(text: str) -> Iterator[Span]:
    for start, end, number in identity.find_identity_numbers(text):
        yield Span("id", start, end, number)


def _find_addresses(text: str) -> Iterator[Span]:
    for start, end, address in addresses.find_addresses(text):
        yield Span("address", start, end, address)


_GAP = r"[ ./()-]{0,3}"
_EXTENSION = r"(?: ?(?:x|ext\.?) ?[0-9]{1,5})?(?![0-9])"
# Where a telephone number could be; the patterns below need not read anything else.
_DIALLED = re.compile(r"[0-9][0-9 ./()+-]{6,}+(?:(?:x|ext\.?) ?[0-9]+)?")
_PREFIX = 2  # of plus and bracket, before its first digit
_SPELLINGS = (
    # International: a plus, or 00 and a country's digits standing apart; 8 to 15 digits (ITU-T E.164).
    re.compile(rf"(?<![0-9+])(?:\+\(?|00(?=[1-9][0-9]{{0,2}}[ ./(-]))[1-9](?:{_GAP}[0-9]){{7,14}}{_EXTENSION}"),
    # North America: three, three and four digits that stand apart.
    re.compile(
        r"(?<![0-9])(?<![0-9][./-])(?:1[ ./-]{1,2})?(?:\([2-9][0-9]{2}\)[ -]{0,2}|[2-9][0-9]{2}[ ./-])"
        rf"[2-9][0-9]{{2}}[ ./-][0-9]{{4}}{_EXTENSION}"
    ),
    # National with the trunk prefix 0, as in most of Europe; not a date.
    re.compile(
        r"(?<![0-9+,])(?<![0-9][./-])\(?(?![0-9]{2}[./-][0-9]{2}[./-](?:19|20)[0-9]{2})"
        rf"0[1-9](?:{_GAP}[0-9]){{7,10}}{_EXTENSION}"
    ),
)
# Any 7 to 15 digits that the text calls a telephone number, before them or, as on a card or under a letter, behind.
_ANY_NUMBER = rf"([+(]{{0,2}}[0-9](?:{_GAP}[0-9]){{6,14}}{_EXTENSION})"
_NAMED_PHONE = re.compile(
    rf"{_WORD}(?:(?:tele)?phone|tel|mobile|cell|call|dial|fax|whatsapp|sms|(?:desk|office)(?=:| [+(0-9])"
    rf"|answer(?:ing|s)? (?:at|on)|messages? (?:to|from))(?![a-z])(?:[^0-9\n+(]{{0,16}}|:\n ?){_ANY_NUMBER}"
)
_NAME_BEFORE, _NAME_BEHIND = 40, 12  # characters that a name takes, and what may stand between
_PHONE_NAMED_BEHIND = re.compile(rf"(?<![0-9]){_ANY_NUMBER}[ ,-]{{1,2}}\(?(?:office|fax|mobile|cell)(?![a-z]| [a-z])")


def _find_phones(text: str) -> Iterator[Span]:
    places: list[tuple[int, int]] = []
    for dialled in _DIALLED.finditer(text):
        start, end = max(0, dialled.start() - _PREFIX), dialled.end()
        places += [match.span(1) for match in _NAMED_PHONE.finditer(text, max(0, start - _NAME_BEFORE), end)]
        places += [match.span() for spelling in _SPELLINGS for match in spelling.finditer(text, start, end)]
        places += [match.span(1) for match in _PHONE_NAMED_BEHIND.finditer(text, start, end + _NAME_BEHIND)]
    for start, end in places:
        yield Span("phone", start, end, re.sub("[^0-9+x]", "", text[start:end]))


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_IPV4 = re.compile(rf"(?:(?<![\w.])|{_AFTER_ESCAPE})(?<!version )(?:{_OCTET}\.){{3}}{_OCTET}(?!\w|\.\w)")
_IPV6 = re.compile(
    rf"(?:(?<![\w:.])|{_AFTER_ESCAPE})[0-9a-f]{{0,4}}:[0-9a-f:]{{1,34}}(?:(?<=:)[0-9.]{{7,15}})?(?![\w:])"
)


def _find_ips(text: str) -> Iterator[Span]:
    for match in _IPV4.finditer(text):
        yield Span("ip", match.start(), match.end(), match.group())
    for match in _IPV6.finditer(text):
        # Without a digit it is likelier a name in a program, as in `add::face`.
        if re.search("[0-9]", match.group()):
            with suppress(ValueError):
                yield Span("ip", match.start(), match.end(), ipaddress.IPv6Address(match.group()).exploded)


_SEVEN_DIGITS = rb"[0-9](?:[ ./()\-]{0,3}[0-9]){6}"

DETECTORS = {
    detector.kind: detector
    for detector in (
        Detector("secret", SECRET_HINT, _find_secrets),
        Detector("iban", rb"[a-z]{2}[0-9]{2}", _find_ibans),
        Detector("card", _SEVEN_DIGITS, _find_cards),
        Detector("id", identity.HINT, _find_ids),
        Detector("email", rb"@", _find_emails),
        Detector("ip", rb"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[0-9a-f]{0,4}:[0-9a-f]{0,4}:", _find_ips),
        Detector("phone", _SEVEN_DIGITS, _find_phones),
        Detector("address", addresses.HINT, _find_addresses),
    )
}

# The hint of detectors that read every text.
ANYTHING = rb"(?s)."

DENIED = "denied"
_HINT_CHARACTERS = 32  # enough to be rare


def denied(text: str) -> Detector:
    """Return the detector of a denied text: its words in order, as whole words, whatever does or does not part them.

    Raises:
        ValueError: There is nothing in the text that could be looked for.
    """
    words = fold(text).text.split()
    if not words:
        raise ValueError("holds nothing that can be seen")
    before = r"(?<![^\W_])" if _stands_alone(words[0][0]) else ""
    after = r"(?![^\W_])" if _stands_alone(words[-1][-1]) else ""
    pattern = re.compile(before + r"[\W_]*".join(map(re.escape, words)) + after)
    hint = b"".join(b"\\x%02x" % byte for byte in max(words, key=len)[:_HINT_CHARACTERS].encode())
    value = " ".join(words)

    def find(folded: str) -> Iterator[Span]:
        for match in pattern.finditer(folded):
            yield Span(DENIED, match.start(), match.end(), value)

    return Detector(DENIED, hint, find)


def _stands_alone(character: str) -> bool:
    """Return whether words of the character's script are set apart: those with upper and lower case, and numbers."""
    return character.isdigit() or character.upper() != character
