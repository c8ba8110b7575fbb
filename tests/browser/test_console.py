"""An expert in a real browser, against the console of a real triage process."""

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from playwright.async_api import Page, async_playwright

from gyre.api.triage.v1 import review_pb2 as pb
from schemas.codecs import codec
from schemas.topics import Topic
from services.runtime.kafka import Producer
from tests.integration.triage.conftest import PASSWORD, Process
from tests.integration.triage.test_triage import _play, _records, _seen, _until

CHROMIUM = next(
    (path for name in ("chromium", "google-chrome", "chromium-browser") if (path := shutil.which(name))), ""
)


async def _open(review: Any) -> bool:
    """Whether something waits for an expert."""
    stats = await review.Stats(pb.StatsRequest(), timeout=10)
    return any(queue.open for queue in stats.queues)


pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs chromium or google-chrome on PATH")


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        page.set_default_timeout(60_000)
        yield page
        await browser.close()


async def test_an_expert_signs_in_claims_edits_and_submits(
    page: Page,
    triage: Process,
    review: Any,
    producer: Producer,
    kafka: str,
) -> None:
    before = await _until(lambda: review.Stats(pb.StatsRequest(), timeout=10))
    await _play(producer, 20)
    await _until(lambda: _seen(review, sum(queue.seen for queue in before.queues) + 20))
    await _until(lambda: _open(review))
    await _sign_in(page, triage, password="another password")
    await page.get_by_role("alert").get_by_text("That is not the name and the password of an account.").wait_for()
    await page.get_by_label("Password").fill(PASSWORD)
    await page.keyboard.press("Enter")
    await page.get_by_text("Share asked").wait_for()

    await page.keyboard.press("n")
    await page.get_by_text("Why you are asked").wait_for()
    lease = await page.input_value("[name=lease]")
    request_id = await page.text_content(".about code")
    await page.fill("#answer", '{"name": "fly", "arguments": {}}')
    await page.keyboard.press("Control+Enter")
    await page.get_by_role("alert").get_by_text("'fly' is not one of the tools").wait_for()

    answer = '{"name": "find_film", "arguments": {"title": "Aliens"}}'
    await page.fill("#answer", answer)
    await page.keyboard.press("Control+Enter")
    await page.wait_for_function("lease => document.querySelector('[name=lease]')?.value !== lease", arg=lease)
    labels = [codec(Topic.LABELS).decode(record.value) for record in await _records(kafka, Topic.LABELS)]
    label = next(label for label in labels if label.request_id == request_id)
    assert (label.expert, label.outcome, label.answer) == ("ann", "corrected", answer)


async def test_without_the_record_the_overview_says_so_and_reviewing_goes_on(page: Page, triage: Process) -> None:
    await _sign_in(page, triage, "ada")
    await page.get_by_role("link", name="Overview").click()
    await page.get_by_role("alert").get_by_text("cannot be read now").wait_for()
    await page.get_by_role("link", name="Month").click()
    await page.get_by_role("heading", name="30 days").wait_for()
    await page.get_by_role("link", name="Review").click()
    await page.locator("#claim button").wait_for()


async def test_who_signs_out_is_out_and_is_shown_no_overview_before(page: Page, triage: Process) -> None:
    await _sign_in(page, triage)
    await page.get_by_text("ann expert").wait_for()
    assert await page.get_by_role("link", name="Overview").count() == 0
    await page.goto(f"{triage.url}/overview")
    await page.get_by_role("alert").get_by_text("is for leads and admins of all tenants").wait_for()
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("Password").wait_for()
    await page.go_back()
    await page.reload()
    await page.get_by_label("Password").wait_for()


async def _sign_in(page: Page, triage: Process, name: str = "ann", password: str = PASSWORD) -> None:
    await page.goto(triage.url)
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Password").fill(password)
    await page.keyboard.press("Enter")
