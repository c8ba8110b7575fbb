"""Twenty experts at two replicas of triage, under traffic, while one replica after the other is killed."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from gyre.api.triage.v1 import review_pb2 as pb
from schemas.codecs import codec
from schemas.events import BundlePublished, EdgeCase, Label, Message
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.runtime.rpc import channel
from services.runtime.settings import KafkaSettings
from services.triage.accounts import changed, new_token
from tests.conftest import broker
from tests.integration.triage.conftest import Caller, Process
from tests.integration.triage.test_triage import _records
from tests.unit.triage.builders import CALL, NOW, TENANT, bundle, interaction

pytestmark = pytest.mark.timeout(600)

EXPERTS, ASKED, KILLS = 20, 400, 4
PAUSE_SECONDS = 6.0  # between a start and the next kill
# Who is killed between a claim and its answer leaves an item in nobody's hands until its lease ends.
LEASE_SECONDS = 30
CLOCK = Clock()


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[str]:
    with broker(tmp_path / "state") as address:
        yield address


@pytest.fixture
async def replicas(kafka: str, models: Path, tmp_path: Path) -> AsyncIterator[list[Process]]:
    processes: list[Process] = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        shared = {"GYRE_TRIAGE_ACCOUNTS": str(processes[0].accounts)} if processes else {}
        lease = {"GYRE_TRIAGE_LEASE_SECONDS": str(LEASE_SECONDS)}
        processes.append(Process(kafka, models, tmp_path / name, **lease, **shared))
    with changed(processes[0].accounts) as content:
        for number in range(EXPERTS):
            name = f"expert-{number}"
            processes[0].tokens[name], digest = new_token()
            content[name] = {"role": "expert", "clearance": "internal", "tenants": [TENANT], "token_sha256": digest}
    async with Producer(KafkaSettings(bootstrap_servers=kafka)) as producer:
        published = bundle(share=0.5)
        event = BundlePublished(version=published.version, published_at=NOW, content=published.model_dump_json())
        await producer.send(Topic.BUNDLES, event)
    await asyncio.gather(*(process.start() for process in processes))
    yield processes
    for process in processes:
        process.stop()


class Experts:
    """Accounts with tokens, each a client of both replicas that tries again where it gets no answer."""

    def __init__(self, replicas: Sequence[Process]) -> None:
        self._tokens = [token for name, token in replicas[0].tokens.items() if name.startswith("expert-")]
        self._replicas = replicas
        self.acknowledged: list[str] = []  # labels
        # Of each item from when to when, by the clients' clock, it was surely in one expert's hands.
        self.held: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
        self.is_over = asyncio.Event()

    async def work(self) -> None:
        """Claim and judge until it is over and nothing is open."""
        async with AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(channel(each.target)) for each in self._replicas]
            await asyncio.gather(*(self._judge([Caller(to, token) for to in channels]) for token in self._tokens))

    async def _judge(self, replicas: Sequence[Any]) -> None:
        while True:
            claimed = await self._call(replicas, "Claim", pb.ClaimRequest())
            if claimed is None:
                if self.is_over.is_set():
                    return
                await asyncio.sleep(0.2)
                continue
            since = time.monotonic()
            lease = claimed.lease
            if random.random() < 0.2:
                extended = await self._call(replicas, "Extend", pb.ExtendRequest(lease=lease))
                lease = extended.lease if extended is not None else lease
            await asyncio.sleep(random.random() / 4)
            until = time.monotonic()
            if random.random() < 0.1:
                await self._call(replicas, "Release", pb.ReleaseRequest(lease=lease))
            else:
                submit = pb.SubmitRequest(lease=lease, outcome=pb.OUTCOME_CONFIRMED)
                submitted = await self._call(replicas, "Submit", submit)
                if submitted is not None:
                    self.acknowledged.append(submitted.label_id)
            self.held[claimed.item.request_id].append((since, until))

    async def _call(self, replicas: Sequence[Any], method: str, request: Any) -> Any:
        """Return the answer of whichever replica gives one; None where it says that there is nothing to be done."""
        for replica in itertools.cycle(random.sample(replicas, len(replicas))):
            try:
                return await getattr(replica, method)(request, timeout=15)
            except grpc.aio.AioRpcError as error:
                if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION):
                    return None
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                    raise
                await asyncio.sleep(0.1)
        return None


async def _ask(producer: Producer) -> None:
    for _ in range(ASKED):
        request_id = CLOCK.new_id()
        asked = (Message(role="user", content=f"Find me film {request_id}"),)
        answer, doubt = CALL.replace("Alien", request_id), -CLOCK.chance()
        event = interaction(request_id, messages=asked, answer=answer, sum_logprob=doubt, received_at=CLOCK.now())
        await producer.send(Topic.INTERACTIONS, event)
        await asyncio.sleep(0.05)


async def test_no_item_is_lost_or_in_two_hands_and_no_label_is_lost_or_doubled(
    kafka: str, replicas: list[Process]
) -> None:
    experts = Experts(replicas)
    working = asyncio.create_task(experts.work())
    async with Producer(KafkaSettings(bootstrap_servers=kafka)) as producer:
        asking = asyncio.create_task(_ask(producer))
        for process in itertools.islice(itertools.cycle(replicas), KILLS):
            await asyncio.sleep(PAUSE_SECONDS)
            process.kill()
            await process.start()
        await asking

    async def picked() -> dict[str, EdgeCase]:
        cases = [codec(Topic.EDGE_CASES).decode(record.value) for record in await _records(kafka, Topic.EDGE_CASES)]
        return {each.request_id: each for each in cases if not each.same_as}

    async def labels() -> list[Label]:
        return [codec(Topic.LABELS).decode(record.value) for record in await _records(kafka, Topic.LABELS)]

    async def all_labelled() -> bool:
        cases = await picked()
        return len(cases) > ASKED / 3 and {label.request_id for label in await labels()} == set(cases)

    async with asyncio.timeout(240):
        while not await all_labelled():
            assert not working.done() or working.exception() is None
            await asyncio.sleep(1)
    experts.is_over.set()
    await working

    written = await labels()
    # Each item has one label; it may be on record twice where an acknowledgement was lost, which is the same label.
    of_items = defaultdict(set)
    for label in written:
        of_items[label.request_id].add(label.label_id)
    assert all(len(ids) == 1 for ids in of_items.values())
    assert set(experts.acknowledged) <= {label.label_id for label in written}
    assert len(set(experts.acknowledged)) == len(experts.acknowledged)
    for spans in experts.held.values():
        ordered = sorted(spans)
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(ordered))
