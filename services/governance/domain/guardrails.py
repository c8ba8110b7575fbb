"""What is masked and what is refused in texts."""

import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum

import hyperscan

from schemas import bundle
from schemas.masks import PLACEHOLDER
from services.governance.domain.detectors import DETECTORS, Span
from services.governance.domain.folding import Folded, fold

DENIED = "denied"
TOO_MANY = "too-many"
MASK = "mask"
REFUSE = "refuse"

# Findings in one call. No answer or record of more fits its message; a text this full of personal data is an export.
MAX_FINDINGS = 10_000

_HINT_CHARACTERS = 32  # enough to be rare

_STRENGTH = {detector.kind: strength for strength, detector in enumerate(DETECTORS)}


class Verdict(Enum):
    """What may become of texts."""

    PASS = "pass"  # noqa: S105 - not a password
    MASK = "mask"  # may pass in the masked form only
    REFUSE = "refuse"


@dataclass(frozen=True)
class Finding:
    """Something found in a text. It says where, never what.

    Attributes:
        kind: A detector's, or denied; failed: a detector could not read the text; too-many: there is more to be found.
        action: mask or refuse.
        text_index: Which of the texts, from 0.
        start: First code point in that text, before masking.
        end: One past the last.
    """

    kind: str
    action: str
    text_index: int
    start: int
    end: int


@dataclass(frozen=True)
class Mask:
    """What stands in texts in place of a value.

    Attributes:
        placeholder: `<EMAIL_1>`.
        value: In one spelling, so that equal values compare equal.
        text: As the texts spell it where they hold it first.
    """

    placeholder: str
    value: str = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True)
class Screened:
    """What guardrails have to say of texts.

    Attributes:
        texts: The texts with personal data and secrets masked, one for each text read.
        findings: What was found, in order of text and place.
        masks: What was masked, each value once.
    """

    texts: tuple[str, ...]
    findings: tuple[Finding, ...]
    masks: tuple[Mask, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What may become of the texts."""
        actions = {finding.action for finding in self.findings}
        if REFUSE in actions:
            return Verdict.REFUSE
        return Verdict.MASK if MASK in actions else Verdict.PASS

    @property
    def personal_data(self) -> bool:
        """Whether there is personal data or a secret in the texts, or nobody can tell."""
        return any(finding.kind != DENIED for finding in self.findings)


class Guardrails:
    """A bundle's guardrails, compiled once; safe to use from several threads."""

    def __init__(self, rules: bundle.Guardrails) -> None:
        """Compile them.

        Raises:
            InvalidBundleError: A deny-listed text has nothing in it that could be looked for.
        """
        self._detectors = [detector for detector in DETECTORS if detector.kind in rules.mask]
        self._denied = [_DeniedText(text, position) for position, text in enumerate(rules.deny)]
        hints = [*(detector.hint for detector in self._detectors), *(denied.hint for denied in self._denied)]
        self._hints = _Hints(hints)

    def screen(self, texts: Sequence[str]) -> Screened:
        """Read texts that belong together; the same value gets the same number in all of them."""
        names = _Names(texts)
        masked: list[str] = []
        findings: list[Finding] = []
        for index, text in enumerate(texts):
            folded = fold(text)
            hinted = self._hints.within(folded.text)
            found = list(self._personal_data(folded, hinted))
            pieces, done = [], 0
            for span, start, end in found:
                pieces += [text[done:start], names.name(span, text[start:end])]
                done = end
            masked.append("".join([*pieces, text[done:]]))
            here = [Finding(span.kind, MASK, index, start, end) for span, start, end in found]
            here += [Finding(DENIED, REFUSE, index, start, end) for start, end in self._denied_spans(folded, hinted)]
            findings += sorted(here, key=lambda finding: (finding.start, finding.end))
            if len(findings) > MAX_FINDINGS:
                return Screened(("",) * len(texts), (Finding(TOO_MANY, REFUSE, index, 0, len(text)),))
        return Screened(tuple(masked), tuple(findings), names.masks)

    def _personal_data(self, folded: Folded, hinted: set[int]) -> Iterator[tuple[Span, int, int]]:
        """Yield what is to be masked and where in the original text it is; none overlap."""
        spans = [
            span
            for position, detector in enumerate(self._detectors)
            if position in hinted
            for span in detector.find(folded.text)
        ]
        free = 0
        for span in _merged(spans):
            start, end = folded.span(span.start, span.end)
            # One original character may fold to several, so that neighbours may share it.
            if end > free:
                yield span, max(start, free), end
                free = end

    def _denied_spans(self, folded: Folded, hinted: set[int]) -> Iterator[tuple[int, int]]:
        for position, denied in enumerate(self._denied, len(self._detectors)):
            if position in hinted:
                for match in denied.pattern.finditer(folded.text):
                    yield folded.span(*match.span())


class _DeniedText:
    """A deny-listed text: its words in order, as whole words, whatever stands or does not stand between them."""

    def __init__(self, text: str, position: int) -> None:
        words = fold(text).text.split()
        if not words:
            raise bundle.InvalidBundleError(f"guardrails.deny[{position}]: holds nothing that can be seen")
        before = r"(?<![^\W_])" if _stands_alone(words[0][0]) else ""
        after = r"(?![^\W_])" if _stands_alone(words[-1][-1]) else ""
        self.pattern = re.compile(before + r"[\W_]*".join(map(re.escape, words)) + after)
        self.hint = b"".join(b"\\x%02x" % byte for byte in max(words, key=len)[:_HINT_CHARACTERS].encode())


def _stands_alone(character: str) -> bool:
    """Return whether words of the character's script are set apart: those with upper and lower case, and numbers."""
    return character.isdigit() or character.upper() != character


class _Hints:
    """Which of many byte patterns occur in a text, in one pass."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._database: hyperscan.Database | None = None
        self._scratch = threading.local()  # Hyperscan's working memory serves one scan at a time
        if patterns:
            self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
            self._database.compile(
                expressions=patterns,
                ids=list(range(len(patterns))),
                elements=len(patterns),
                flags=[hyperscan.HS_FLAG_SINGLEMATCH] * len(patterns),
            )

    def within(self, text: str) -> set[int]:
        """Return the positions in the list of the patterns that occur."""
        found: set[int] = set()
        if self._database is None or not text:
            return found
        scratch = getattr(self._scratch, "value", None)
        if scratch is None:
            scratch = self._scratch.value = hyperscan.Scratch(self._database)

        def note(pattern: int, _start: int, _end: int, _flags: int, _context: object) -> None:
            found.add(pattern)

        self._database.scan(text.encode(), match_event_handler=note, scratch=scratch)
        return found


class _Names:
    """Numbers the values of one request: <EMAIL_1>, <EMAIL_2>, after any that its texts hold already."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._last: dict[str, int] = defaultdict(int)
        self._masks: dict[tuple[str, str], Mask] = {}
        for text in texts:
            for kind, number in PLACEHOLDER.findall(text):
                self._last[kind] = max(self._last[kind], int(number))

    def name(self, span: Span, text: str) -> str:
        kind, value = span.kind.upper(), span.value or text
        if (kind, value) not in self._masks:
            self._last[kind] += 1
            self._masks[kind, value] = Mask(f"<{kind}_{self._last[kind]}>", value, text)
        return self._masks[kind, value].placeholder

    @property
    def masks(self) -> tuple[Mask, ...]:
        return tuple(self._masks.values())


def _merged(spans: Iterable[Span]) -> Iterator[Span]:
    """Yield spans in order, those that overlap as one: the strongest names it, and all that any of them covers goes."""
    whole: Span | None = None
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if whole is None or span.start >= whole.end:
            if whole is not None:
                yield whole
            whole = span
            continue
        strongest = min(whole, span, key=lambda each: _STRENGTH[each.kind])
        whole = Span(strongest.kind, whole.start, max(whole.end, span.end), strongest.value)
    if whole is not None:
        yield whole
