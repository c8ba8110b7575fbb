import asyncio
from datetime import timedelta
from typing import Any

from schemas.bundle import Template
from schemas.events import Citation, Finding, Message, Sensitivity, Tool, ToolCall
from services.triage.alike import Answered
from services.triage.domain.spans import Part
from services.triage.pages import LATEST_TURNS, LONGEST_TEXT, ItemPage, item_page
from tests.unit.triage.builders import NOW, TASK, bundle, person
from tests.unit.triage.fakes import World


def _page(neighbours: tuple[Answered, ...] = (), templates: tuple[Template, ...] = (), **changes: Any) -> ItemPage:
    known = bundle()
    task = known.tasks[TASK].model_copy(update={"templates": templates})
    world = World(known.model_copy(update={"tasks": {TASK: task}}), lease_seconds=900)
    world.add(**changes)
    claimed = asyncio.run(world.desk.claim(person(clearance=Sensitivity.RESTRICTED)))
    return item_page(claimed, neighbours, world.bundle, NOW + timedelta(seconds=100))


def test_the_time_that_is_left_is_told_in_seconds_whatever_the_browser_s_clock_says() -> None:
    assert _page().seconds_left == 800


def test_the_latest_turns_of_a_long_conversation_are_shown_and_the_rest_on_demand() -> None:
    page = _page(messages=tuple(Message(role="user", content=str(number)) for number in range(LATEST_TURNS + 3)))
    assert [turn.head for turn in page.earlier] == ["0", "1", "2"]
    assert len(page.turns) == LATEST_TURNS
    assert _page().earlier == ()


def test_a_long_text_is_shown_by_its_beginning_with_the_rest_on_demand() -> None:
    text = "word " * LONGEST_TEXT
    (turn,) = _page(messages=(Message(role="user", content=text),)).turns
    assert turn.head + turn.rest == text
    assert turn.head.endswith("word ")
    assert len(turn.head) < LONGEST_TEXT
    (unbroken,) = _page(messages=(Message(role="user", content="x" * 5000),)).turns
    assert len(unbroken.head + unbroken.rest) == 5000
    assert len(unbroken.head) < LONGEST_TEXT


def test_calls_of_the_conversation_are_read_as_calls() -> None:
    call = ToolCall(id="c", name="find_film", arguments='{"title": "Alien"}')
    (turn,) = _page(messages=(Message(role="assistant", tool_calls=(call,)),)).turns
    assert turn.head == 'find_film({"title": "Alien"})'


def test_what_the_model_was_not_given_is_counted_and_not_named() -> None:
    secret = Citation(document_id="d2", sensitivity=Sensitivity.RESTRICTED, tokens=1, score=0.9, dropped=True)
    given = Citation(document_id="d1", sensitivity=Sensitivity.INTERNAL, tokens=40, score=0.7)
    page = _page(citations=(given, secret))
    assert (page.cited, page.withheld) == ((given,), 1)


def test_what_guardrails_found_in_the_answer_is_told_where_it_is() -> None:
    findings = (
        Finding(direction="output", kind="email", action="mask", start=4, end=13),
        Finding(direction="output", kind="toxicity", action="flag", start=0, end=14),
    )
    page = _page(answer="Ask <EMAIL_1>.", findings=findings)
    assert page.answer == (Part("Ask "), Part("<EMAIL_1>", ("email: masked",)), Part("."))
    assert page.found == ("toxicity: flagged",)


def test_why_it_was_chosen_is_a_sentence() -> None:
    assert _page(score=0.83, threshold=0.61).why == (
        "Its chance of being wrong is put at 83%; experts are asked from 61% on."
    )
    assert _page(explored=True).why == "Picked at random, to see what the score misses."


def test_what_an_answer_may_begin_with_keeps_its_key_whatever_else_there_is() -> None:
    templates = (Template(name="A film", text='{"name": "find_film", "arguments": {}}'),)
    alike = tuple(Answered(f"r{number}", "a film", str(number), "corrected", 0.9) for number in range(5))
    assert [(start.key, start.text) for start in _page(alike, templates).starts] == [
        (1, templates[0].text),
        (7, "0"),
        (8, "1"),
        (9, "2"),
    ]
    assert [start.key for start in _page(alike).starts] == [7, 8, 9]
    assert _page(alike).starts[0].note == "corrected, 90% alike"


def test_tools_whose_parameters_are_no_schema_are_shown_by_their_name() -> None:
    tools = (Tool(name="one", parameters="{"), Tool(name="two", parameters="[]"), Tool(name="three"))
    page = _page(tools=tools)
    assert [(each.name, each.arguments) for each in page.functions] == [("one", ()), ("two", ()), ("three", ())]
    assert page.tools == (
        '[{"name": "one", "parameters": {}}, {"name": "two", "parameters": {}}, {"name": "three", "parameters": {}}]'
    )
