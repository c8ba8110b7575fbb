"""Reviewing in a real browser, by keyboard alone."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Page, expect

from schemas.events import Label
from tests.browser.conftest import (
    ASKED,
    BOB,
    LETTER,
    LETTERS,
    SAID,
    Reviewing,
    add_call,
    add_letter,
    call,
    label,
    shown,
    sign_in,
)


async def _press(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def _claim(page: Page, reviewing: Reviewing) -> None:
    await sign_in(page, reviewing.url)
    await page.keyboard.press("n")
    await shown(page, "#item")


async def _done(page: Page, reviewing: Reviewing, count: int = 1) -> Label:
    """Wait until a label is written and the page has gone on, and return the label."""
    await shown(page, "#queue")
    assert len(reviewing.world.written) == count
    return reviewing.world.written[-1]


async def _field(page: Page, name: str) -> str:
    return (
        await page.locator(f'[data-name="{name}"]')
        .first.locator("input:not([type=checkbox]), textarea, select")
        .first.input_value()
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


async def _replace(page: Page, text: str) -> None:
    await page.keyboard.press("Control+a")
    await page.keyboard.type(text)


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
    await _replace(page, "Aliens")
    await expect(page.locator("#difference")).to_contain_text('"Alien" → "Aliens"')
    await page.keyboard.press(beside[2])
    made = await _done(page, reviewing)
    assert (made.expert, made.outcome, json.loads(made.answer)) == (
        "ann",
        "corrected",
        {**json.loads(SAID), "arguments": {**json.loads(SAID)["arguments"], "title": "Aliens"}},
    )
    # Written as the model writes it, so that the difference on record is the correction alone.
    assert [edit.text for edit in made.delta] == ["s"]


async def test_a_right_answer_is_confirmed_with_two_keystrokes(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("Control+Enter")
    made = await _done(page, reviewing)
    assert (made.outcome, made.answer, made.rating) == ("confirmed", SAID, None)


async def test_the_form_has_a_field_for_each_argument_by_its_type(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    assert await _field(page, "genre") == '"comedy"'  # as JSON
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
    made = await _done(page, reviewing)
    assert made.answer == (
        '{"name": "find_film", "arguments": {"title": "Alien", "genre": "horror", "cast": ["Sigourney Weaver"], '
        '"place": {"city": "Rome", "radius": 12.50}, "year": 1979, "rating": 7, "subtitled": true, "when": 3, '
        '"language": "Italian"}}'
    )


async def test_a_list_grows_and_shrinks_by_keyboard(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.get_by_role("button", name="Add one").focus()
    await page.keyboard.press("Enter")
    await page.keyboard.type("Tom Skerritt")
    await expect(page.locator("#difference")).to_contain_text('["Sigourney Weaver", "Tom Skerritt"]')
    await page.get_by_role("button", name="Remove").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("button", name="Add one")).to_be_focused()
    await page.keyboard.press("Control+Enter")
    assert json.loads((await _done(page, reviewing)).answer)["arguments"]["cast"] == ["Tom Skerritt"]


async def test_an_argument_that_may_be_left_out_is_left_out_when_it_is_emptied(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world, answer=call(title="Alien", year=1979))
    await _claim(page, reviewing)
    given = page.get_by_label("give year")
    await expect(given).to_be_checked()
    await page.keyboard.press("e")
    await _go_to(page, "year")
    await _press(page, "Control+a", "Delete")
    await expect(given).not_to_be_checked()
    await expect(page.locator("#difference dt")).to_have_text("year")
    await page.keyboard.press("Control+Enter")
    assert json.loads((await _done(page, reviewing)).answer)["arguments"] == {"title": "Alien"}


async def test_what_the_schema_does_not_know_is_kept_shown_and_left_out_only_by_the_expert(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world, answer=call(title="Alien", director={"name": "Scott", "born": 1937.0}))
    await _claim(page, reviewing)
    assert await _field(page, "director") == '{"name": "Scott", "born": 1937.0}'
    await expect(page.locator('[data-name="director"]')).to_contain_text("no argument of this function")
    await page.keyboard.press("e")
    await _go_to(page, "title")
    await _replace(page, "Aliens")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_have_text("director: is no argument of this function; leave it out")
    await expect(page.locator('[data-name="director"] textarea')).to_be_focused()
    await page.get_by_label("give director").focus()
    await page.keyboard.press("Space")
    await page.keyboard.press("Control+Enter")
    assert json.loads((await _done(page, reviewing)).answer)["arguments"] == {"title": "Aliens"}


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
    await _claim(page, reviewing)
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
    await _claim(page, reviewing)
    await page.keyboard.press("e")
    await _go_to(page, "when")
    await _replace(page, "[1]")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_contain_text("argument when: [1] is not valid")
    assert await _field(page, "when") == "[1]"
    await _go_to(page, "when")
    await _replace(page, '"tomorrow"')
    await page.keyboard.press("Control+Enter")
    assert json.loads((await _done(page, reviewing)).answer)["arguments"]["when"] == "tomorrow"


async def test_an_answer_that_is_no_call_is_corrected_from_an_empty_form(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world, answer="I found nothing, sorry.")
    await _claim(page, reviewing)
    await expect(page.get_by_role("button", name="Confirm")).to_be_visible()
    await page.keyboard.press("e")
    await expect(page.locator("#function")).to_be_focused()
    await page.keyboard.type("find_film")
    await _go_to(page, "title")
    await page.keyboard.type("Alien")
    await page.keyboard.press("Control+Enter")
    assert (await _done(page, reviewing)).answer == call(title="Alien")


async def test_another_function_takes_over_what_it_knows_and_keeps_the_rest_in_sight(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.locator("#function").focus()
    await page.keyboard.type("no_call")
    await expect(page.get_by_label("give title")).not_to_be_checked()
    assert await _field(page, "title") == '"Alien"'
    await page.keyboard.press("Control+Enter")
    assert (await _done(page, reviewing)).answer == '{"name": "no_call", "arguments": {}}'


async def test_the_json_of_a_call_can_be_edited_and_goes_back_into_the_form(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world, answer=call(title="Alien", year=12345678901234567890))
    await _claim(page, reviewing)
    await page.keyboard.press("j")
    await expect(page.locator("#answer")).to_be_focused()
    assert await page.locator("#answer").input_value() == call(title="Alien", year=12345678901234567890)
    await _replace(page, "not yet a call")
    await page.keyboard.press("Alt+j")
    await expect(page.locator("#problem")).to_contain_text("The form shows calls alone")
    await _replace(page, '{"name":"find_film","arguments":{"year":12345678901234567891,"title":"Aliens"}}')
    await page.keyboard.press("Alt+j")
    assert await _field(page, "year") == "12345678901234567891"
    await page.keyboard.press("Control+Enter")
    expected = '{"name": "find_film", "arguments": {"year": 12345678901234567891, "title": "Aliens"}}'
    assert (await _done(page, reviewing)).answer == expected


async def test_a_text_is_corrected_and_its_difference_is_shown_by_words_and_said_once(
    page: Page, reviewing: Reviewing
) -> None:
    add_letter(reviewing.world)
    await _claim(page, reviewing)
    await page.evaluate(
        """() => {
          window.heard = [];
          const status = document.getElementById("status");
          new MutationObserver(() => window.heard.push(status.textContent)).observe(status, {childList: true});
        }"""
    )
    await page.keyboard.press("e")
    await expect(page.locator("#answer")).to_be_focused()
    await _replace(page, LETTER.replace("is sure to arrive tomorrow", "should arrive within the week"))
    await expect(page.locator("#difference del").first).to_have_text("is sure to ")
    await expect(page.locator("#difference ins").first).to_have_text("should ")
    await expect(page.locator("#status")).to_have_text("4 words added, 4 removed.")
    assert await page.evaluate("window.heard") == ["4 words added, 4 removed."]
    await page.keyboard.press("Control+Enter")
    made = await _done(page, reviewing)
    assert (made.outcome, made.task) == ("corrected", LETTERS)
    assert made.answer == LETTER.replace("is sure to arrive tomorrow", "should arrive within the week")


async def test_an_item_shows_what_the_model_was_given_and_what_was_flagged(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await _claim(page, reviewing)
    await expect(page.locator("#conversation > details")).to_contain_text("4 earlier turns")
    await expect(page.get_by_text("Turn 0.")).to_be_hidden()
    await page.keyboard.press("w")
    await expect(page.get_by_text("Turn 0.")).to_be_visible()
    await page.keyboard.press("w")
    await expect(page.get_by_text("Turn 0.")).to_be_hidden()
    await expect(page.locator(".said mark")).to_have_text("<EMAIL_1> (email: masked)")
    await expect(page.locator(".cited")).to_contain_text("handbook/parcels")
    await expect(page.locator("main")).not_to_contain_text("tariffs/2026")
    await expect(page.locator("main")).to_contain_text("Its chance of being wrong is put at 70%")
    await expect(page.locator("#guideline .text")).to_be_visible()
    await page.keyboard.press("g")
    await expect(page.locator("#guideline .text")).to_be_hidden()


async def test_a_labelled_item_that_is_alike_is_one_key_away(page: Page, reviewing: Reviewing) -> None:
    reviewing.alike.take_label(label("other", "a horror film with Sigourney Weaver", call(title="Alien", year=1979)))
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("7")
    assert await _field(page, "year") == "1979"
    await page.keyboard.press("Control+Enter")
    assert (await _done(page, reviewing)).answer == call(title="Alien", year=1979)


async def test_templates_are_one_key_away_also_while_typing_and_so_is_the_model_s_own_answer(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("2")
    await expect(page.locator("#difference")).to_contain_text("find_film → no_call")
    await page.keyboard.press("Alt+0")
    await expect(page.get_by_role("button", name="Confirm")).to_be_visible()
    assert await _field(page, "title") == "Alien"
    await page.keyboard.press("Control+Enter")
    await _done(page, reviewing)

    add_letter(reviewing.world, answer="Your parcel is on its way. ")
    await page.keyboard.press("n")
    await shown(page, "#item")
    await page.keyboard.press("e")
    await page.keyboard.press("Control+End")
    await page.keyboard.press("Alt+1")
    await page.keyboard.press("Control+Enter")
    made = await _done(page, reviewing, 2)
    assert made.answer == "Your parcel is on its way. Is there anything else that we can do for you?"


async def test_the_answer_is_rated_with_two_keys(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await _press(page, "r", "4", "Control+Enter")
    assert (await _done(page, reviewing)).rating == 4


async def test_skipping_takes_two_keys_and_words_of_one_s_own_a_few_more(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await _press(page, "s", "Escape")
    await expect(page.locator("#skip-dialog")).to_be_hidden()
    await _press(page, "s", "2")
    made = await _done(page, reviewing)
    assert (made.outcome, made.comment) == ("skipped", "What it would take to answer is missing")

    add_call(reviewing.world, "other")
    await page.keyboard.press("n")
    await shown(page, "#item")
    await _press(page, "s", "5")
    await page.keyboard.type("It is in Icelandic")
    await page.keyboard.press("Enter")
    assert (await _done(page, reviewing, 2)).comment == "It is in Icelandic"


async def test_unsafe_costs_one_more_key(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await _press(page, "u", "Escape")
    await expect(page.locator("#unsafe-dialog")).to_be_hidden()
    assert not reviewing.world.written
    await _press(page, "u", "Enter")
    assert (await _done(page, reviewing)).outcome == "unsafe"


async def test_the_lease_warns_before_it_ends_and_can_be_extended(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await expect(page.locator("#left")).to_contain_text("14:5")
    await expect(page.locator("#warning")).to_be_hidden()
    reviewing.world.now += timedelta(seconds=830)
    await page.reload()
    await expect(page.locator("#warning")).to_contain_text("The lease ends soon")
    await page.keyboard.press("x")
    await expect(page.locator("#warning")).to_be_hidden()
    await expect(page.locator("#status")).to_contain_text("The item is yours for 1")
    reviewing.world.now += timedelta(seconds=830)  # beyond the first lease's end
    await page.keyboard.press("Control+Enter")
    assert (await _done(page, reviewing)).outcome == "confirmed"


async def test_typing_extends_the_lease_by_itself(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await _claim(page, reviewing)
    reviewing.world.now += timedelta(seconds=500)
    await page.reload()
    await expect(page.locator("#left")).to_contain_text("6:")
    await page.keyboard.press("e")
    async with page.expect_response("**/extend"):
        await page.keyboard.type("x")
    await expect(page.locator("#left")).to_contain_text("14:5")


async def test_a_lease_that_has_ended_says_so_and_the_answer_stays(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("e")
    await page.keyboard.type("Hello ")
    reviewing.world.now += timedelta(seconds=901)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_contain_text("Lease: expired")
    assert (await page.locator("#answer").input_value()).startswith("Hello ")


async def test_an_item_that_is_handed_back_goes_to_the_next(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("b")
    await shown(page, "#queue")
    await expect(page.locator("h1")).to_contain_text("1 waits")
    assert (await reviewing.world.desk.claim(BOB)).item.request_id == "call"


async def test_reloading_shows_the_item_again_and_claims_no_other(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    add_call(reviewing.world, "second", score=0.1)
    await _claim(page, reviewing)
    await page.reload()
    await expect(page.locator(".about code")).to_have_text("call")
    assert (await reviewing.world.desk.claim(BOB)).item.request_id == "second"


async def test_after_a_label_the_next_item_comes_by_itself(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    add_letter(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".about code")).to_have_text("letter")


async def test_question_mark_lists_the_keys_and_keys_alone_can_be_switched_off(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("?")
    await expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    await page.locator("#single-keys").focus()
    await _press(page, "Space", "Escape", "c")
    await expect(page.locator("#comment")).not_to_be_focused()
    await page.keyboard.press("Alt+c")
    await expect(page.locator("#comment")).to_be_focused()
    await page.keyboard.type("nce upon a time")
    await page.keyboard.press("Escape")
    await expect(page.locator("#comment")).not_to_be_focused()
    assert await page.locator("#comment").input_value() == "nce upon a time"


async def test_enter_in_a_field_submits_nothing(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("e")
    await page.keyboard.type("s")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Alt+c")
    await page.keyboard.press("Enter")
    await expect(page.locator("#comment")).to_be_focused()
    assert not reviewing.world.written


async def test_the_page_says_when_somebody_is_signed_out_and_keeps_the_answer(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("e")
    await page.keyboard.type("Hello ")
    await page.context.clear_cookies()
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_contain_text("You are signed out")
    assert (await page.locator("#answer").input_value()).startswith("Hello ")
    assert ASKED not in await page.content()


async def test_a_label_is_taken_back_and_its_item_is_there_again(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("Control+Enter")
    await _done(page, reviewing)
    await page.keyboard.press("z")
    await expect(page.locator(".about code")).to_have_text("call")
    await _press(page, "u", "Enter")
    made = await _done(page, reviewing, 3)
    assert [each.outcome for each in reviewing.world.written] == ["confirmed", "retracted", "unsafe"]
    assert made.expert == "ann"


async def test_what_is_beyond_an_expert_goes_to_a_lead_who_sees_why_and_decides(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await _claim(page, reviewing)
    await page.keyboard.press("l")
    await expect(page.locator("#problem")).to_contain_text("why a lead should decide")
    await expect(page.locator("#comment")).to_be_focused()
    await page.keyboard.type("two films fit")
    await page.keyboard.press("Alt+l")
    assert (await _done(page, reviewing)).outcome == "escalated"
    await page.context.clear_cookies()
    add_letter(reviewing.world, score=0.99)
    await sign_in(page, reviewing.url, "lea")
    await page.keyboard.press("d")
    await shown(page, "#item")
    await expect(page.locator(".opinions")).to_contain_text("two films fit")
    await expect(page.locator("#escalate")).to_have_count(0)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".about code")).to_have_text("letter")  # which waited, worth more
    made = reviewing.world.written[-1]
    assert (made.expert, made.kind, made.outcome) == ("lea", "adjudication", "confirmed")
