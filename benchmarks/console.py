"""The console with 100,000 items in its queue: `python -m benchmarks.console BUNDLE_DIR MODELS_DIR`.

Prints how long each interaction takes from the request to its whole answer, over HTTP on loopback, one expert at a
time: the queue's page, a claim, the item's page (with the nearest of 5,000 labelled items), extending, handing back,
submitting. Beside them a static file, which is what HTTP alone takes. Items are the function-calling requests of the
demo's traffic, over and over, in RocksDB as in the service; backlog, desk, embeddings and pages are the service's too.
What goes on record is read back at once, so what Kafka takes is not in these times, nor what triage learns from a label
for its next decisions. There are no accounts, so nobody signs in: the expert is the admin of this machine.

Times on the processor, of server and client together, are given beside those of the clock, which other work on the
machine lengthens.
"""

import asyncio
import gc
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import aiohttp

from embedded.ports import free_ports
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.bundle import Bundle, load_bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Label, Message, ReviewAction, Sensitivity, Signal, Tool
from schemas.topics import Topic
from services.runtime.calls import call_error
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.triage.adapters import ItemsOnDisk
from services.triage.alike import Alike
from services.triage.backlog import Backlog
from services.triage.console import Console
from services.triage.desk import Desk
from services.triage.domain.leases import Signer
from services.triage.domain.queue import QueueName
from services.triage.domain.selection import Selector
from services.triage.domain.sessions import Patience, Sessions
from services.triage.entrance import Entrance
from services.triage.identity import Identity
from services.triage.items import Items
from services.triage.rendering import Pages
from services.triage.settings import Settings

ITEMS = 100_000
LABELLED = 5_000
ROUNDS = 300
CLOCK = Clock()


class World:
    """What the desk needs from outside: topics that give back at once what is written to them, and what was decided."""

    def __init__(self, bundle: Bundle, backlog: Backlog, alike: Alike) -> None:
        self._bundle = bundle
        self._backlog = backlog
        self._alike = alike

    def current(self) -> Bundle:
        """Return the bundle."""
        return self._bundle

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        """Return what was decided, of four partitions."""
        names = [(task.tenant, name) for name, task in self._bundle.tasks.items()]
        return [(name, Selector(seen=ITEMS, flagged=ITEMS // 5)) for name in names for _ in range(4)]

    async def write(self, label: Label) -> None:
        """Take a label."""
        self._backlog.take_label(label)
        self._alike.take_label(label)

    def check_room(self) -> None:
        """Do nothing."""

    def record(self, action: ReviewAction) -> asyncio.Future[None]:
        """Take an action."""
        self._backlog.take_action(action)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return nothing: the overview is not measured."""
        return []


async def measure(bundle_folder: Path, models_folder: Path) -> None:
    """Fill the queue, serve the console, ask it, print."""
    bundle, embedder = load_bundle(bundle_folder), Embedder(models_folder)
    (port,) = free_ports(1)
    settings = Settings(console_port=port, accounts=None)
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder, closing(ItemsOnDisk(Path(folder) / "items")) as items:
        backlog = Backlog(items, CLOCK)
        alike = Alike(embedder.embed, embedder.dimensions, LABELLED, settings.neighbour_likeness)
        size = _fill(backlog, alike, bundle)
        running = asyncio.create_task(backlog.run(asyncio.sleep(0)))
        gc.collect()
        gc.freeze()  # as the service does once it is ready
        print(f"{ITEMS:,} items of {size // ITEMS:,} bytes, {LABELLED:,} labelled, {ROUNDS} rounds")
        async with (
            _console(settings, World(bundle, backlog, alike), backlog, alike).serving(),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        ):
            await _play(session)
        running.cancel()


def _fill(backlog: Backlog, alike: Alike, bundle: Bundle) -> int:
    """Take in the items and the labels; return the bytes of all items as they are on their topic."""
    task, known = next((name, each) for name, each in bundle.tasks.items() if each.answers == "function-call")
    size = 0
    # A few right answers are none by the function's own schema; they cannot be submitted.
    valid = [each for each in traffic() if call_error(each.expected_call_json, _tools(each)) is None]
    for number, request in enumerate(islice(cycle(valid), ITEMS)):
        edge_case = _edge_case(request, known.tenant, task, (number % 1000) / 1000)
        size += len(codec(Topic.EDGE_CASES).encode(edge_case))
        backlog.take_edge_case(edge_case)
        if number < LABELLED:
            alike.take_label(_label(edge_case, request.expected_call_json))
    return size


def _console(settings: Settings, world: World, backlog: Backlog, alike: Alike) -> Console:
    desk = Desk(
        backlog=backlog,
        decided=world,
        labels=world,
        actions=world,
        bundles=world,
        signer=Signer(b"secret"),
        lease_seconds=settings.lease_seconds,
        clock=CLOCK,
    )
    patience = Patience(timedelta(minutes=settings.session_idle_minutes), timedelta(hours=settings.session_hours))
    sessions = Sessions(b"secret", patience)
    identity = Identity(None, sessions, world, settings.session_requests_per_minute, CLOCK)
    pages = Pages()
    entrance = Entrance(settings, identity, pages, None)
    return Console(settings, Items(desk, alike, entrance, pages), world, entrance, pages)


async def _play(session: aiohttp.ClientSession) -> None:
    times: dict[str, list[tuple[float, float]]] = {}

    async def timed(what: str, asking: Coroutine[Any, Any, str]) -> str:
        started, busy = time.perf_counter(), time.process_time()
        text = await asking
        times.setdefault(what, []).append((time.perf_counter() - started, time.process_time() - busy))
        return text

    async def get(path: str) -> str:
        async with session.get(path) as response:
            response.raise_for_status()
            return await response.text()

    async def post(path: str, **fields: str) -> str:
        async with session.post(path, data=fields, allow_redirects=False) as response:
            response.raise_for_status()
            return response.headers.get("Location") or await response.text()

    for _ in range(ROUNDS):
        await timed("a static file", get("/static/gyre.svg"))
        csrf = _value(await timed("the queue's page", get("/")), "csrf")
        for last in ("hand back", "submit a correction"):
            path = await timed("claim", post("/claim", csrf=csrf))
            page = await timed("the item's page", get(path))
            extended = json.loads(await timed("extend", post("/extend", csrf=csrf, lease=_value(page, "lease"))))
            fields = {"csrf": csrf, "lease": str(extended["lease"])}
            if last == "hand back":
                await timed(last, post("/release", **fields))
                continue
            fields |= {"claimed_at": _value(page, "claimed_at"), "action": "corrected", "answer": _start(page)}
            await timed(last, post("/submit", **fields))
    for what, each in times.items():
        (p50, p99), (busy_p50, busy_p99) = (_quantiles(values) for values in zip(*each, strict=True))
        print(f"{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms; on the processor {busy_p50:.1f} and {busy_p99:.1f} ms")


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    return statistics.median(seconds) * 1000, statistics.quantiles(seconds, n=100)[98] * 1000


def _value(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page)
    assert found, page
    return found[1]


def _start(page: str) -> str:
    """Return the answer of the nearest labelled item."""
    found = re.search(r'data-key="7"[^>]*data-text="([^"]+)"', page)
    assert found, page
    return found[1].replace("&#34;", '"').replace("&#39;", "'").replace("&lt;", "<").replace("&amp;", "&")


def _tools(request: TrafficRequest) -> tuple[Tool, ...]:
    functions = (each["function"] for each in request.tools)
    return tuple(
        Tool(name=each["name"], description=each["description"], parameters=json.dumps(each["parameters"]))
        for each in functions
    )


def _edge_case(request: TrafficRequest, tenant: str, task: str, score: float) -> EdgeCase:
    return EdgeCase(
        request_id=CLOCK.new_id(),
        tenant=tenant,
        task=task,
        flagged_at=CLOCK.now(),
        score=score,
        threshold=0.4,
        explored=False,
        propensity=1.0,
        value=score,
        signals=(Signal(name="improbable", value=score, explanation="The model was not sure of its words."),),
        messages=tuple(Message(role=each["role"], content=each["content"]) for each in request.messages),
        tools=_tools(request),
        answer='{"name": "none", "arguments": {}}',
        model="small",
        sensitivity=Sensitivity.INTERNAL,
        bundle_version="b1",
    )


def _label(edge_case: EdgeCase, answer: str) -> Label:
    return Label(
        label_id=CLOCK.new_id(),
        request_id=edge_case.request_id,
        tenant=edge_case.tenant,
        task=edge_case.task,
        expert="bob",
        labelled_at=CLOCK.now(),
        outcome="corrected",
        answer=answer,
        question=edge_case.messages[-1].content,
        sensitivity=edge_case.sensitivity,
        bundle_version="b1",
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.console BUNDLE_DIR MODELS_DIR")
    asyncio.run(measure(Path(sys.argv[1]), Path(sys.argv[2])))
