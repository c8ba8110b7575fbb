"""What is found in texts, and what becomes of them: masked, refused, flagged."""

import threading
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

import hyperscan

from schemas.bundle import Guardrail, InvalidBundleError, Kind
from schemas.events import Sensitivity
from schemas.masks import MOST_TAKEN, PLACEHOLDER
from services.governance.domain import formats, injections, leaks, names, topics, toxicity
from services.governance.domain.detectors import ANYTHING, DENIED, DETECTORS, Detector, Span, denied
from services.governance.domain.folding import Folded, fold
from services.runtime.embeddings import Space

TOO_MANY = "too-many"
MASK = "mask"
REFUSE = "refuse"

# Findings in one call. No answer or record of more fits its message; a text this full of personal data is an export.
MAX_FINDINGS = 10_000


class Verdict(Enum):
    """What may become of texts."""

    PASS = "pass"  # noqa: S105 - not a password
    MASK = "mask"  # may pass in the masked form only
    REFUSE = "refuse"


@dataclass(frozen=True)
class Finding:
    """Something found in a text. It says where, never what.

    Attributes:
        kind: A detector's; failed: a detector could not read the text; too-many: there is more to be found.
        action: Its guardrail's: mask, refuse, flag or require.
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
        texts: The texts with what is to be masked masked, one for each text read.
        findings: What was found, in order of text and place.
        masks: What was masked, each value once.
        sensitivity: The highest of what was found; None where nothing says.
    """

    texts: tuple[str, ...]
    findings: tuple[Finding, ...]
    masks: tuple[Mask, ...] = ()
    sensitivity: Sensitivity | None = None

    def of_kind(self, kind: str) -> tuple[Finding, ...]:
        """Return the findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    @property
    def verdict(self) -> Verdict:
        """What may become of the texts."""
        actions = {finding.action for finding in self.findings}
        if REFUSE in actions:
            return Verdict.REFUSE
        return Verdict.MASK if MASK in actions else Verdict.PASS


@dataclass(frozen=True)
class Asked:
    """What an answer was asked for.

    Attributes:
        instructions: What the model was told beside the request's turns.
        schema: JSON Schema that the answer must obey; empty: none, or the text is not the whole of it.
    """

    instructions: Sequence[str] = ()
    schema: str = ""


NOTHING_ASKED = Asked()


@dataclass(frozen=True)
class _Looked:
    """A guardrail, and what looks for it in a text that was asked for in some way, where its hint is there."""

    guardrail: Guardrail
    hint: bytes
    detector: Callable[[str, Asked], Detector]


class Guardrails:
    """A tenant's guardrails in one direction, compiled once; safe to use from several threads."""

    def __init__(self, guardrails: Sequence[Guardrail], space: Space | None = None) -> None:
        """Compile them, the first the strongest. Without a space of texts no topic is looked for.

        Raises:
            InvalidBundleError: A denied text has nothing in it that could be looked for.
        """
        self._looked = [looked for guardrail in guardrails for looked in _looked_for(guardrail, space)]
        self._hints = _Hints([looked.hint for looked in self._looked])
        self._always = {i for i, looked in enumerate(self._looked) if looked.hint == ANYTHING}

    def screen(self, texts: Sequence[str], instructions: Container[int] = (), asked: Asked = NOTHING_ASKED) -> Screened:
        """Read texts that belong together; the same value gets the same number in all of them.

        Args:
            texts: What is said.
            instructions: Which of the texts the application itself tells the model, by position.
            asked: What was asked for, if the texts are an answer.
        """
        placeholders = _Names(texts)
        masked: list[str] = []
        findings: list[Finding] = []
        sensitivities: set[Sensitivity] = set()
        for index, text in enumerate(texts):
            folded = fold(text)
            here: list[Finding] = []
            to_mask: list[tuple[int, Span]] = []
            for strength in sorted(self._always | self._hints.within(folded.text)):
                guardrail = self._looked[strength].guardrail
                detector = self._looked[strength].detector(text, asked)
                if index in instructions and not detector.reads_instructions:
                    continue
                for span in detector.find(folded.text):
                    if guardrail.sensitivity is not None:
                        sensitivities.add(guardrail.sensitivity)
                    if guardrail.action == MASK:
                        to_mask.append((strength, span))
                    else:
                        start, end = folded.span(span.start, span.end)
                        here.append(Finding(span.kind, guardrail.action, index, start, end))
            pieces, done = [], 0
            for span, start, end in _apart(to_mask, folded):
                pieces += [text[done:start], placeholders.name(span, text[start:end])]
                here.append(Finding(span.kind, MASK, index, start, end))
                done = end
            masked.append("".join([*pieces, text[done:]]))
            findings += sorted(here, key=lambda finding: (finding.start, finding.end))
            if len(findings) > MAX_FINDINGS:
                return refused(texts, TOO_MANY)
        sensitivity = max(sensitivities, key=lambda each: each.level, default=None)
        return Screened(tuple(masked), tuple(findings), placeholders.masks, sensitivity)


def refused(texts: Sequence[str], kind: str) -> Screened:
    """Return what is said of texts that could not be read whole: nobody can tell how sensitive they are."""
    return Screened(("",) * len(texts), (Finding(kind, REFUSE, 0, 0, 0),), sensitivity=Sensitivity.RESTRICTED)


def _looked_for(guardrail: Guardrail, space: Space | None) -> Iterator[_Looked]:
    for kind in guardrail.detect:
        if kind == leaks.KIND:
            yield _Looked(guardrail, ANYTHING, lambda _, asked: leaks.leaks(asked.instructions, guardrail.words))
        elif kind == formats.KIND:
            yield _Looked(guardrail, ANYTHING, lambda text, asked: formats.broken_format(text, asked.schema))
        elif kind == names.KIND:
            names.shipped()  # loaded now, not while a request waits
            yield _Looked(guardrail, ANYTHING, lambda text, _: names.names(text))
        else:
            for detector in _detectors(kind, guardrail, space):
                yield _Looked(guardrail, detector.hint, lambda _, __, detector=detector: detector)  # type: ignore[misc]


def _detectors(kind: Kind, guardrail: Guardrail, space: Space | None) -> Iterator[Detector]:
    if kind == injections.KIND:
        yield injections.injection(guardrail.threshold)
    elif kind == toxicity.KIND:
        yield toxicity.toxicity(guardrail.threshold)
    elif kind == topics.KIND:
        if space is not None and guardrail.topic is not None:
            yield topics.topic(guardrail.topic, guardrail.texts, guardrail.threshold, space)
    elif kind == DENIED:
        for position, text in enumerate(guardrail.texts):
            try:
                yield denied(text)
            except ValueError as error:
                raise InvalidBundleError(f"texts.{position} {error}") from error
    else:
        yield DETECTORS[kind]


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
                if int(number) <= MOST_TAKEN:
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


def _apart(found: Sequence[tuple[int, Span]], folded: Folded) -> Iterator[tuple[Span, int, int]]:
    """Yield finds with their places in the original text; none overlap, all that any of them covers is covered."""
    free = 0
    for span in _merged(found):
        start, end = folded.span(span.start, span.end)
        # One original character may fold to several, so that neighbours may share it.
        if end > free:
            yield span, max(start, free), end
            free = end


def _merged(found: Sequence[tuple[int, Span]]) -> Iterator[Span]:
    """Yield finds in order, those that overlap as one: the strongest names it, and all that any of them covers goes."""
    whole: tuple[int, Span] | None = None
    for strength, span in sorted(found, key=lambda each: (each[1].start, -each[1].end)):
        if whole is None or span.start >= whole[1].end:
            if whole is not None:
                yield whole[1]
            whole = strength, span
            continue
        strongest, named = min(whole, (strength, span), key=lambda each: each[0])
        start, end = whole[1].start, max(whole[1].end, span.end)
        # What covers more than the strongest found is another value than that.
        value = named.value if (named.start, named.end) == (start, end) else ""
        whole = strongest, replace(named, start=start, end=end, value=value)
    if whole is not None:
        yield whole[1]
