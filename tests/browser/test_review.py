"""Reviewing in a real browser, by keyboard alone; test_calls.py has the form of a function call."""

from datetime import timedelta

from playwright.async_api import Page, expect

from tests.browser.conftest import (
    ASKED,
    BOB,
    LETTER,
    LETTERS,
    Reviewing,
    add_call,
    add_letter,
    call,
    claim,
    done,
    field,
    label,
    press,
    replace,
    shown,
    sign_in,
)


async def test_a_text_is_corrected_and_its_difference_is_shown_by_words_and_said_once(
    page: Page, reviewing: Reviewing
) -> None:
    add_letter(reviewing.world)
    await claim(page, reviewing)
    await page.evaluate(
        """() => {
          window.heard = [];
          const status = document.getElementById("status");
          new MutationObserver(() => window.heard.push(status.textContent)).observe(status, {childList: true});
        }"""
    )
    await page.keyboard.press("e")
    await expect(page.locator("#answer")).to_be_focused()
    await replace(page, LETTER.replace("is sure to arrive tomorrow", "should arrive within the week"))
    await expect(page.locator("#difference del").first).to_have_text("is sure to ")
    await expect(page.locator("#difference ins").first).to_have_text("should ")
    await expect(page.locator("#status")).to_have_text("4 words added, 4 removed.")
    assert await page.evaluate("window.heard") == ["4 words added, 4 removed."]
    await page.keyboard.press("Control+Enter")
    made = await done(page, reviewing)
    assert (made.outcome, made.task) == ("corrected", LETTERS)
    assert made.answer == LETTER.replace("is sure to arrive tomorrow", "should arrive within the week")


async def test_an_item_shows_what_the_model_was_given_and_what_was_flagged(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await claim(page, reviewing)
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
    await claim(page, reviewing)
    await page.keyboard.press("7")
    assert await field(page, "year") == "1979"
    await page.keyboard.press("Control+Enter")
    assert (await done(page, reviewing)).answer == call(title="Alien", year=1979)


async def test_templates_are_one_key_away_also_while_typing_and_so_is_the_model_s_own_answer(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("2")
    await expect(page.locator("#difference")).to_contain_text("find_film → no_call")
    await page.keyboard.press("Alt+0")
    await expect(page.get_by_role("button", name="Confirm")).to_be_visible()
    assert await field(page, "title") == "Alien"
    await page.keyboard.press("Control+Enter")
    await done(page, reviewing)

    add_letter(reviewing.world, answer="Your parcel is on its way. ")
    await page.keyboard.press("n")
    await shown(page, "#item")
    await page.keyboard.press("e")
    await page.keyboard.press("Control+End")
    await page.keyboard.press("Alt+1")
    await page.keyboard.press("Control+Enter")
    made = await done(page, reviewing, 2)
    assert made.answer == "Your parcel is on its way. Is there anything else that we can do for you?"


async def test_the_answer_is_rated_with_two_keys(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await press(page, "r", "4", "Control+Enter")
    assert (await done(page, reviewing)).rating == 4


async def test_skipping_takes_two_keys_and_words_of_one_s_own_a_few_more(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await press(page, "s", "Escape")
    await expect(page.locator("#skip-dialog")).to_be_hidden()
    await press(page, "s", "2")
    made = await done(page, reviewing)
    assert (made.outcome, made.comment) == ("skipped", "What it would take to answer is missing")

    add_call(reviewing.world, "other")
    await page.keyboard.press("n")
    await shown(page, "#item")
    await press(page, "s", "5")
    await page.keyboard.type("It is in Icelandic")
    await page.keyboard.press("Enter")
    assert (await done(page, reviewing, 2)).comment == "It is in Icelandic"


async def test_unsafe_costs_one_more_key(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await press(page, "u", "Escape")
    await expect(page.locator("#unsafe-dialog")).to_be_hidden()
    assert not reviewing.world.written
    await press(page, "u", "Enter")
    assert (await done(page, reviewing)).outcome == "unsafe"


async def test_the_lease_warns_before_it_ends_and_can_be_extended(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
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
    assert (await done(page, reviewing)).outcome == "confirmed"


async def test_typing_extends_the_lease_by_itself(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await claim(page, reviewing)
    reviewing.world.now += timedelta(seconds=500)
    await page.reload()
    await expect(page.locator("#left")).to_contain_text("6:")
    await page.keyboard.press("e")
    async with page.expect_response("**/extend"):
        await page.keyboard.type("x")
    await expect(page.locator("#left")).to_contain_text("14:5")


async def test_a_lease_that_has_ended_says_so_and_the_answer_stays(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("e")
    await page.keyboard.type("Hello ")
    reviewing.world.now += timedelta(seconds=901)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_contain_text("Lease: expired")
    assert (await page.locator("#answer").input_value()).startswith("Hello ")


async def test_an_item_that_is_handed_back_goes_to_the_next(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("b")
    await shown(page, "#queue")
    await expect(page.locator("h1")).to_contain_text("1 waits")
    assert (await reviewing.world.desk.claim(BOB)).item.request_id == "call"


async def test_reloading_shows_the_item_again_and_claims_no_other(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    add_call(reviewing.world, "second", score=0.1)
    await claim(page, reviewing)
    await page.reload()
    await expect(page.locator(".about code")).to_have_text("call")
    assert (await reviewing.world.desk.claim(BOB)).item.request_id == "second"


async def test_after_a_label_the_next_item_comes_by_itself(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    add_letter(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("Control+Enter")
    await expect(page.locator(".about code")).to_have_text("letter")


async def test_question_mark_lists_the_keys_and_keys_alone_can_be_switched_off(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("?")
    await expect(page.get_by_role("heading", name="Keys")).to_be_visible()
    await page.locator("#single-keys").focus()
    await press(page, "Space", "Escape", "c")
    await expect(page.locator("#comment")).not_to_be_focused()
    await page.keyboard.press("Alt+c")
    await expect(page.locator("#comment")).to_be_focused()
    await page.keyboard.type("nce upon a time")
    await page.keyboard.press("Escape")
    await expect(page.locator("#comment")).not_to_be_focused()
    assert await page.locator("#comment").input_value() == "nce upon a time"


async def test_enter_in_a_field_submits_nothing(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("e")
    await page.keyboard.type("s")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Alt+c")
    await page.keyboard.press("Enter")
    await expect(page.locator("#comment")).to_be_focused()
    assert not reviewing.world.written


async def test_the_page_says_when_somebody_is_signed_out_and_keeps_the_answer(page: Page, reviewing: Reviewing) -> None:
    add_letter(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("e")
    await page.keyboard.type("Hello ")
    await page.context.clear_cookies()
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_contain_text("You are signed out")
    assert (await page.locator("#answer").input_value()).startswith("Hello ")
    assert ASKED not in await page.content()


async def test_a_label_is_taken_back_and_its_item_is_there_again(page: Page, reviewing: Reviewing) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("Control+Enter")
    await done(page, reviewing)
    await page.keyboard.press("z")
    await shown(page, "#item")
    await expect(page.locator(".about code")).to_have_text("call")
    await press(page, "u", "Enter")
    made = await done(page, reviewing, 3)
    assert [each.outcome for each in reviewing.world.written] == ["confirmed", "retracted", "unsafe"]
    assert made.expert == "ann"


async def test_what_is_beyond_an_expert_goes_to_a_lead_who_sees_why_and_decides(
    page: Page, reviewing: Reviewing
) -> None:
    add_call(reviewing.world)
    await claim(page, reviewing)
    await page.keyboard.press("l")
    await expect(page.locator("#problem")).to_contain_text("why a lead should decide")
    await expect(page.locator("#comment")).to_be_focused()
    await page.keyboard.type("two films fit")
    await page.keyboard.press("Alt+l")
    assert (await done(page, reviewing)).outcome == "escalated"
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
