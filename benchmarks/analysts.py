"""Analysts' queries: every SQL example of docs/analysts.md, as the read-only user, over a million interactions.

    python -m benchmarks.analysts

Starts ClickHouse on a free port with a state folder that is removed afterwards, and puts a month of traffic on record
as audit does: encoded events, in their hash chains, through the rollups' materialized views. Of 9,000 different
requests each comes often, under other ids and at other times. Then each example runs five times; printed are the
median, the slowest and the processor time. Where other programs want the processors too, compare the latter.
"""

import argparse
import asyncio
import itertools
import math
import os
import random
import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import psutil
from msgspec.structs import replace
from pydantic import SecretStr

from embedded.environment import clickhouse_password
from embedded.ports import stack_ports
from embedded.settings import Settings
from embedded.stack import Stack
from schemas.codecs import codec
from schemas.events import (
    Attempt,
    Candidate,
    Deployment,
    Drift,
    EdgeCase,
    Event,
    Feedback,
    Finding,
    GateAnswer,
    Interaction,
    Label,
    Message,
    Outcome,
    Release,
    ReviewAction,
    RouteCandidate,
    RouteEstimate,
    Sensitivity,
    Shadow,
    Signal,
    Stage,
    Tool,
)
from schemas.topics import Topic
from services.audit.adapters import ClickHouseLedger
from services.audit.domain import EMPTY, Head, chained, runs
from services.runtime.clickhouse import ClickHouse
from services.runtime.clock import Clock
from services.runtime.kafka import Record
from services.runtime.settings import ClickHouseSettings

_DOCUMENT = Path(__file__).parents[1] / "docs" / "analysts.md"
_PARTITIONS = 4
_BATCH = 20_000
_DAYS = 30
_TIMES = 5
_SHAPES = 3000  # different requests in each third of the month
# Of the request in a shape.
_ID = "01900000-0000-7000-8000-000000000000"
_TIME = datetime(2026, 1, 1, tzinfo=UTC)
_TENANTS = {"customer-care": ("helpdesk", "app"), "sales": ("crm",), "field": ("tablet",)}
_TASKS = ("consumer-services", "returns")
_STAGES = {
    **{"data-prep": 300, "governance": 1200, "context-stitching": 2500, "policy": 60, "routing": 200},
    **{"inference": 300_000, "monitoring": 40, "audit": 120},
}
_PRICES = {"specialist": 0.1, "small": 0.4, "large": 6.0}
_WORDS = ("find", "concert", "hotel", "tomorrow", "cheap", "Lisbon", "Kyoto", "two", "people", "return", "order")


def main() -> None:
    """Fills the record, asks it, and prints what took how long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=1_000_000, help="on record")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gyre-") as folder:
        stack = Stack(Settings(state_dir=Path(folder), ports=stack_ports()))
        try:
            stack.start(("clickhouse",))
            asyncio.run(_measure(stack, options.interactions))
        finally:
            stack.stop()


async def _measure(stack: Stack, count: int) -> None:
    gyre, analyst = (_client(stack, user) for user in ("audit", "analyst"))
    server = next(status.pid for status in stack.status() if status.part.name == "clickhouse")
    try:
        await fill(gyre, count)
        await ask(analyst, psutil.Process(server))
    finally:
        await gyre.close()
        await analyst.close()


def _client(stack: Stack, user: str) -> ClickHouse:
    return ClickHouse(
        ClickHouseSettings(
            url=f"http://{stack.settings.address('GYRE_EMBEDDED_CLICKHOUSE_PORT')}",
            user=user,
            password=SecretStr(clickhouse_password(stack.settings, user)),
        )
    )


async def fill(clickhouse: ClickHouse, count: int) -> None:
    """Puts so many interactions on record, and what came of them."""
    ledger = ClickHouseLedger(clickhouse, Clock())
    await ledger.prepare()
    started = time.perf_counter()
    heads: dict[tuple[Topic, int], Head] = defaultdict(lambda: EMPTY)
    waiting: dict[tuple[Topic, int], list[Record]] = defaultdict(list)
    offsets: dict[tuple[Topic, int], Iterator[int]] = defaultdict(itertools.count)
    for topic, at, key, value in _records(count):
        place = topic, crc32(key.encode()) % _PARTITIONS
        waiting[place].append(
            Record(topic, place[1], next(offsets[place]), int(at.timestamp() * 1000), key.encode(), value)
        )
        if len(waiting[place]) >= _BATCH:
            await _store(ledger, heads, place, waiting.pop(place))
    for place, records in waiting.items():
        await _store(ledger, heads, place, records)
    stored = sum(head.offset + 1 for head in heads.values())
    print(f"{count:,} interactions, {stored:,} records, {os.cpu_count()} cores, {time.perf_counter() - started:.0f} s")


async def _store(
    ledger: ClickHouseLedger, heads: dict[tuple[Topic, int], Head], place: tuple[Topic, int], records: list[Record]
) -> None:
    for run in runs(records):
        rows = chained(heads[place], run, os.urandom)
        await ledger.append(rows)
        heads[place] = rows[-1].head
        if await ledger.head(*place) != heads[place]:
            raise SystemExit(f"{place[0]}/{place[1]}: rows up to offset {heads[place].offset} were not stored")


async def ask(analyst: ClickHouse, server: psutil.Process) -> None:
    """Runs every example, and prints how long it takes."""
    parameters = await _parameters(analyst)
    print(f"{'median':>9} {'slowest':>9} {'processor':>11} {'rows':>6}  example")
    for heading, example in examples():
        seconds, before = [], sum(server.cpu_times()[:2])
        for _ in range(_TIMES):
            started = time.perf_counter()
            rows = await analyst.rows(example, parameters)
            seconds.append(time.perf_counter() - started)
        processor = (sum(server.cpu_times()[:2]) - before) / _TIMES
        median, slowest = statistics.median(seconds), max(seconds)
        print(f"{median:7.3f} s {slowest:7.3f} s {processor:9.3f} s {len(rows):6,}  {heading}")


def examples() -> list[tuple[str, str]]:
    """Returns the SQL examples of the document, each with the heading that it stands under and its number there."""
    found, heading, number = [], "", 0
    for title, example in re.findall(r"(?m)^## ([^\n:]+)|^```sql\n((?s:.*?))```", _DOCUMENT.read_text()):
        if title:
            heading, number = title, 0
        else:
            number += 1
            found.append((f"{heading}, {number}" if number > 1 else heading or "columns", example))
    return found


async def _parameters(analyst: ClickHouse) -> dict[str, str]:
    (row,) = await analyst.rows(
        "SELECT training_request_ids[1] AS request_id, candidate_id FROM gyre.candidates ORDER BY created_at LIMIT 1"
    )
    (label,) = await analyst.rows(
        "SELECT label_id FROM gyre.labels "
        "WHERE request_id IN (SELECT arrayJoin(training_request_ids) FROM gyre.candidates) LIMIT 1"
    )
    return {**row, **label}


class _Shape:
    """An encoded event, to be had again with another request's id and another time: encoding a million takes long."""

    def __init__(self, topic: Topic, event: Event) -> None:
        self.topic = topic
        rest = codec(topic).encode(event)
        self._pieces: list[bytes] = []
        self._later_us: list[
            int | None
        ] = []  # of a time after the request's, by the piece that it follows; none: its id
        for field in msgspec.structs.fields(event):
            value = getattr(event, field.name)
            if isinstance(value, datetime):
                later_us = (value - _TIME) // timedelta(microseconds=1)
                before, _, rest = rest.partition(_long(_microseconds(value)))
            elif value == _ID:
                later_us = None
                before, _, rest = rest.partition(_ID.encode())
            else:
                continue
            self._pieces.append(before)
            self._later_us.append(later_us)
        self._pieces.append(rest)
        self.later = timedelta(microseconds=max(filter(None, self._later_us), default=0))

    def value(self, request_id: str, at: datetime) -> bytes:
        """Returns the event as of this request."""
        id_, at_us = request_id.encode(), _microseconds(at)
        parts = [self._pieces[0]]
        for later_us, piece in zip(self._later_us, self._pieces[1:], strict=True):
            parts += (id_ if later_us is None else _long(at_us + later_us), piece)
        return b"".join(parts)


def _microseconds(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def _long(value: int) -> bytes:
    """Returns a number that is not negative as Avro encodes it."""
    rest, encoded = value << 1, bytearray()
    while rest > 0x7F:
        encoded.append((rest & 0x7F) | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def _records(count: int) -> Iterator[tuple[Topic, datetime, str, bytes]]:
    """Yields a month of records: 20 of 100 requests are flagged, half of these labelled, and five have feedback."""
    chance, clock, encoders = random.Random(1), Clock(), {topic: codec(topic).encode for topic in Topic}
    begin = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=_DAYS)
    asked: list[str] = []
    live: dict[str, str] = {}
    for third in range(3):
        if third:
            at = begin + timedelta(days=_DAYS * third / 3)
            for topic, key, event in _promotions(chance, clock, at, asked, live):
                yield topic, at, key, encoders[topic](event)
        stories = [_story(chance, live) for _ in range(_SHAPES)]
        for number in range(count * third // 3, count * (third + 1) // 3):
            # More by day than by night.
            day, hour = divmod(_DAYS * number / count, 1)
            at = begin + timedelta(days=day + (hour + 0.14 * math.sin(2 * math.pi * hour)))
            request_id, story = clock.new_id(), chance.choice(stories)
            if chance.random() < 0.1:
                asked.append(request_id)
            for shape in story:
                yield shape.topic, at + shape.later, request_id, shape.value(request_id, at)
    for number in range(40):
        at = begin + timedelta(hours=number * 17)
        drift = Drift(
            task_key="sales/returns", tenant="sales", task="returns", model="small", measure="answer_tokens",
            method="adwin", statistic=chance.random(), threshold=0.2, window_start=at, detected_at=at,
        )  # fmt: skip
        yield Topic.DRIFT, at, drift.task_key, encoders[Topic.DRIFT](drift)


def _story(chance: random.Random, live: dict[str, str]) -> list[_Shape]:
    """Returns what one request leaves on record."""
    return [_Shape(topic, event) for topic, event in _events(chance, _interaction(chance, live))]


def _interaction(chance: random.Random, live: dict[str, str]) -> Interaction:
    tenant = chance.choice(tuple(_TENANTS))
    task = chance.choice(_TASKS)
    candidate = live.get(f"{tenant}/{task}", "")
    tier = "specialist" if candidate and chance.random() < 0.8 else ("small" if chance.random() < 0.8 else "large")
    model = f"specialist-{tenant}-{task}" if tier == "specialist" else tier
    version = candidate[-4:] if tier == "specialist" else "1"
    finish = chance.choices(("stop", "tool_calls", "length", "refused", "error"), (60, 34, 3, 2, 1))[0]
    tokens, written = chance.randrange(60, 900), chance.randrange(8, 120)
    stages = tuple(
        Stage(name=name, start_us=i, duration_us=int(us * math.exp(chance.gauss(0, 0.5))))
        for i, (name, us) in enumerate((*_STAGES.items(), ("governance", 500)))
    )
    total_us = sum(stage.duration_us for stage in stages)
    streamed = chance.random() < 0.3
    tiers = [each for each in _PRICES if each != "specialist" or candidate]
    return Interaction(
        request_id=_ID,
        phase="finished",
        tenant=tenant,
        application=chance.choice(_TENANTS[tenant]),
        task=task,
        task_by="classifier",
        user=f"u-{chance.randrange(5000)}",
        received_at=_TIME,
        finished_at=_TIME + timedelta(microseconds=total_us),
        streamed=streamed,
        messages=(Message(role="user", content=" ".join(chance.choices(_WORDS, k=60))),),
        tools=(Tool(name="find_events", description="Finds events", parameters='{"type": "object"}' * 12),),
        language="en",
        answer=" ".join(chance.choices(_WORDS, k=20)),
        finish_reason=finish,
        model=model,
        model_version=version,
        tier=tier,
        candidate_id=candidate if tier == "specialist" else "",
        candidates=tuple(
            RouteCandidate(
                model=model if each == tier else each,
                tier=each,
                cleared=True,
                live=True,
                chosen=each == tier,
                reason="cheapest that clears the bar 0.60" if each == tier else "dearer than the chosen",
            )
            for each in tiers
        ),
        attempts=(
            *(
                (Attempt(model="small", tier="small", outcome="unsure", start_us=0, duration_us=9, cost=2e-4),)
                * (chance.random() < 0.05)
            ),
            Attempt(
                model=model,
                model_version=version,
                tier=tier,
                outcome="failed" if finish == "error" else "answered",
                start_us=4000,
                duration_us=total_us - 5000,
                prompt_tokens=tokens,
                completion_tokens=written,
                cost=(tokens + written) * _PRICES[tier] / 1e6,
            ),
        ),
        estimates=tuple(
            RouteEstimate(
                model=model if each == tier else each,
                chance=round(chance.uniform(0.5, 1), 4),
                price=(tokens + 60) * _PRICES[each] / 1e6,
                seconds=1.2,
            )
            for each in tiers
        ),
        bundle_version="b-1",
        sensitivity=Sensitivity.INTERNAL,
        input_verdict="mask" if chance.random() < 0.1 else "pass",
        output_verdict="pass",
        findings=(Finding(direction="input", kind="email", action="mask", start=3, end=9),) * (chance.random() < 0.1),
        releases=(Release(start=0, end=80, verdict="pass", bundle_version="b-1"),),
        context_available=True,
        prompt_tokens=tokens,
        completion_tokens=written,
        sum_logprob=-4 * chance.random(),
        mean_logprob=-chance.random(),
        first_token_us=total_us // 4,
        total_us=total_us,
        stages=stages,
    )


def _events(chance: random.Random, finished: Interaction) -> Iterator[tuple[Topic, Event]]:
    own: dict[str, Any] = {"request_id": _ID, "tenant": finished.tenant, "task": finished.task}
    decided: dict[str, Any] = {"sensitivity": finished.sensitivity, "bundle_version": "b-1"}
    if finished.streamed:
        yield (
            Topic.INTERACTIONS,
            replace(finished, phase="opened", answer="", finish_reason="", releases=(), sum_logprob=None),
        )
    if not finished.streamed or chance.random() < 0.995:
        yield Topic.INTERACTIONS, finished
    if chance.random() < 0.05:
        yield Topic.FEEDBACK, Feedback(
            feedback_id=_ID, request_id=_ID, tenant=finished.tenant, application=finished.application,
            given_at=_TIME + timedelta(minutes=1), source="explicit", kind="rating", rating=chance.random(),
        )  # fmt: skip
    if chance.random() < 0.05:
        yield Topic.SHADOWS, Shadow(
            **own, **decided, candidate_id="c-2", model="specialist", model_version="2", answered_at=_TIME,
            answer=finished.answer, finish_reason="stop", completion_tokens=40, sum_logprob=-4 * chance.random(),
        )  # fmt: skip
    if chance.random() >= 0.2:
        return
    asked: dict[str, Any] = {
        "model": finished.model,
        "model_version": finished.model_version,
        "sum_logprob": finished.sum_logprob,
    }
    propensity = 0.02 if chance.random() < 0.1 else 1.0
    yield Topic.EDGE_CASES, EdgeCase(
        **own, flagged_at=_TIME + timedelta(seconds=5), score=chance.random(), threshold=0.7, explored=propensity < 1,
        propensity=propensity, signals=(Signal(name="mean_logprob", value=-2.0, explanation="unsure of its words"),),
        messages=finished.messages, tools=finished.tools, answer=finished.answer, **asked, **decided,
    )  # fmt: skip
    if chance.random() >= 0.5:
        return
    later = _TIME + timedelta(hours=3)
    right = chance.random() < {"specialist": 0.85, "large": 0.8, "small": 0.6}[finished.tier]
    for expert in chance.sample(("e-1", "e-2", "e-3", "e-4"), 1 + (chance.random() < 0.1)):
        yield Topic.LABELS, Label(
            **own, label_id=_ID, expert=expert, labelled_at=later,
            outcome="confirmed" if right ^ (chance.random() < 0.05) else "corrected", answer=finished.answer,
            model_answer=finished.answer, distance=0.0 if right else 0.3, seconds_spent=20 * chance.random(), **decided,
        )  # fmt: skip
        yield Topic.ACTIONS, ReviewAction(**own, action_id=_ID, at=later, expert=expert, action="submitted")
    yield Topic.OUTCOMES, Outcome(
        **own, found_at=later, source="label", success=float(right), propensity=propensity, tier=finished.tier,
        question=finished.messages[0].content, turns=1, tools=1, **asked, **decided,
    )  # fmt: skip


def _promotions(
    chance: random.Random, clock: Clock, at: datetime, asked: list[str], live: dict[str, str]
) -> Iterator[tuple[Topic, str, Event]]:
    """Yields a candidate for each task of each tenant, and its deployment, where the gate lets it."""
    for tenant, task in itertools.product(_TENANTS, _TASKS):
        candidate_id, key, promoted = clock.new_id(), f"{tenant}/{task}", chance.random() < 0.8
        decided: dict[str, Any] = {"sensitivity": Sensitivity.INTERNAL, "tenant": tenant, "task": task}
        answers = [tuple(GateAnswer(right=chance.random() < p) for _ in range(100)) for p in (0.8, 0.6)]
        yield Topic.CANDIDATES, candidate_id, Candidate(
            **decided, candidate_id=candidate_id, run_id=clock.new_id(), created_at=at,
            verdict="promote" if promoted else "refuse", base_model="base", adapter_path=f"adapters/{candidate_id}",
            system_prompt="", dataset_id=clock.new_id(), training_request_ids=tuple(asked[-600:-100]),
            holdout_request_ids=tuple(asked[-100:]), incumbent=live.get(key, "small"),
            candidate_accuracy=0.8, incumbent_accuracy=0.6, candidate_answers=answers[0], incumbent_answers=answers[1],
            gain=0.2, gain_low=0.1, gain_high=0.3, bundle_version="b-1",
        )  # fmt: skip
        if promoted:
            live[key] = candidate_id
            yield Topic.DEPLOYMENTS, key, Deployment(
                **decided, task_key=key, deployment_id=clock.new_id(), state="live", candidate_id=candidate_id,
                model=f"specialist-{tenant}-{task}", model_version=candidate_id[-4:], deployed_at=at, reason="better",
            )  # fmt: skip


if __name__ == "__main__":
    main()
