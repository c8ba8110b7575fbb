"""The console with 100,000 items in its queue: `python -m benchmarks.console BUNDLE_DIR MODELS_DIR`.

Prints how long each interaction takes from the request to its whole answer, over HTTP on loopback, one expert at a
time: the queue's page, a claim, the item's page (with the nearest of 5,000 labelled items), extending, handing back,
submitting. Beside them a static file, which is what HTTP alone takes. Items are the function-calling requests of the
demo's traffic, over and over. Queue, desk, embeddings and pages are those of the service; the table of items is a
dictionary in place of RocksDB, and a label counts as written at once, so what Kafka takes is not in these times.

Times on the processor, of server and client together, are given beside those of the clock, which other work on the
machine lengthens.
"""

import asyncio
import gc
import json
import re
import statistics
import sys
import time
from collections.abc import Coroutine, Iterable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import SecretStr

from embedded.ports import free_ports
from gyre.demo.traffic import TrafficRequest, traffic
from schemas.bundle import Bundle, load_bundle
from schemas.codecs import codec
from schemas.events import EdgeCase, Label, Message, Sensitivity, Signal, Tool
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.embeddings import Embedder
from services.triage.console import Console
from services.triage.desk import Desk
from services.triage.domain.answers import call_error
from services.triage.domain.leases import Signer
from services.triage.domain.queue import Queue, QueueName
from services.triage.domain.rows import Item, Labelled
from services.triage.domain.selection import Selector
from services.triage.neighbours import Neighbours
from services.triage.settings import Settings

ITEMS = 100_000
LABELLED = 5_000
ROUNDS = 300
TOKEN = "a-token"  # noqa: S105 - of this benchmark's own console
CLOCK = Clock()


class World:
    """What the desk needs from outside, in memory."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self.items: dict[str, Item] = {}

    def current(self) -> Bundle:
        """Return the bundle."""
        return self._bundle

    def check_ready(self) -> None:
        """Do nothing."""

    def item(self, request_id: str) -> Item | None:
        """Return an item."""
        return self.items.get(request_id)

    def selectors(self) -> Iterable[tuple[QueueName, Selector]]:
        """Return what was decided, of four partitions."""
        return [(name, Selector(seen=ITEMS, flagged=ITEMS // 5)) for name in self._names() for _ in range(4)]

    def labelled(self) -> Iterable[tuple[QueueName, Labelled]]:
        """Return what was labelled, of four partitions."""
        return [(name, Labelled(labelled=100)) for name in self._names() for _ in range(4)]

    async def write(self, label: Label) -> None:
        """Take a label."""
        del self.items[label.request_id]

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """Return nothing: the overview is not measured."""
        return []

    def _names(self) -> list[QueueName]:
        return [(task.tenant, name) for name, task in self._bundle.tasks.items()]


async def measure(bundle_folder: Path, models_folder: Path) -> None:
    """Fill the queue, serve the console, ask it, print."""
    bundle = load_bundle(bundle_folder)
    embedder, world, queue = Embedder(models_folder), World(bundle), Queue()
    neighbours = Neighbours(embedder.embed, embedder.dimensions, LABELLED, 0.6)
    task, known = next((name, each) for name, each in bundle.tasks.items() if each.answers == "function-call")
    size = 0
    # A few right answers are none by the function's own schema; they cannot be submitted.
    valid = [each for each in traffic() if call_error(each.expected_call_json, _tools(each)) is None]
    for number, request in enumerate(islice(cycle(valid), ITEMS)):
        edge_case = _edge_case(request, known.tenant, task, (number % 1000) / 1000)
        record = codec(Topic.EDGE_CASES).encode(edge_case)
        size += len(record)
        world.items[edge_case.request_id] = Item(
            partition=0, tenant=known.tenant, task=task, score=edge_case.score, edge_case=record
        )
        queue.add(edge_case.request_id, (known.tenant, task), edge_case.score)
        if number < LABELLED:
            neighbours.take_label(_label(edge_case, request.expected_call_json))
    (port,) = free_ports(1)
    desk = Desk(
        queue=queue,
        tables=world,
        labels=world,
        bundles=world,
        signer=Signer(b"secret"),
        lease_seconds=900,
        clock=CLOCK,
    )
    gc.collect()
    gc.freeze()  # as the service does once it is ready
    print(f"{ITEMS:,} items of {size // ITEMS:,} bytes, {LABELLED:,} labelled, {ROUNDS} rounds")
    settings = Settings(console_port=port, console_token=SecretStr(TOKEN))
    cookies = aiohttp.CookieJar(unsafe=True)  # also of an address that is a number
    async with (
        Console(settings, desk, neighbours, world),
        aiohttp.ClientSession(f"http://127.0.0.1:{port}", cookie_jar=cookies) as session,
    ):
        await _play(session)


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

    await post("/sign-in", name="Ann", token=TOKEN)
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
