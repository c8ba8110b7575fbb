"""What is remembered of conversations."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import Interaction, Message, Sensitivity, ToolCall
from services.context.domain.memory import CONDENSED_TOKENS, Memory, Rule, Turn, asked_again, condensed

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = START + timedelta(minutes=10)
CALL = ToolCall(id="1", name="find", arguments='{"city": "Bonn"}')


def interaction(number: int, **parts: Any) -> Interaction:
    at = START + timedelta(minutes=number)
    given: dict[str, Any] = {
        "request_id": f"r{number}",
        "phase": "finished",
        "tenant": "t",
        "application": "a",
        "task": "k",
        "conversation_id": "c",
        "received_at": at,
        "finished_at": at,
        "messages": (Message(role="user", content=f"question {number}"),),
        "answer": f"answer {number}",
        "finish_reason": "stop",
        "bundle_version": "b",
        "sensitivity": Sensitivity.INTERNAL,
    }
    return Interaction(**(given | parts))


def rule(hours: float = 24, level: Sensitivity = Sensitivity.RESTRICTED) -> dict[str, Rule]:
    return {name: Rule(timedelta(hours=hours), level) for name in ("t", "other")}


class Remembering(Memory):
    """A memory of which it is always ten minutes after the start, if nothing else is said."""

    def remember(self, interaction: Interaction, now: datetime = NOW) -> None:
        super().remember(interaction, now)

    def recall(
        self, tenant: str, conversation_id: str, max_sensitivity: Sensitivity, now: datetime = NOW
    ) -> list[Turn]:
        return super().recall(tenant, conversation_id, max_sensitivity, now)


def memory(turns: int = 8, conversations: int = 100, turn_tokens: int = 2000, condensed_turns: int = 0) -> Remembering:
    made = Remembering(turns, condensed_turns, conversations, turn_tokens)
    made.rule(rule(), NOW)
    return made


def recalled(memory: Remembering, conversation: str = "c", level: Sensitivity = Sensitivity.RESTRICTED) -> list[str]:
    return [message.content or "call" for turn in memory.recall("t", conversation, level) for message in turn.messages]


def test_turns_come_back_oldest_first_whatever_order_they_came_in() -> None:
    kept = memory()
    for number in (2, 1, 3):
        kept.remember(interaction(number))
    assert recalled(kept) == ["question 1", "answer 1", "question 2", "answer 2", "question 3", "answer 3"]


def test_a_repeated_record_is_one_turn() -> None:
    kept = memory()
    kept.remember(interaction(1))
    kept.remember(interaction(1))
    assert recalled(kept) == ["question 1", "answer 1"]


@pytest.mark.parametrize(
    "parts",
    [
        {"phase": "opened"},
        {"finish_reason": "refused"},
        {"finish_reason": "cancelled"},
        {"finish_reason": "error"},
        {"conversation_id": ""},
        {"answer": "x" * 9000},
    ],
)
def test_what_was_not_answered_or_belongs_nowhere_or_is_too_long_is_not_kept(parts: dict[str, Any]) -> None:
    kept = memory()
    kept.remember(interaction(1, **parts))
    assert recalled(kept) == recalled(kept, "") == []


def test_only_the_newest_turns_are_kept() -> None:
    kept = memory(turns=2)
    for number in range(1, 5):
        kept.remember(interaction(number))
    assert recalled(kept) == ["question 3", "answer 3", "question 4", "answer 4"]


def test_the_conversation_that_was_used_least_lately_goes_first() -> None:
    kept = memory(conversations=2)
    kept.remember(interaction(1, conversation_id="one"))
    kept.remember(interaction(2, conversation_id="two"))
    kept.recall("t", "one", Sensitivity.PUBLIC)
    kept.remember(interaction(3, conversation_id="three"))
    assert (recalled(kept, "one"), recalled(kept, "two")) == (["question 1", "answer 1"], [])


def test_turns_above_the_level_asked_for_stay_behind() -> None:
    kept = memory()
    kept.remember(interaction(1))
    kept.remember(interaction(2, sensitivity=Sensitivity.RESTRICTED))
    assert recalled(kept, level=Sensitivity.CONFIDENTIAL) == ["question 1", "answer 1"]


def test_another_tenants_conversation_of_the_same_name_is_another() -> None:
    kept = memory()
    kept.remember(interaction(1, tenant="other"))
    assert recalled(kept) == []
    kept.forget("t", "c", START + timedelta(hours=1))
    assert kept.recall("other", "c", Sensitivity.RESTRICTED) != []


@pytest.mark.parametrize("comes_late", [False, True])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_turn_that_was_erased_is_gone_and_its_neighbours_are_not(comes_late: bool, restarts: bool) -> None:
    kept = memory()
    if comes_late:
        kept.erase("r2")
    for number in (1, 2, 3):
        kept.remember(interaction(number))
    if not comes_late:
        kept.erase("r2")
    assert "question 2" not in str(kept.dump())
    if restarts:
        dumped, kept = kept.dump(), memory()
        kept.restore(dumped, NOW)
        kept.remember(interaction(2))
    assert recalled(kept) == ["question 1", "answer 1", "question 3", "answer 3"]
    kept.drop_old(NOW)
    assert recalled(kept) == ["question 1", "answer 1", "question 3", "answer 3"]


@pytest.mark.parametrize("comes_late", [False, True])
def test_a_forgotten_conversation_is_gone_and_what_is_said_later_is_not(comes_late: bool) -> None:
    kept = memory()
    if comes_late:
        kept.forget("t", "c", START + timedelta(minutes=2))
    for number in (1, 2, 3):
        kept.remember(interaction(number))
    if not comes_late:
        kept.forget("t", "c", START + timedelta(minutes=2))
    kept.forget("t", "c", START)
    assert recalled(kept) == ["question 3", "answer 3"]
    kept.forget("t", "c", START + timedelta(minutes=3))
    assert recalled(kept) == []


ASKED = "Where is the parcel that I ordered?"


@pytest.mark.parametrize(
    ("query", "minutes", "is_again"),
    [
        (ASKED, 2, True),
        ("where is the PARCEL I ordered", 2, True),
        ("Sorry, the parcel that I ordered: where is it?", 2, True),
        (ASKED, 30, False),
        ("Where is the nearest store?", 2, False),
        ("Where is the chair that I ordered?", 2, False),
        ("Thanks!", 2, False),
        ("", 2, False),
    ],
)
def test_the_same_question_just_after_its_answer_is_asked_again(query: str, minutes: int, is_again: bool) -> None:
    kept = memory()
    kept.remember(interaction(0, messages=(Message(role="user", content="Where is the nearest store, please?"),)))
    kept.remember(interaction(1, messages=(Message(role="user", content=ASKED),)))
    turns = kept.recall("t", "c", Sensitivity.RESTRICTED)
    now = START + timedelta(minutes=1 + minutes)
    assert asked_again(turns, query, now) == ("r1" if is_again else "")
    assert asked_again([], query, now) == ""


def test_a_word_or_two_are_not_enough_to_tell() -> None:
    kept = memory()
    kept.remember(interaction(1, messages=(Message(role="user", content="yes please"),)))
    assert asked_again(kept.recall("t", "c", Sensitivity.RESTRICTED), "yes please", START + timedelta(minutes=2)) == ""


def test_of_a_request_that_brings_its_history_only_what_is_new_is_kept() -> None:
    kept = memory()
    history = (
        Message(role="system", content="be brief"),
        Message(role="user", content="before"),
        Message(role="assistant", content="yes"),
        Message(role="user", content="now"),
    )
    kept.remember(interaction(1, messages=history, answer="here"))
    assert recalled(kept) == ["now", "here"]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_results_of_tools_take_the_place_of_the_turn_that_called_them(order: tuple[int, int]) -> None:
    asked = Message(role="user", content="where?")
    called = Message(role="assistant", tool_calls=(CALL,))
    result = Message(role="tool", content="Bonn", tool_call_id="1")
    records = [
        interaction(1, messages=(asked,), answer="find(Bonn)", tool_calls=(CALL,), finish_reason="tool_calls"),
        interaction(2, messages=(asked, called, result), answer="In Bonn."),
    ]
    kept = memory()
    for position in order:
        kept.remember(records[position])
    assert recalled(kept) == ["where?", "call", "Bonn", "In Bonn."]


def test_nothing_is_remembered_of_a_tenant_without_a_rule_or_with_none_to_keep() -> None:
    kept = memory()
    kept.remember(interaction(1))
    kept.remember(interaction(1, tenant="stranger"))
    assert kept.recall("stranger", "c", Sensitivity.RESTRICTED) == []
    kept.rule(rule(hours=0), NOW)
    kept.remember(interaction(2))
    kept.rule(rule(), NOW)
    assert recalled(kept) == []


def test_what_is_above_the_rules_level_is_never_kept() -> None:
    kept = memory()
    kept.rule(rule(level=Sensitivity.INTERNAL), NOW)
    kept.remember(interaction(1))
    kept.remember(interaction(2, sensitivity=Sensitivity.CONFIDENTIAL))
    kept.rule(rule(), NOW)
    assert recalled(kept) == ["question 1", "answer 1"]
    kept.rule(rule(level=Sensitivity.PUBLIC), NOW)
    kept.rule(rule(), NOW)
    assert recalled(kept) == []


def test_what_is_older_than_the_rule_allows_is_not_returned_and_soon_dropped() -> None:
    kept = memory()
    kept.rule(rule(hours=1), NOW)
    for number in (1, 5):
        kept.remember(interaction(number))
    later = START + timedelta(minutes=63)
    assert [turn.request_id for turn in kept.recall("t", "c", Sensitivity.RESTRICTED, later)] == ["r5"]
    kept.drop_old(later)
    assert recalled(kept) == ["question 5", "answer 5"]
    kept.drop_old(later + timedelta(hours=1))
    kept.remember(interaction(2), later)
    assert recalled(kept) == []


LONG = "word " * 200


def test_turns_before_the_newest_are_kept_condensed() -> None:
    kept = memory(turns=1, condensed_turns=2)
    for number in range(1, 5):
        kept.remember(interaction(number, answer=f"answer {number} {LONG}"))
    turns = kept.recall("t", "c", Sensitivity.RESTRICTED)
    assert [(turn.request_id, turn.is_condensed) for turn in turns] == [("r2", True), ("r3", True), ("r4", False)]
    assert turns[0].messages[1].content.startswith("answer 2 word")
    assert all("[…]" in turn.messages[1].content and turn.tokens < 50 for turn in turns[:2])


def test_a_condensed_turn_tells_what_was_called_and_that_more_was_said() -> None:
    called = Message(role="assistant", tool_calls=(CALL,))
    result = Message(role="tool", content=LONG, tool_call_id="1")
    kept = memory()
    kept.remember(interaction(1, messages=(Message(role="user", content="where?"), called, result), answer="In Bonn."))
    (turn,) = kept.recall("t", "c", Sensitivity.RESTRICTED)
    short = condensed(turn)
    assert [(message.role, message.content, message.tool_calls) for message in short.messages] == [
        ("user", "where?", ()),
        ("assistant", '[called find({"city": "Bonn"})] […] In Bonn.', ()),
    ]
    assert condensed(short) is short


@given(st.text(max_size=300), st.text(max_size=300), st.text(max_size=300), st.text(max_size=200), st.booleans())
def test_a_turn_that_was_condensed_is_shorter_and_shows_it(
    question: str, result: str, answer: str, arguments: str, called: bool
) -> None:
    between = (
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="find", arguments=arguments),)),
        Message(role="tool", content=result, tool_call_id="1"),
    )
    messages = (Message(role="user", content=question), *(between if called else ()))
    turn = Turn(START, "r", (*messages, Message(role="assistant", content=answer)), Sensitivity.PUBLIC)
    short = condensed(turn)
    if short is not turn:
        assert short.is_condensed
        assert short.tokens < turn.tokens
        assert short.tokens <= 3 * CONDENSED_TOKENS + 14
        assert any("[…]" in message.content for message in short.messages)
