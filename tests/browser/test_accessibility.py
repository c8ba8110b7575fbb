"""axe finds nothing to complain of, at both widths, dark and light."""

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, ViewportSize, expect

from tests.browser.conftest import Reviewing, add_call, add_letter, call, label, month, shown, sign_in

WIDTHS = {1280: ViewportSize(width=1280, height=900), 390: ViewportSize(width=390, height=844)}


async def _is_accessible(page: Page) -> None:
    results = await Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    overflow = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert overflow <= 0, f"the page is {overflow} pixels wider than the window"


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_every_page_of_reviewing_can_be_read_by_everybody(
    page: Page, reviewing: Reviewing, width: int, scheme: str
) -> None:
    await page.set_viewport_size(WIDTHS[width])
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    reviewing.alike.take_label(label("other", "a horror film with Sigourney Weaver", call(title="Alien", year=1979)))
    add_call(reviewing.world, answer=call(title="Alien", genre="noir", director="Scott", place={"radius": 1}))
    add_letter(reviewing.world)
    await page.goto(reviewing.url)
    await _is_accessible(page)
    await sign_in(page, reviewing.url)
    await _is_accessible(page)
    await page.keyboard.press("?")
    await _is_accessible(page)
    await page.keyboard.press("Escape")

    await page.keyboard.press("n")
    await shown(page, "#item")
    await _is_accessible(page)
    await page.keyboard.press("e")
    await page.keyboard.type("s")
    await page.keyboard.press("Control+Enter")
    await expect(page.locator("#problem")).to_be_visible()
    await _is_accessible(page)
    await page.keyboard.press("Alt+j")
    await _is_accessible(page)
    for key in ("u", "s"):
        await page.keyboard.press(f"Alt+{key}")
        await _is_accessible(page)
        await page.keyboard.press("Escape")
    await page.keyboard.press("Alt+s")
    await page.keyboard.press("1")

    await expect(page.locator(".about code")).to_have_text("letter")
    await page.wait_for_load_state("load")
    await page.keyboard.press("w")
    await page.keyboard.press("e")
    await page.keyboard.type("Hello ")
    await _is_accessible(page)


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", WIDTHS)
async def test_the_pages_about_experts_can_be_read_by_everybody(
    page: Page, reviewing: Reviewing, width: int, scheme: str
) -> None:
    await page.set_viewport_size(WIDTHS[width])
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    reviewing.record.told = month()
    await sign_in(page, reviewing.url, "lea")
    for address in ("mine", "quality"):
        await page.goto(f"{reviewing.url}{address}")
        await _is_accessible(page)
    for summary in await page.locator("summary").all():
        await summary.focus()
        await page.keyboard.press("Enter")
    await expect(page.get_by_text("ann, cleo")).to_be_visible()
    await _is_accessible(page)
