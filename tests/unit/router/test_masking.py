"""What is masked gets its own value back, and nothing else does."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Message, Sensitivity, ToolCall
from services.router.domain.knowledge import Knowledge, Mask, Passage, Turn
from services.router.domain.masking import Vault
from services.router.domain.request import Request, Sampling
from tests.unit.router.fakes import LIGHTS, Stack, ask, collect, user


def vault_of(*texts: str, masks: dict[str, str]) -> Vault:
    vault = Vault()
    kept = [Mask(placeholder, text.lower(), text) for placeholder, text in masks.items()]
    vault.keep(kept, [user(text) for text in texts], ())
    return vault


async def test_the_model_sees_a_mask_and_the_caller_gets_its_own_text_back() -> None:
    stack = Stack()
    stack.models.pieces = ["I write to <EMA", "IL_1>, not to <EMAIL_2>."]
    completion = await stack.router.complete(stack.call(), ask("I am Bob@example.com, he is al@example.com"))
    assert "I am <EMAIL_1>, he is <EMAIL_2>" in stack.models.prompts[0].messages[1]["content"]
    assert completion.message.content == "I write to Bob@example.com, not to al@example.com."
    assert stack.recorder.last.answer == "I write to <EMAIL_1>, not to <EMAIL_2>."
    assert "example.com" not in repr(stack.recorder.last)


async def test_a_stream_gives_back_what_a_plain_answer_would() -> None:
    stack = Stack()
    stack.models.pieces = [
        "some words " * 20,
        "to <EMAIL",
        "_1> " + "and " * 40,
        "to new@x.com, " + "and " * 40,
        "bob@x.com",
    ]
    pieces, completion = await collect(stack, ask("I am bob@x.com"))
    words = "some words " * 20
    assert "".join(pieces) == f"{words}to bob@x.com {'and ' * 40}to <EMAIL_2>, {'and ' * 40}bob@x.com"
    assert completion.message.content == "".join(pieces)
    assert stack.recorder.last.answer == f"{words}to <EMAIL_1> {'and ' * 40}to <EMAIL_2>, {'and ' * 40}<EMAIL_1>"


async def test_a_tool_call_gets_the_callers_text_in_its_json() -> None:
    stack = Stack()
    stack.models.pieces = ['{"name": "lights", "arguments": {"room": "<EMAIL_1>", "not": "<EMAIL_2>"}}']
    completion = await stack.router.complete(stack.call(), ask("For bob@x.com", task="calls", tools=(LIGHTS,)))
    (call,) = completion.message.tool_calls
    assert call.arguments == '{"room":"bob@x.com","not":"<EMAIL_2>"}'
    assert stack.recorder.last.tool_calls[0].arguments == '{"room":"<EMAIL_1>","not":"<EMAIL_2>"}'


async def test_a_mask_that_the_caller_wrote_itself_stays() -> None:
    stack = Stack()
    stack.models.pieces = ["<EMAIL_1> and <EMAIL_2>"]
    completion = await stack.router.complete(stack.call(), ask("<EMAIL_1> is not bob@x.com"))
    assert completion.message.content == "<EMAIL_1> and bob@x.com"


async def test_masks_of_earlier_turns_are_not_taken_for_this_requests() -> None:
    stack = Stack()
    earlier = Turn(user("I am <EMAIL_1>"), Sensitivity.INTERNAL, 3)
    known = Passage("d", "Of <EMAIL_1>", "Ask <EMAIL_2> or <PHONE_1>", Sensitivity.INTERNAL, 3, 0.5)
    stack.context.knowledge = Knowledge((known,), (earlier,))
    stack.models.pieces = ["<EMAIL_1> <EMAIL_2> <EMAIL_3> and new@x.com"]
    completion = await stack.router.complete(stack.call(), ask("And I am bob@x.com"))
    system, turn, request = stack.models.prompts[0].messages
    assert "[Of <EMAIL_2>]\nAsk <EMAIL_3> or <PHONE_1>" in system["content"]
    assert (turn["content"], request["content"]) == ("I am <EMAIL_2>", "And I am <EMAIL_1>")
    assert completion.message.content == "bob@x.com <EMAIL_2> <EMAIL_3> and <EMAIL_4>"


async def test_history_that_is_told_again_is_known_again_whatever_its_masks_were_called() -> None:
    stack = Stack()
    turns = [user("I am <EMAIL_1>"), Message(role="assistant", content="Hello <EMAIL_1>, not <EMAIL_2>")]
    stack.context.knowledge = Knowledge((), tuple(Turn(turn, Sensitivity.INTERNAL, 3) for turn in turns))
    told = (user("I am bob@x.com"), Message(role="assistant", content="Hello bob@x.com, not <EMAIL_2>"), user("Why?"))
    await stack.router.complete(stack.call(), Request(messages=told))
    assert [message["content"] for message in stack.models.prompts[0].messages[1:]] == [
        "I am <EMAIL_3>",
        "Hello <EMAIL_3>, not <EMAIL_2>",
        "Why?",
    ]


async def test_an_answer_in_a_schema_stays_json() -> None:
    stack = Stack()
    stack.models.pieces = ['{"to": "<EMAIL_1>"}']
    arguments = ToolCall(id="1", name="lights", arguments='{"room":"bob@x.com"}')
    request = Request(
        messages=(user("Hi"), Message(role="assistant", tool_calls=(arguments,)), user("So?")),
        sampling=Sampling(response_schema='{"type": "object"}'),
    )
    completion = await stack.router.complete(stack.call(), request)
    assert completion.message.content == '{"to": "bob@x.com"}'


secrets = st.text(min_size=1, max_size=40)


@given(secrets)
def test_a_value_in_json_is_the_same_value(value: str) -> None:
    vault = vault_of("<SECRET_1>", masks={"<SECRET_1>": value})
    assert vault.restored("<SECRET_1>", in_json=False) == value
    assert msgspec.json.decode(vault.restored('["<SECRET_1>"]', in_json=True)) == [value]


@given(secrets)
def test_a_value_from_json_arguments_is_what_they_say(value: str) -> None:
    written = msgspec.json.encode(value).decode()[1:-1]
    vault = Vault()
    call = ToolCall(id="1", name="f", arguments='["<SECRET_1>"]')
    vault.keep([Mask("<SECRET_1>", written, written)], [Message(role="assistant", tool_calls=(call,))], ())
    assert vault.restored("<SECRET_1>", in_json=False) == value


@pytest.mark.parametrize("name", ["<EMAIL_2>", "<PHONE_1>", "<EMAIL_01>", "EMAIL_1", "<email_1>"])
def test_only_the_very_name_of_a_value_stands_for_it(name: str) -> None:
    assert vault_of("<EMAIL_1>", masks={"<EMAIL_1>": "a@b.c"}).restored(name, in_json=False) == name


def test_a_vault_shows_none_of_its_values() -> None:
    vault = vault_of("<EMAIL_1>", masks={"<EMAIL_1>": "bob@x.com"})
    assert "bob" not in repr(vault) + repr(Mask("<EMAIL_1>", "bob@x.com", "Bob@x.com"))
