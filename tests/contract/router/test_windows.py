"""The router's windows with governance's own detectors: however an answer is cut, what leaves is what may leave."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.bundle import Guardrail
from schemas.events import Finding
from services.governance.domain.guardrails import Guardrails, Screened, Verdict
from services.router.domain.answers import Asked
from services.router.domain.errors import Refused
from services.router.domain.knowledge import InputVerdict, Mask, OutputVerdict
from services.router.domain.request import Request
from services.router.journal import Completion
from tests.unit.router.fakes import Stack, user

DENIED = ["the secret sauce", "con"]
GUARDRAILS = Guardrails(
    [
        Guardrail(detect=("secret", "iban", "card", "id", "email", "ip", "phone"), action="mask"),
        Guardrail(detect=("denied",), action="refuse", texts=tuple(DENIED)),
    ]
)
PERSONAL = [
    "bob.smith@mail.example.com",
    "4111 1111 1111 1111",
    "DE89 3704 0044 0532 0130 00",
    "123-45-6789",
    # Numbers by the words before them alone.
    "her social security number is 536904399",
    "telephone, if any: 2125550",
    # Or behind them.
    "2125551-Office,",
    "password: hunter2hunter2",
    "sk-" + "a1" * 200,
    "eyJhbGciOiJIUzI1NiJ9.eyJ" + "c3ViIjoi" * 60 + "." + "aB3" * 14,
    "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA\n" * 20 + "-----END RSA PRIVATE KEY-----",
]


async def check_output(application: str, task: str, text: str, asked: Asked, timeout_seconds: float) -> OutputVerdict:
    screened = GUARDRAILS.screen([text])
    findings = tuple(
        Finding(direction="output", kind=found.kind, action=found.action, start=found.start, end=found.end)
        for found in screened.findings
    )
    refused = screened.verdict is Verdict.REFUSE
    text = "" if refused else screened.texts[0]
    return OutputVerdict(screened.verdict.value, text, "b1", findings, _masks(screened))


def _masks(screened: Screened) -> tuple[Mask, ...]:
    return tuple(Mask(mask.placeholder, mask.value, mask.text) for mask in screened.masks)


async def stream(pieces: Sequence[str], asked: str = "Hi") -> tuple[str, Completion | None]:
    stack = Stack()
    stack.models.pieces = pieces
    cleared = await stack.governance.check_input("web", "chat", ["Hi"], [], 1)

    async def check_input(
        application: str, task: str, texts: Sequence[str], instructions: Sequence[int], timeout_seconds: float
    ) -> InputVerdict:
        screened = GUARDRAILS.screen(texts)
        return replace(cleared, verdict=screened.verdict.value, texts=screened.texts, masks=_masks(screened))

    stack.governance.check_input = check_input  # type: ignore[method-assign]
    stack.governance.check_output = check_output  # type: ignore[method-assign]
    released = ""
    try:
        async for piece in stack.router.stream(stack.call(), Request(messages=(user(asked),))):
            if isinstance(piece, Completion):
                return released, piece
            released += piece.text
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
    assert released == GUARDRAILS.screen([text]).texts[0] == completion.message.content


@settings(max_examples=150)
@given(
    # As many as the task's prompt budget holds.
    st.lists(st.sampled_from([each for each in PERSONAL if len(each) < 50]), unique=True, max_size=4),
    st.lists(words | st.sampled_from([f"so {each}, " for each in PERSONAL]) | st.integers(0, 8), max_size=60),
    cuts,
)
async def test_a_stream_gives_the_caller_its_own_values_and_nobody_elses(
    own: list[str], parts: list[str | int], cuts: list[int]
) -> None:
    asked = GUARDRAILS.screen(own)
    names = {mask.text: mask.placeholder for mask in asked.masks}
    # A model may write a value of the caller's, or its name.
    text = "".join(
        part if isinstance(part, str) else "".join([*names.values()][part : part + 1]) + " " for part in parts
    )
    released, completion = await stream(cut_at(text, cuts), "\n".join(["Hi", *own]))
    assert completion is not None
    assert not any(name in released for name in names.values())
    for value in (mask.text for each in PERSONAL for mask in GUARDRAILS.screen([each]).masks):
        said = text.count(value) + (text.count(names[value]) if value in names else 0)
        assert released.count(value) == (said if value in names else 0)


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
