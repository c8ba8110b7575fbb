"""How much personal data is found, beside Presidio: `python -m benchmarks.personal_data`.

3,000 sentences are generated from presidio-evaluator's templates and fake identities; the detectors were worked out on
other identities, though in the same templates. A wanted value counts as found when every letter and digit
of it would be masked, as whatever kind; a find that touches no wanted value counts as false. F2 weighs what is missed
four times as heavily. Addresses and names, which no checksum tells, are looked for and counted apart; of an address the
generator's parts (number, street, flat, postcode) count one by one. Times are of the processor.
"""

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.environment import install
from schemas.bundle import Guardrail
from services.governance.domain.guardrails import Guardrails

SENTENCES = 3000
# By what is looked for at once: the kind of each entity that Presidio names.
GROUPS = {
    "all": {
        "CREDIT_CARD": "card",
        "EMAIL_ADDRESS": "email",
        "IBAN_CODE": "iban",
        "IP_ADDRESS": "ip",
        "PHONE_NUMBER": "phone",
        "US_SSN": "id",
    },
    "address": {"STREET_ADDRESS": "address"},
    "name": {"PERSON": "name"},
}
DETECTED = {
    "all": ("secret", "iban", "card", "id", "email", "ip", "phone"),
    "address": ("address",),
    "name": ("name",),
}
CHARACTERS = 1000

Span = tuple[str, int, int]
Sentence = Mapping[str, Any]
Scores = dict[str, tuple[int, int, int]]


def main() -> None:
    """Install Presidio beside, compare, print."""
    sentences = _presidios_sentences()
    print(f"{len(sentences)} sentences")
    print(f"{'':8} {'':>6} {'Gyre':>22} {'Presidio':>22}")
    print(f"{'':8} {'wanted':>6}" + f"{'missed':>10} {'false':>5} {'F2':>6}" * 2)
    times = [_compare(sentences, group) for group in GROUPS]
    print("median time of a sentence, and of 1,000 characters:", *times, sep="\n")


def _compare(sentences: Sequence[Sentence], group: str) -> str:
    """Print what each side finds of a group, and return how long it takes."""
    guardrails = Guardrails([Guardrail.model_validate({"detect": DETECTED[group], "action": "mask"})])
    _read(guardrails, "To warm up: Jo Smith, jo@example.com, 192.168.1.1")
    read = [_read(guardrails, sentence["text"]) for sentence in sentences]
    sides = [_scores(sentences, group, [found for found, _ in read])]
    texts = " ".join(sentence["text"] for sentence in sentences)
    long = [_read(guardrails, texts[i : i + CHARACTERS])[1] for i in range(0, len(texts) - CHARACTERS, CHARACTERS)]
    median = statistics.median(seconds for _, seconds in read)
    took = f"{group:8} {median * 1e6:.0f} us, {statistics.median(long) * 1e6:.0f} us"
    if group in sentences[0]["presidio"]:
        kinds = GROUPS[group]
        theirs = [
            [(kinds[kind], start, end) for kind, start, end in sentence["presidio"][group]] for sentence in sentences
        ]
        sides.append(_scores(sentences, group, theirs))
        other = statistics.median(sentence["seconds"][group] for sentence in sentences)
        took += f"; Presidio {other * 1e6:.0f} us a sentence ({other / median:.1f} times)"
    for row in sides[0]:
        wanted = sum(sides[0][row][:2])
        columns = "".join(
            f"{missed:10} {false:5} {_f2(hits, missed, false):6.3f}"
            for hits, missed, false in (side[row] for side in sides)
        )
        print(f"{row:8} {wanted:6}{columns}")
    return took


def _presidios_sentences() -> list[Sentence]:
    python = install("presidio")
    print(f"Presidio reads {SENTENCES} sentences twice (some minutes)", file=sys.stderr)
    command = [str(python), str(Path(__file__).with_name("presidio.py")), str(SENTENCES)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def _read(guardrails: Guardrails, text: str) -> tuple[list[Span], float]:
    started = time.process_time()
    findings = guardrails.screen([text]).findings
    seconds = time.process_time() - started
    return [(finding.kind, finding.start, finding.end) for finding in findings], seconds


def _scores(sentences: Sequence[Sentence], group: str, finds: Sequence[Sequence[Span]]) -> Scores:
    """Return by kind how many of a group were found, how many missed, and how many finds were false."""
    kinds = GROUPS[group]
    hits, missed, false = Counter[str](), Counter[str](), Counter[str]()
    for sentence, found in zip(sentences, finds, strict=True):
        text = sentence["text"]
        covered = {position for _, start, end in found for position in range(start, end)}
        wanted = [(kinds[entity], start, end) for entity, start, end in sentence["wanted"] if entity in kinds]
        for kind, start, end in wanted:
            whole = all(position in covered for position in range(start, end) if text[position].isalnum())
            (hits if whole else missed)[kind] += 1
        for kind, start, end in found:
            false[kind] += not any(other < end and start < other_end for _, other, other_end in wanted)
    scores = {kind: (hits[kind], missed[kind], false[kind]) for kind in kinds.values()}
    return scores | {group: (hits.total(), missed.total(), false.total())}


def _f2(hits: int, missed: int, false: int) -> float:
    return 5 * hits / (5 * hits + 4 * missed + false) if hits else 0.0


if __name__ == "__main__":
    main()
