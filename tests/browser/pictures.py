"""Takes the pictures of docs/labelling.md: `python -m tests.browser.pictures docs`."""

import asyncio
import sys
from pathlib import Path

from playwright.async_api import Page, expect

from schemas.events import Message
from services.runtime.clock import Clock
from tests.browser.conftest import (
    LETTER,
    LETTERS,
    add_call,
    add_letter,
    call,
    chromium,
    label,
    month,
    served,
    shown,
    sign_in,
)

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LETTER_TURNS = (
    ("system", "You answer letters of the customers of a parcel service, in their language and in few words."),
    ("user", "Good morning! On Friday I ordered a parcel to be fetched from 12 Harbour Street. Has it been?"),
    ("assistant", "Good morning, Ms Ito. Yes, it was fetched on Friday at 4 in the afternoon."),
    ("user", "And where is it now? My sister waits for it, and she travels on Thursday. What if it comes too late?"),
)


async def _take(page: Page, folder: Path, name: str) -> None:
    await page.wait_for_timeout(300)
    await page.screenshot(path=folder / f"console-{name}.png")


async def main(folder: Path) -> None:
    """Play an expert's first minutes, and take a picture now and then."""
    clock = Clock()
    async with served() as reviewing, chromium() as browser:
        alike = call(title="Alien", genre="horror", year=1979)
        reviewing.alike.take_label(label("other", "A horror film with Sigourney Weaver in Milan", alike))
        closing = "Dear Mr Sato, your parcel is in our house in Utrecht and should reach you by Friday."
        reviewing.alike.take_label(label("older", "And where is my parcel now?", closing, LETTERS))
        add_call(reviewing.world, clock.new_id())
        messages = tuple(Message(role=role, content=content) for role, content in LETTER_TURNS)
        add_letter(reviewing.world, clock.new_id(), messages=messages)
        for number in range(40):
            add_call(reviewing.world, clock.new_id(), score=0.5 - number / 100)
        page = await browser.new_page(viewport=WIDE, color_scheme="light")
        await sign_in(page, reviewing.url)
        await _take(page, folder, "queue")

        await page.keyboard.press("n")
        await shown(page, "#item")
        await page.keyboard.press("e")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Tab")
        await page.keyboard.type("horror")
        await _take(page, folder, "call")
        await page.keyboard.press("Control+Enter")

        await expect(page.locator("h1")).to_contain_text(LETTERS)
        await page.wait_for_load_state("load")
        await page.keyboard.press("e")
        await page.keyboard.press("Control+a")
        await page.keyboard.type(LETTER.replace("is sure to arrive tomorrow", "should arrive within the week"))
        await _take(page, folder, "text")

        await page.set_viewport_size(NARROW)
        await page.emulate_media(color_scheme="dark")
        await page.locator("#answer").evaluate("element => element.scrollIntoView({block: 'center'})")
        await _take(page, folder, "narrow")

        reviewing.record.told = month()
        await page.set_viewport_size(WIDE)
        await page.emulate_media(color_scheme="light")
        for name, expert in (("mine", "ann"), ("quality", "lea")):
            await page.context.clear_cookies()
            await sign_in(page, reviewing.url, expert)
            await page.goto(f"{reviewing.url}{name}")
            await _take(page, folder, name)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.browser.pictures FOLDER")
    asyncio.run(main(Path(sys.argv[1])))
