"""The router's windows with governance's own detectors: however an answer is cut, what leaves is what may leave."""

import itertools
import re
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bundle import Guardrails as Rules
from schemas.events import Finding
from services.governance.domain.guardrails import Guardrails, Verdict
from services.router.domain.errors import Refused
from services.router.domain.knowledge import OutputVerdict
from services.router.domain.request import Request
from services.router.journal import Completion
from tests.unit.router.fakes import Stack, user

DENIED = ["the secret sauce", "con"]
GUARDRAILS = Guardrails(Rules(deny=tuple(DENIED)))
PERSONAL = [
    "bob.smith@mail.example.com",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "123-45-6789",
    # Numbers by the words before them alone.
    "her social security number is 123456789",
    "telephone, if any: 2125550",
    "password: hunter2hunter2",
    "sk-" + "a1" * 200,
    "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA\n" * 20 + "-----END RSA PRIVATE KEY-----",
]
NUMBERED = re.compile(r"<([A-Z]+)_[0-9]+>")


async def check_output(application: str, task: str, text: str, timeout_seconds: float) -> OutputVerdict:
    screened = GUARDRAILS.screen([text])
    findings = tuple(
        Finding(direction="output", kind=found.kind, action=found.action, start=found.start, end=found.end)
        for found in screened.findings
    )
    refused = screened.verdict is Verdict.REFUSE
    return OutputVerdict(screened.verdict.value, "" if refused else screened.texts[0], findings)


async def stream(pieces: Sequence[str]) -> tuple[str, Completion | None]:
    stack = Stack()
    stack.models.pieces = pieces
    stack.governance.check_output = check_output  # type: ignore[method-assign]
    released = ""
    try:
        async for piece in stack.router.stream(stack.call(), Request(messages=(user("Hi"),))):
            if isinstance(piece, Completion):
                return released, piece
            released += piece
    except Refused:
        return released, None
    raise AssertionError("a stream ends with its completion or an error")


def cut_at(text: str, cuts: Sequence[int]) -> list[str]:
    places = [0, *sorted({cut % (len(text) + 1) for cut in cuts}), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(places) if b > a]


words = st.sampled_from(["word ", "context ", "control, ", "a long-ish one; ", "7 ", "\n", "...... ", "x" * 90 + " "])
cuts = st.lists(st.integers(0, 10_000), max_size=40)


@settings(max_examples=150)
@given(st.lists(words | st.sampled_from([f"{each} " for each in PERSONAL]), max_size=60), cuts)
async def test_masked_text_leaves_a_stream_as_it_leaves_whole(parts: list[str], cuts: list[int]) -> None:
    text = "".join(parts)
    released, completion = await stream(cut_at(text, cuts))
    assert completion is not None
    # Numbers start anew in each window.
    whole = NUMBERED.sub(r"<\1>", GUARDRAILS.screen([text]).texts[0])
    assert NUMBERED.sub(r"<\1>", released) == whole == NUMBERED.sub(r"<\1>", completion.message.content)


@settings(max_examples=150)
@given(
    st.lists(words, min_size=0, max_size=40),
    st.text(alphabet=" .-_\u200b\n", max_size=80),
    st.lists(words, max_size=40),
    cuts,
)
async def test_no_part_of_a_denied_text_leaves_a_stream(
    before: list[str], between: str, after: list[str], cuts: list[int]
) -> None:
    start = "".join(before)
    text = f"{start} the{between} secret{between} SAUCE {''.join(after)}"
    released, completion = await stream(cut_at(text, cuts))
    assert completion is None
    assert f"{start} ".startswith(released)
