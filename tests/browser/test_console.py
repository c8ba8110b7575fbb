"""An expert in a real browser, against the console of a real triage process."""

from typing import Any

from playwright.async_api import Page

from gyre.api.triage.v1 import review_pb2 as pb
from schemas.codecs import codec
from schemas.topics import Topic
from services.runtime.kafka import Producer
from tests.browser.conftest import shown
from tests.integration.triage.conftest import PASSWORD, Process
from tests.integration.triage.test_triage import _play, _records, _seen, _until


async def _open(review: Any) -> bool:
    """Whether something waits for an expert."""
    stats = await review.Stats(pb.StatsRequest(), timeout=10)
    return any(queue.open for queue in stats.queues)


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
    await shown(page, "#queue")

    await page.keyboard.press("n")
    await shown(page, "#item")
    request_id = await page.text_content(".about code")
    await page.keyboard.press("j")
    await page.fill("#answer", '{"name": "fly", "arguments": {}}')
    await page.keyboard.press("Control+Enter")
    await page.get_by_role("alert").get_by_text("'fly' is not one of the tools").wait_for()

    answer = '{"name": "find_film", "arguments": {"title": "Aliens"}}'
    await page.fill("#answer", answer)
    await page.keyboard.press("Control+Enter")
    await page.wait_for_function("id => document.querySelector('.about code')?.textContent !== id", arg=request_id)
    labels = [codec(Topic.LABELS).decode(record.value) for record in await _records(kafka, Topic.LABELS)]
    label = next(label for label in labels if label.request_id == request_id)
    assert (label.expert, label.outcome, label.answer) == ("ann", "corrected", answer)

    # What was labelled is offered with the next alike question, once the label has come back from its topic.
    async def offered() -> bool:
        await page.reload()
        return await page.locator('.start[data-key="7"]').count() > 0

    await _until(offered)


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
