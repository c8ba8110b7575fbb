"""Looks for personal data and secrets that are in the clear, with what is too slow for the path of a request.

Personal data is told by the recognisers of Presidio, by form and checksum, and telephone numbers as libphonenumber
reads them; secrets by `services.runtime.secrets`. What guardrails masked, such as `<EMAIL_1>`, is none of these.

A process of its own (`python -m services.trainer.dataset.personal_data`), so that the service neither waits for it nor
has it in memory: it reads `Texts` as JSON and writes a list of booleans, whether each holds any of the kinds.
"""

import sys

import msgspec

if __name__ == "__main__":
    # Presidio imports all that it could work with. These two take most of the time and 800 MB, and none of its
    # recognisers below needs them: as None they count as not installed.
    sys.modules["torch"] = sys.modules["transformers"] = None  # type: ignore[assignment]

from presidio_analyzer import EntityRecognizer
from presidio_analyzer import predefined_recognizers as presidio
from tldextract import TLDExtract

from schemas.answers import normalise_text
from schemas.bundle import Rescanned
from services.runtime.secrets import find_secrets

# Of Presidio's scores: a form alone has less, a form that is told from others 0.5, one with a checksum 1.
LEAST_SCORE = 0.4
# Whose telephone numbers are known without a country code; 2: with their digits grouped as is usual there.
REGIONS, STRICT_GROUPING = ("US", "GB", "DE", "FR", "ES", "IT", "IN", "BR"), 2


class Texts(msgspec.Struct):
    """What is read: texts, and the kinds that are looked for in each."""

    kinds: tuple[Rescanned, ...]
    texts: tuple[str, ...]


class _Email(presidio.EmailRecognizer):
    """With the list of domains that comes in the package: Presidio's own asks the network for the newest."""

    _domain = TLDExtract(suffix_list_urls=(), cache_dir=None)

    def validate_result(self, pattern_text: str) -> bool:
        return bool(self._domain(pattern_text).fqdn)


_RECOGNIZERS: dict[Rescanned, tuple[EntityRecognizer, ...]] = {
    "iban": (presidio.IbanRecognizer(),),
    "card": (presidio.CreditCardRecognizer(),),
    "id": (
        presidio.UsSsnRecognizer(),
        presidio.UsItinRecognizer(),
        presidio.UkNinoRecognizer(),
        presidio.EsNifRecognizer(),
        presidio.EsNieRecognizer(),
        presidio.ItFiscalCodeRecognizer(),
        presidio.FiPersonalIdentityCodeRecognizer(),
    ),
    "email": (_Email(),),
    "ip": (presidio.IpRecognizer(),),
    "phone": (presidio.PhoneRecognizer(supported_regions=REGIONS, leniency=STRICT_GROUPING),),
}


def holds(text: str, kind: Rescanned) -> bool:
    """Say whether a text holds something of a kind."""
    if kind == "secret":
        return any(True for _ in find_secrets(normalise_text(text)))
    return any(
        found.score >= LEAST_SCORE and not _may_be_any_number(kind, text[found.start : found.end])
        for recognizer in _RECOGNIZERS[kind]
        for found in recognizer.analyze(text, recognizer.supported_entities, None)  # type: ignore[arg-type]  # no NLP
    )


def _may_be_any_number(kind: Rescanned, found: str) -> bool:
    """Nothing tells a telephone number that is digits alone from the number of an order."""
    return kind == "phone" and found.isdigit()


def main() -> None:
    """Reads from standard input, writes to standard output."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Texts)
    sys.stdout.buffer.write(
        msgspec.json.encode([any(holds(text, kind) for kind in asked.kinds) for text in asked.texts])
    )


if __name__ == "__main__":
    main()
