"""The console in a real browser: of a triage process as the integration tests start it, or over tables that are a dict.

The second can be told what lies in the queue, and what time it is.
"""

import json
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from embedded.ports import free_ports
from schemas.bundle import Bundle, Template
from schemas.events import Citation, Finding, Label, Message, Sensitivity, Signal, Tool
from services.runtime.clock import Clock
from services.runtime.embeddings import Vectors
from services.triage.accounts import changed, hash_password
from services.triage.alike import Alike
from services.triage.console import Console
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import Entrance
from services.triage.identity import Identity
from services.triage.items import Items
from services.triage.rendering import Pages
from services.triage.settings import Settings
from services.triage.state import FollowedAccounts
from tests.integration.triage.conftest import _process, callers, producer, review, triage
from tests.unit.triage.builders import NOW, TASK, TENANT, bundle, person
from tests.unit.triage.fakes import Told, World

__all__ = ["_process", "callers", "producer", "review", "triage"]

CHROMIUM = next(
    (path for name in ("chromium", "google-chrome", "chromium-browser") if (path := shutil.which(name))), ""
)
LETTERS = "letters"
PASSWORD = "a password"
BOB = person("bob", clearance=Sensitivity.RESTRICTED)
PATIENCE_MS = 20_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.skipif(not CHROMIUM, reason="needs chromium or google-chrome on PATH"))


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    await page.context.close()
    assert not errors


# The console over a world of its own


def known() -> Bundle:
    """Two tasks: calls and letters, each with a guideline and templates."""
    sample = bundle()
    calls = sample.tasks[TASK].model_copy(
        update={
            "templates": (
                Template(name="Any film", text='{"name": "find_film", "arguments": {"title": "any"}}'),
                Template(name="Nothing to do", text='{"name": "no_call", "arguments": {}}'),
            )
        }
    )
    letters = calls.model_copy(
        update={
            "answers": "text",
            "guideline": "Answer in two or three sentences.\nNever promise a date that the customer was not given.",
            "templates": (Template(name="Closing", text="Is there anything else that we can do for you?"),),
        }
    )
    return sample.model_copy(update={"tasks": {TASK: calls, LETTERS: letters}})


FIND_FILM = Tool(
    name="find_film",
    description="Finds films that are shown, by what is known of them.",
    parameters=json.dumps(
        {
            "type": "object",
            "required": ["title"],
            "properties": {
                "title": {"type": "string", "description": "Title, or a part of it"},
                "genre": {"type": "string", "enum": ["comedy", "drama", "horror"], "description": "Of the film"},
                "year": {"type": "integer", "description": "When it came out"},
                "rating": {"type": "number", "description": "The least average rating"},
                "subtitled": {"type": "boolean", "description": "Only with subtitles"},
                "cast": {"type": "array", "items": {"type": "string"}, "description": "Who plays in it"},
                "place": {
                    "type": "object",
                    "description": "Where it is shown",
                    "required": ["city"],
                    "properties": {"city": {"type": "string"}, "radius": {"type": "number"}},
                },
                "when": {"anyOf": [{"type": "string"}, {"type": "integer"}], "description": "A day, or days from now"},
                "language": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "Of the sound"},
            },
        }
    ),
)
NO_CALL = Tool(name="no_call", description="For requests that no function serves.", parameters='{"properties": {}}')
ASKED = "I would like to see a horror film with Sigourney Weaver in Rome, from 1979 if there is one."


def call(**arguments: Any) -> str:
    return json.dumps({"name": "find_film", "arguments": arguments})


SAID = call(title="Alien", genre="comedy", cast=["Sigourney Weaver"], place={"city": "Rome"})
LETTER = (
    "Dear Ms Ito, thank you for your letter. Your parcel left our house in Rotterdam on Monday and is sure to arrive "
    "tomorrow. Should it not, write to <EMAIL_1> and we will send another one at once."
)


def add_call(world: World, request_id: str = "call", **changes: Any) -> None:
    values: dict[str, Any] = {
        "score": 0.83,
        "threshold": 0.61,
        "messages": (Message(role="user", content=ASKED),),
        "tools": (FIND_FILM, NO_CALL),
        "answer": SAID,
        "model": "small",
        "model_version": "2",
        "signals": (
            Signal(
                name="improbable", value=0.62, explanation="The model gave its words a probability of 38% on average."
            ),
            Signal(name="asked-again", value=0.6, explanation="The user asked the same thing again."),
        ),
    }
    world.add(request_id, **{**values, **changes})


def add_letter(world: World, request_id: str = "letter", **changes: Any) -> None:
    long = "We have always been content with your house, and so have our neighbours. " * 30
    values: dict[str, Any] = {
        "task": LETTERS,
        "score": 0.7,
        "threshold": 0.61,
        "messages": (
            Message(role="system", content="You answer letters of customers of a parcel service, in their language."),
            *(Message(role=("user", "assistant")[number % 2], content=f"Turn {number}.") for number in range(8)),
            Message(role="user", content=f"Where is my parcel? {long}"),
        ),
        "tools": (),
        "answer": LETTER,
        "model": "small",
        "sensitivity": Sensitivity.CONFIDENTIAL,
        "signals": (Signal(name="masked", value=0.2, explanation="Personal data was masked: email."),),
        "findings": (
            Finding(
                direction="output",
                kind="email",
                action="mask",
                start=LETTER.index("<EMAIL_1>"),
                end=LETTER.index("<EMAIL_1>") + len("<EMAIL_1>"),
            ),
        ),
        "citations": (
            Citation(document_id="handbook/parcels", sensitivity=Sensitivity.INTERNAL, tokens=180, score=0.71),
            Citation(
                document_id="tariffs/2026", sensitivity=Sensitivity.RESTRICTED, tokens=90, score=0.5, dropped=True
            ),
        ),
        "memory_turns": 2,
    }
    world.add(request_id, **{**values, **changes})


def label(request_id: str, question: str, answer: str, task: str = TASK) -> Label:
    return Label(
        label_id=f"l-{request_id}",
        request_id=request_id,
        tenant=TENANT,
        task=task,
        expert="bob",
        labelled_at=NOW,
        outcome="corrected",
        answer=answer,
        question=question,
        sensitivity=Sensitivity.INTERNAL,
        bundle_version="b1",
    )


def _embed(texts: Sequence[str]) -> Vectors:
    """Which words a text has, as a vector of length 1."""
    vectors = np.zeros((len(texts), 64), np.float32)
    for vector, text in zip(vectors, texts, strict=True):
        for word in text.lower().split():
            vector[zlib.crc32(word.encode()) % 64] += 1
        vector /= np.linalg.norm(vector) + 1e-9
    return vectors


def month() -> dict[str, list[dict[str, Any]]]:
    """What a record might say of a month of three experts, one of whom has become careless."""
    of = {"tenant": TENANT, "task": TASK}
    found = ("confirmed", "corrected", "corrected", "confirmed", "unsafe")
    both = [
        {
            **{**of, "request_id": f"{two} {n}", "experts": list(two)},
            "outcomes": [found[n % 5], found[n % 5 if n % miss else (n + 1) % 5]],
        }
        for two, miss, count in ((("ann", "bob"), 9, 90), (("ann", "cleo"), 3, 60), (("bob", "cleo"), 4, 40))
        for n in range(count)
    ]
    return {
        "experts": [
            {**of, "expert": name, "labels": labels, "median_seconds": each, "latest_seconds": latest}
            | {"before_seconds": before}
            for name, labels, each, latest, before in (
                ("ann", 612, 21.0, 19.0, 21.0),
                ("bob", 540, 18.0, 18.0, 18.0),
                ("cleo", 230, 14.0, 6.0, 17.0),
            )
        ],
        "checks": [
            {**of, "expert": name, "gold": gold, "gold_right": right, "settled": settled, "settled_right": agreed}
            | {"before": gold - 30, "before_right": right - latest, "latest": 30, "latest_right": latest}
            for name, gold, right, settled, agreed, latest in (
                ("ann", 80, 77, 141, 133, 29),
                ("bob", 74, 68, 118, 109, 27),
                ("cleo", 64, 50, 84, 65, 18),
            )
        ],
        "judged-by-several": both,
        "guidelines": [
            {**of, "version": version, "first_at": NOW - timedelta(days=begin), "last_at": NOW - timedelta(days=end)}
            | {"labels": labels, "experts": 3, "confirmed": right, "text": text}
            for version, begin, end, labels, right, text in (
                ("7d0e51c2a94b", 12, 0, 603, 371, "Name the one function that does what the user asks."),
                ("19bc0de4477a", 29, 12, 779, 402, "Name a function that fits."),
            )
        ],
        "contributions": [
            {**of, "expert": "ann", "candidate_id": f"0199-{number:08}", "decided_at": NOW - timedelta(days=days)}
            | {"labels": labels, "learned_from": rows, "verdict": verdict, "answers": answers, "is_live": number == 3}
            | {"live_at": NOW if answers else None, "incumbent_accuracy": before, "candidate_accuracy": after}
            | {"gain": after - before, "gain_low": after - before - 0.08, "gain_high": after - before + 0.08}
            for number, days, labels, rows, verdict, before, after, answers in (
                (3, 2, 580, 1_310, "promote", 0.61, 0.72, 3_904),
                (2, 11, 402, 905, "refuse", 0.61, 0.63, 0),
                (1, 24, 171, 389, "promote", 0.05, 0.61, 21_377),
            )
        ],
    }


@dataclass
class Reviewing:
    """A console that is being served, and what is behind it."""

    url: str
    world: World
    alike: Alike
    record: Told


@asynccontextmanager
async def served() -> AsyncIterator[Reviewing]:
    """Serve a console over a world that is empty."""
    world = World(known(), lease_seconds=900)
    alike = Alike(_embed, 64, most=100, minimum_likeness=0.3)
    record = Told()
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        accounts = Path(folder) / "accounts.yaml"
        with changed(accounts) as content:
            for name, role in (("ann", "expert"), ("bob", "expert"), ("lea", "lead")):
                content[name] = {
                    "role": role,
                    "clearance": "restricted",
                    "tenants": "all",
                    "password": hash_password(PASSWORD),
                }
        settings, pages = Settings(console_port=port, accounts=accounts, drain_seconds=0), Pages()
        sessions = Sessions(b"secret", Patience(timedelta(hours=1), timedelta(hours=12)))
        identity = Identity(FollowedAccounts(accounts), sessions, world, 6000, Clock())
        entrance = Entrance(settings, identity, pages, None)
        async with Console(settings, Items(world.desk, alike, entrance, pages), record, entrance, pages).serving():
            yield Reviewing(f"http://127.0.0.1:{port}/", world, alike, record)


@pytest.fixture
async def reviewing() -> AsyncIterator[Reviewing]:
    async with served() as reviewing:
        yield reviewing


async def sign_in(page: Page, url: str, name: str = "ann") -> None:
    """Sign in by keyboard alone."""
    await page.goto(url)
    await expect(page.locator("[name=name]")).to_be_focused()
    await page.keyboard.type(name)
    await page.keyboard.press("Tab")
    await page.keyboard.type(PASSWORD)
    await page.keyboard.press("Enter")
    await shown(page, "#queue")


async def shown(page: Page, selector: str) -> None:
    """Wait until a page is there, its scripts too: before that it has no keys."""
    await page.locator(selector).wait_for()
    await page.wait_for_load_state("load")


async def press(page: Page, *keys: str) -> None:
    """Press keys, one after another."""
    for key in keys:
        await page.keyboard.press(key)


async def claim(page: Page, reviewing: Reviewing) -> None:
    """Sign in and claim the next item."""
    await sign_in(page, reviewing.url)
    await page.keyboard.press("n")
    await shown(page, "#item")


async def done(page: Page, reviewing: Reviewing, count: int = 1) -> Label:
    """Wait until a label is written and the page has gone on, and return the label."""
    await shown(page, "#queue")
    assert len(reviewing.world.written) == count
    return reviewing.world.written[-1]


async def field(page: Page, name: str) -> str:
    """Return what the field of an argument holds."""
    return (
        await page.locator(f'[data-name="{name}"]')
        .first.locator("input:not([type=checkbox]), textarea, select")
        .first.input_value()
    )


async def replace(page: Page, text: str) -> None:
    """Type a text in place of what is there."""
    await page.keyboard.press("Control+a")
    await page.keyboard.type(text)
