"""What of an answer its tokens say."""

import pytest

from schemas.prompts import Token
from services.router.domain.answers import tokens_of
from services.router.domain.request import Sampling
from tests.unit.router.fakes import LIGHTS, Stack, ask, collect

EMAIL = "jo@example.com"
CALL = '{"name": "lights", "arguments": {"room": "hall"}}'
TOKENS = Sampling(logprobs=True)


def tokens(*texts: str) -> tuple[Token, ...]:
    return tuple(Token(text, -0.5) for text in texts)


@pytest.mark.parametrize(
    ("answer", "told", "kept"),
    [
        ("Hello there", tokens("Hello", " there"), 2),
        ("Hello", tokens("Hello", "<stop>"), 1),
        ("Hello", tokens("Hello", ""), 1),
        ("", (), 0),
        ("", tokens("<stop>"), 0),
        ("é!", (Token("?", -0.5, (0xC3,)), Token("?", -0.5, (0xA9,)), Token("!", -0.5)), 3),
    ],
)
def test_an_answers_tokens_are_those_before_what_ended_it(answer: str, told: tuple[Token, ...], kept: int) -> None:
    assert tokens_of(answer, told) == told[:kept]


@pytest.mark.parametrize("told", [tokens("Hello"), tokens("Hello", " you"), tokens("Hello there", " you")[1:], ()])
def test_tokens_that_say_something_else_are_none_of_the_answers(told: tuple[Token, ...]) -> None:
    assert tokens_of("Hello there", told) is None


async def test_they_are_told_to_who_asks() -> None:
    stack = Stack()
    assert (await stack.router.complete(stack.call(), ask("Hi"))).tokens is None
    asked = ask("Hi", sampling=TOKENS)
    assert (await stack.router.complete(stack.call(), asked)).tokens == tokens("Hello", " there")
    assert (await collect(stack, asked))[1].tokens == tokens("Hello", " there")


async def test_no_token_tells_what_was_masked() -> None:
    stack = Stack()
    stack.models.pieces = ["Write to ", EMAIL]
    completion = await stack.router.complete(stack.call(), ask("Hi", sampling=TOKENS))
    assert EMAIL not in completion.message.content
    assert completion.tokens is None


async def test_a_call_has_no_tokens() -> None:
    stack = Stack()
    stack.models.pieces = [CALL]
    request = ask("Light!", task="calls", tools=(LIGHTS,), sampling=TOKENS)
    completion = await stack.router.complete(stack.call(), request)
    assert completion.message.tool_calls
    assert completion.tokens is None
