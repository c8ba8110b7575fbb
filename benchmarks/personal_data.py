"""How much personal data is found, beside Presidio: `python -m benchmarks.personal_data`.

3,000 sentences are generated from presidio-evaluator's templates and fake identities; the detectors were worked out on
other identities, though in the same templates. A wanted value counts as found when every letter and digit
of it would be masked, as whatever kind; a find that touches no wanted value counts as false. F2 weighs what is missed
four times as heavily. Times are of the processor.
"""

import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from recipes.environment import install
from schemas.bundle import Guardrail
from services.governance.domain.guardrails import Guardrails

SENTENCES = 3000
KINDS = {
    "CREDIT_CARD": "card",
    "EMAIL_ADDRESS": "email",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "PHONE_NUMBER": "phone",
    "US_SSN": "id",
}

Span = tuple[str, int, int]


def main() -> None:
    """Install Presidio beside, compare, print."""
    sentences = _presidios_sentences()
    guardrails = Guardrails([Guardrail(detect=("secret", "iban", "card", "id", "email", "ip", "phone"), action="mask")])
    seconds = []

    def found(sentence: dict[str, Any]) -> list[Span]:
        started = time.process_time()
        screened = guardrails.screen([sentence["text"]])
        seconds.append(time.process_time() - started)
        return [(finding.kind, finding.start, finding.end) for finding in screened.findings]

    ours = _scores(sentences, found)
    theirs = _scores(sentences, lambda sentence: [(KINDS[kind], a, b) for kind, a, b in sentence["presidio"]])
    print(f"{len(sentences)} sentences")
    print(f"{'':8} {'':>6} {'Gyre':>22} {'Presidio':>22}")
    print(f"{'':8} {'wanted':>6}" + f"{'missed':>10} {'false':>5} {'F2':>6}" * 2)
    for kind in (*KINDS.values(), "all"):
        sides = [
            f"{missed:10} {false:5} {_f2(hits, missed, false):6.3f}"
            for hits, missed, false in (ours[kind], theirs[kind])
        ]
        print(f"{kind:8} {sum(ours[kind][:2]):6}{''.join(sides)}")
    median, other = statistics.median(seconds), statistics.median(sentence["seconds"] for sentence in sentences)
    print(
        f"median time of a sentence: {median * 1e6:.0f} us, Presidio {other * 1e6:.0f} us ({other / median:.0f} times)"
    )


def _presidios_sentences() -> list[dict[str, Any]]:
    python = install("presidio")
    print(f"Presidio reads {SENTENCES} sentences (a minute or so)", file=sys.stderr)
    command = [str(python), str(Path(__file__).with_name("presidio.py")), str(SENTENCES)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603 - our own
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def _scores(
    sentences: Sequence[dict[str, Any]], find: Callable[[dict[str, Any]], list[Span]]
) -> dict[str, tuple[int, int, int]]:
    """Return by kind how many were found, how many missed, and how many finds were false."""
    hits, missed, false = Counter[str](), Counter[str](), Counter[str]()
    for sentence in sentences:
        text, found = sentence["text"], find(sentence)
        covered = {position for _, start, end in found for position in range(start, end)}
        wanted = [(KINDS[kind], start, end) for kind, start, end in sentence["wanted"]]
        for kind, start, end in wanted:
            whole = all(position in covered for position in range(start, end) if text[position].isalnum())
            (hits if whole else missed)[kind] += 1
        for kind, start, end in found:
            false[kind] += not any(other < end and start < other_end for _, other, other_end in wanted)
    scores = {kind: (hits[kind], missed[kind], false[kind]) for kind in KINDS.values()}
    return scores | {"all": (hits.total(), missed.total(), false.total())}


def _f2(hits: int, missed: int, false: int) -> float:
    return 5 * hits / (5 * hits + 4 * missed + false) if hits else 0.0


if __name__ == "__main__":
    main()
