"""National identity numbers, by the forms and checksums that python-stdnum knows and by what texts call them."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stdnum.be import nn
from stdnum.br import cpf
from stdnum.ca import sin
from stdnum.ch import ssn as ahv
from stdnum.cn import ric
from stdnum.cz import rc
from stdnum.de import idnr
from stdnum.dk import cpr
from stdnum.es import dni, nie
from stdnum.fi import hetu
from stdnum.fr import nir
from stdnum.gb import nhs
from stdnum.ie import pps
from stdnum.in_ import aadhaar, pan
from stdnum.it import codicefiscale
from stdnum.kr import rrn
from stdnum.mx import curp
from stdnum.nl import bsn
from stdnum.no import fodselsnummer
from stdnum.pl import pesel
from stdnum.se import personnummer
from stdnum.us import ssn
from stdnum.za import idnr as za_id


@dataclass(frozen=True)
class _Form:
    """How one country's numbers look.

    Attributes:
        shapes: The number without separators, a letter as `a` and a digit as `9`.
        is_valid: Holds the number, as written but for spaces and dots, to its checksum and date.
        written: What is unmistakably such a number; empty: none is.
        names: What the text calls a number that is not; empty: nothing tells it.
    """

    shapes: tuple[str, ...]
    is_valid: Callable[[str], bool]
    written: str = ""
    names: str = ""


def _is_nino(number: str) -> bool:
    """National Insurance numbers have no checksum, but letters that are not used (HMRC's NIM39110)."""
    return bool(re.fullmatch(r"(?!bg|gb|kn|nk|nt|tn|zz)[abceghj-prstw-z][abceghj-nprstw-z][0-9]{6}[a-d]", number))


_ANY = ".*"
_FORMS = (
    _Form(("9" * 9,), ssn.is_valid, r"[0-9]{3}([ .-])[0-9]{2}\1[0-9]{4}", "[a-z]{0,9}ssns?|social security"),
    _Form(("aaaaaa99a99a999a",), codicefiscale.is_valid, _ANY),
    _Form(("99999999a",), dni.is_valid, "[0-9]{8}-?[a-z]"),
    _Form(("a9999999a",), nie.is_valid, "[xyz]-?[0-9]{7}-?[a-z]"),
    _Form(("aaaa999999aaaaaa99", "aaaa999999aaaaaaa9"), curp.is_valid, _ANY),
    _Form(("9" * 18, "9" * 17 + "a"), ric.is_valid, _ANY),
    _Form(("9" * 15,), nir.is_valid, r"[12]( ?)(?:[0-9]{2}\1){3}[0-9]{3}\1[0-9]{3} ?[0-9]{2}"),
    _Form(("9" * 10, "9" * 9 + "a", "999999a999a", "999999a9999"), hetu.is_valid, r"[0-9]{6}[-+a-fu-y][0-9a-z]{4}"),
    _Form(("9" * 11,), fodselsnummer.is_valid, "[0-9]{6} ?[0-9]{5}"),
    _Form(("9" * 10, "9" * 12), personnummer.is_valid, r"(?:[0-9]{2})?[0-9]{6}[-+][0-9]{4}", "personnummer"),
    _Form(("9" * 13,), ahv.is_valid, r"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}", "ahv|avs|sozialversicherungsnummer"),
    _Form(("9" * 11,), nn.is_valid, r"(?:[0-9]{2}\.){2}[0-9]{2}-[0-9]{3}\.[0-9]{2}", "rijksregisternummer|niss|insz"),
    _Form(("9" * 11,), cpf.is_valid, r"(?:[0-9]{3}\.){2}[0-9]{3}-[0-9]{2}", "cpf"),
    _Form(("9" * 13,), rrn.is_valid, "[0-9]{6}-[0-9]{7}"),
    _Form(("9" * 9, "9" * 10), rc.is_valid, "[0-9]{6}/[0-9]{3,4}", "rodne cislo|birth number"),
    _Form(("aa999999a",), _is_nino, "[a-z]{2}[0-9]{6}[a-z]", "nino|national insurance|ni number"),
    _Form(("9" * 11,), pesel.is_valid, names="pesel"),
    _Form(("9" * 11,), idnr.is_valid, names="idnr|steuer-?id(?:entifikationsnummer)?|tax id"),
    _Form(("9" * 9,), bsn.is_valid, names="bsn|burgerservicenummer"),
    _Form(("9" * 10,), nhs.is_valid, names="nhs"),
    _Form(("9" * 12,), aadhaar.is_valid, names="aadhaa?r"),
    _Form(("aaaaa9999a",), pan.is_valid, names="pan"),
    _Form(("9" * 9,), sin.is_valid, names="sin|social insurance"),
    _Form(("9" * 13,), za_id.is_valid, names="id(?:entity)? n(?:umber|o)"),
    _Form(("9999999a", "9999999aa"), pps.is_valid, names="ppsn?"),
    _Form(("9" * 10,), cpr.is_valid, names="cpr"),
)


def _called(names: str) -> re.Pattern[str]:
    """Return the pattern of a text that ends by saying what follows; one that no text matches, for no names."""
    return re.compile(rf"(?:(?<![a-z])|(?<=\\[nrt]))(?:{names or '(?!)'})(?![a-z])[^0-9\n]{{0,20}}\Z")


@dataclass(frozen=True)
class _Told:
    """A form, and how a number of its shape is told from any other: by how it is written, or by what it is called."""

    is_valid: Callable[[str], bool]
    written: re.Pattern[str]
    called: re.Pattern[str]


_BY_SHAPE: dict[str, list[_Told]] = defaultdict(list)
for _form in _FORMS:
    for _shape in _form.shapes:
        _BY_SHAPE[_shape].append(_Told(_form.is_valid, re.compile(_form.written or "(?!)"), _called(_form.names)))
_CALLED_ANYTHING = re.compile("|".join(form.names for form in _FORMS if form.names))

_SHAPE = str.maketrans("0123456789abcdefghijklmnopqrstuvwxyz", "9" * 10 + "a" * 26)
_LONGEST = max(map(len, _BY_SHAPE))
_CALLED_WITHIN = 47  # fewer letters than a stream's window holds back
# Letters and digits in a row with a digit, also after a line break that is written as an escape, or the one or two
# letters that stand beside some numbers.
_GROUP = re.compile(
    r"(?:(?<![^\W_])(?!(?<=\\)[nrt]|ssn[0-9])|(?<=\\[nrt])|(?<=ssn))"
    r"(?:[a-z]{0,6}[0-9][0-9a-z]{0,17}|[a-z]{1,2}(?=[ -][0-9])|(?<=[0-9][ -])[a-z])(?![^\W_])"
)
# Where groups with digits are, one beside the other; the groups need not be looked for anywhere else.
_REGION = re.compile(r"[0-9](?:[0-9a-z./+\\-]| (?=[0-9]|[a-z](?![0-9a-z])))*")
_LETTERS_BEFORE = 8
_MOST_GROUPS = 7  # of a French number

# Matches wherever a number could be.
HINT = (
    rb"[0-9](?:[ ./+-]?[0-9a-z]){8}|[0-9]{7}-?[a-z]"
    rb"|[a-z]{6}[0-9]{2}[a-z]|[a-z]{4}[0-9]{6}|[a-z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[a-d]|[a-z]{5}[0-9]{4}[a-z]"
)


def find_identity_numbers(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where in a folded text numbers are, and each in one spelling; none overlap."""
    groups: list[tuple[int, int]] = []
    called: list[bool] = []  # whether names that could mean the group stand near it
    looked_at = 0
    for region in _REGION.finditer(text):
        start = max(looked_at, region.start() - _LETTERS_BEFORE)
        looked_at = region.end()
        found = [match.span() for match in _GROUP.finditer(text, start, looked_at + 1)]
        groups += found
        is_called = _CALLED_ANYTHING.search(text, max(0, start - _CALLED_WITHIN), looked_at) is not None
        called += [is_called] * len(found)
    first = 0
    while first < len(groups):
        count, number = _number_from(text, groups[first : first + _MOST_GROUPS], called[first])
        if count:
            yield groups[first][0], groups[first + count - 1][1], number
        first += count or 1


def _number_from(text: str, groups: list[tuple[int, int]], is_called: bool) -> tuple[int, str]:
    """Return how many of the groups are a number, the fewest that are, and the number; 0 when none are."""
    start, compact = groups[0][0], ""
    before = max(0, start - _CALLED_WITHIN)
    for count, (group, end) in enumerate(groups, 1):
        if count > 1 and text[groups[count - 2][1] : group] not in (" ", ".", "-", "/", "+"):
            break
        compact += text[group:end]
        if len(compact) > _LONGEST:
            break
        for told in _BY_SHAPE.get(compact.translate(_SHAPE), ()):
            as_written = text[start:end]
            is_told = told.written.fullmatch(as_written) or (is_called and told.called.search(text, before, start))
            if is_told and told.is_valid(re.sub("[ .]", "", as_written)):
                return count, compact
    return 0, ""
