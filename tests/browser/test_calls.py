"""Correcting a function call by its form, in a real browser, by keyboard alone."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import (
    SAID,
    Reviewing,
    add_call,
    call,
    claim,
    done,
    field,
    press,
    replace,
    shown,
    sign_in,
)


async def _go_to(page: Page, name: str) -> None:
    """Tab to the field of an argument."""
    for _ in range(60):
        if await page.evaluate(
            """name => {
              const field = document.activeElement.closest(".field");
              return Boolean(field) && field.dataset.name === name && document.activeElement.type !== "checkbox";
            }""",
            name,
        ):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not reach {name}")


async def test_a_call_is_corrected_by_its_form_with_three_keystrokes_beside_the_correction(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await sign_in(page, reviewing.url)
    beside = ["n", "e", "Control+Enter"]
    await page.keyboard.press(beside[0])
    await shown(page, "#item")
    await page.keyboard.press(beside[1])
    await expect(page.get_by_label("title", exact=True)).to_be_focused()
    await replace(page, "Aliens")
    await expect(page.locator("#difference")).to_contain_text('"Alien" → "Aliens"')
    await page.keyboard.press(beside[2])
    made = await done(page, reviewing)
    assert (made.expert, made.outcome, json.loads(made.answer)) == (
        "ann",
        "corrected",
        {**json.loads(SAID), "arguments": {**json.loads(SAID)["arguments"], "title": "Aliens"}},
    )
    # Written as the model writes it, so that the difference on record is the correction alone.
    assert [edit.text for edit in made.delta] == ["s"]


async def test_a_right_answer_is_confirmed_with_two_keystrokes(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("Control+Enter")
    made = await done(page, reviewing)
    assert (made.outcome, made.answer, made.rating) == ("confirmed", SAID, None)


async def test_the_form_has_a_field_for_each_argument_by_its_type(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    assert await field(page, "genre") == '"comedy"'  # as JSON
    await page.keyboard.press("e")
    await _go_to(page, "genre")
    await page.keyboard.type("horror")
    await _go_to(page, "radius")
    await page.keyboard.type("12.50")
    await _go_to(page, "year")
    await page.keyboard.type("1979")
    await _go_to(page, "rating")
    await page.keyboard.type("7")
    await _go_to(page, "subtitled")
    await page.keyboard.type("true")
    await _go_to(page, "when")
    await page.keyboard.type("3")
    await _go_to(page, "language")
    await page.keyboard.type("Italian")
    await page.keyboard.press("Control+Enter")
    made = await done(page, reviewing)
    assert made.answer == (
        '{"name": "find_film", "arguments": {"title": "Alien", "genre": "horror", "cast": ["Sigourney Weaver"], '
        '"place": {"city": "Rome", "radius": 12.50}, "year": 1979, "rating": 7, "subtitled": true, "when": 3, '
        '"language": "Italian"}}'
    )


async def test_a_list_grows_and_shrinks_by_keyboard(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.get_by_role("button", name="Add one").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.type("Tom Skerritt")
    await expect(page.locator("#difference")).to_contain_text('["Sigourney Weaver", "Tom Skerritt"]')
    await page.get_by_role("button", name="Remove").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Add one")).to_be_focused()
    await page.keyboard.press("Control+Enter")
    assert json.loads((await done(page, reviewing)).answer)["arguments"]["cast"] == ["Tom Skerritt"]


async def test_an_argument_that_may_be_left_out_is_left_out_when_it_is_emptied(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world, answer=call(title="Alien", year=1979))
    await claim(page, reviewing)
    given = page.get_by_label("give year")
    await expect(given).to_be_checked()
    await page.keyboard.press("e")
    await _go_to(page, "year")
    await press(page, "Control+a", "Delete")
    await expect(given).not_to_be_checked()
    await expect(page.locator("#difference dt")).to_have_text("year")
    await page.keyboard.press("Control+Enter")
    assert json.loads((await done(page, reviewing)).answer)["arguments"] == {"title": "Alien"}


async def test_what_the_schema_does_not_know_is_kept_shown_and_left_out_only_by_the_expert(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world, answer=call(title="Alien", director={"name": "Scott", "born": 1937.0}))
    await claim(page, reviewing)
    assert await field(page, "director") == '{"name": "Scott", "born": 1937.0}'
    await expect(page.locator('[data-name="director"]')).to_contain_text("no argument of this function")
    await page.keyboard.press("e")
    await _go_to(page, "title")
    await replace(page, "Aliens")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_have_text("director: is no argument of this function; leave it out")
    await expect(page.locator('[data-name="director"] textarea')).to_be_focused()
    await page.get_by_label("give director").focus()
    await page.keyboard.press("Space")
    await page.keyboard.press("Control+Enter")
    assert json.loads((await done(page, reviewing)).answer)["arguments"] == {"title": "Aliens"}


@pytest.mark.parametrize(
    ("arguments", "faults"),
    [
        ({}, ["title: is required"]),
        ({"title": 5}, ["title: wanted text"]),
        ({"title": "Alien", "year": "1979"}, ["year: wanted a whole number"]),
        ({"title": "Alien", "genre": "noir"}, ['genre: wanted one of "comedy", "drama", "horror"']),
        ({"title": "Alien", "cast": [1]}, ["cast: wanted text"]),
        ({"title": "Alien", "place": {"radius": 1}}, ["place.city: is required"]),
    ],
)
async def test_what_is_wrong_is_told_by_the_argument_s_name_before_anything_is_sent(
    page: Page, reviewing: Reviewing, arguments: dict[str, Any], faults: Sequence[str]
) -> None:
    add_call(reviewing.world, answer=call(**arguments))
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/submit") else None)
    await claim(page, reviewing)
    await page.keyboard.press("e")
    await _go_to(page, "rating")
    await page.keyboard.type("5")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_have_text("; ".join(faults))
    await expect(page.locator("[aria-invalid=true]").first).to_be_focused()
    assert not sent


async def test_what_the_form_cannot_tell_the_server_does_and_nothing_that_was_typed_is_lost(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world, answer=call(title="Alien", when=1))
    await claim(page, reviewing)
    await page.keyboard.press("e")
    await _go_to(page, "when")
    await replace(page, "[1]")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_contain_text("argument when: [1] is not valid")
    assert await field(page, "when") == "[1]"
    await _go_to(page, "when")
    await replace(page, '"tomorrow"')
    await page.keyboard.press("Control+Enter")
    assert json.loads((await done(page, reviewing)).answer)["arguments"]["when"] == "tomorrow"


async def test_an_answer_that_is_no_call_is_corrected_from_an_empty_form(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world, answer="I found nothing, sorry.")
    await claim(page, reviewing)
    await expect(page.get_by_role("button", name="Confirm")).to_be_visible()
    await page.keyboard.press("e")
    await expect(page.locator("#function")).to_be_focused()
    await page.keyboard.type("find_film")
    await _go_to(page, "title")
    await page.keyboard.type("Alien")
    await page.keyboard.press("Control+Enter")
    assert (await done(page, reviewing)).answer == call(title="Alien")


async def test_another_function_takes_over_what_it_knows_and_keeps_the_rest_in_sight(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.locator("#function").focus()
    await page.keyboard.type("no_call")
    await expect(page.get_by_label("give title")).not_to_be_checked()
    assert await field(page, "title") == '"Alien"'
    await page.keyboard.press("Control+Enter")
    assert (await done(page, reviewing)).answer == '{"name": "no_call", "arguments": {}}'


async def test_the_json_of_a_call_can_be_edited_and_goes_back_into_the_form(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world, answer=call(title="Alien", year=12345678901234567890))
    await claim(page, reviewing)
    await page.keyboard.press("j")
    await expect(page.locator("#answer")).to_be_focused()
    assert await page.locator("#answer").input_value() == call(title="Alien", year=12345678901234567890)
    await replace(page, "not yet a call")
    await page.keyboard.press("Alt+j")
    await expect(page.locator("#problem")).to_contain_text("The form shows calls alone")
    await replace(page, '{"name":"find_film","arguments":{"year":12345678901234567891,"title":"Aliens"}}')
    await page.keyboard.press("Alt+j")
    assert await field(page, "year") == "12345678901234567891"
    await page.keyboard.press("Control+Enter")
    expected = '{"name": "find_film", "arguments": {"year": 12345678901234567891, "title": "Aliens"}}'
    assert (await done(page, reviewing)).answer == expected
