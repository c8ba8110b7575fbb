"""What comes of a batch: the same as of its records one by one, in real tables, without Kafka."""

import asyncio
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from schemas.codecs import codec
from schemas.events import BundlePublished, EdgeCase, Erasure, Event, Interaction, Message
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.errors import Fatal
from services.runtime.kafka import Producer, Record
from services.runtime.settings import KafkaSettings
from services.triage.adapters import ItemsOnDisk
from services.triage.backlog import Backlog
from services.triage.batches import WAITING
from services.triage.consumer import Triage, _Came
from services.triage.domain.rows import Remembered
from services.triage.domain.selection import Selector
from services.triage.settings import Settings
from services.triage.state import FollowedBundles, FollowedDrift
from tests.unit.triage.builders import CALL, NOW, TASK, TENANT, bundle, experience, feedback, interaction

KAFKA = KafkaSettings(bootstrap_servers="nowhere:1", partitions=1)
Start = Callable[..., "Alone"]


class Alone:
    """A triage whose tables are on disk, and whose writes go nowhere."""

    def __init__(self, folder: Path, remembered: int = 1000) -> None:
        chance = random.Random(7)
        clock = Clock(now=lambda: NOW, chance=chance.random)
        known, bundles = bundle(share=0.3), FollowedBundles()
        bundles.apply(BundlePublished(version="b1", published_at=NOW, content=known.model_dump_json()))
        self.items = ItemsOnDisk(folder / "items")
        self._triage = Triage(
            Settings(data_dir=folder, remembered=remembered),
            KAFKA,
            bundles,
            FollowedDrift(24, 0.5),
            Backlog(self.items, clock),
            experience(),
            Producer(KAFKA),
            clock,
        )
        self._offsets = count()
        self.edge_cases: list[EdgeCase] = []
        self.rows: list[tuple[str, bytes, bytes | None]] = []  # of changelogs

    def close(self) -> None:
        self.items.close()

    async def handle(self, *values: Event | bytes, topic: Topic = Topic.INTERACTIONS) -> _Came:
        """Handle what a topic holds, as one batch."""
        records = [_record(topic, next(self._offsets), value) for value in values]
        handlers: dict[Topic, Any] = {
            Topic.INTERACTIONS: self._triage._interaction,
            Topic.FEEDBACK: self._triage._feedback,
            Topic.ERASURES: self._triage._erasure,
        }
        came = await self._triage._handle(records, handlers[topic])
        for table in (self._triage._selectors, self._triage._remembered):
            name, rows = table.changes()
            self.rows += [(name, *row) for row in rows]
            table.apply(rows, 0)
        self.edge_cases += [codec(Topic.EDGE_CASES).decode(value) for _, value in came.edge_cases]
        return came

    def row(self, request_id: str) -> Remembered | None:
        return self._triage._remembered.get(request_id, 0)

    @property
    def selector(self) -> Selector:
        found = self._triage._selectors.get(f"0/{TENANT}/{TASK}", 0)
        assert found is not None
        return found


def _record(topic: Topic, offset: int, value: Event | bytes) -> Record:
    held, key = (value, "broken") if isinstance(value, bytes) else (codec(topic).encode(value), value.request_id)
    return Record(topic, 0, offset, 0, str(key).encode(), held)


@pytest.fixture
async def start(tmp_path: Path) -> Any:
    started: list[Alone] = []
    yield lambda **settings: started.append(Alone(tmp_path / str(len(started)), **settings)) or started[-1]
    for each in started:
        each.close()


def _traffic(number: int, seed: int) -> list[Interaction]:
    """Requests about a few things, some made again, some read again, some not finished."""
    chance, made = random.Random(seed), []
    for place in range(number):
        if made and chance.random() < 0.2:
            again = chance.choice(made)
            made.append(again if chance.random() < 0.5 else structs.replace(again, request_id=f"r{place}"))
            continue
        words = " ".join(chance.choices(("find", "book", "play", "a", "film", "table", "song", "in", "oslo"), k=5))
        title = chance.randrange(40)
        made.append(
            interaction(
                f"r{place}",
                messages=(Message(role="user", content=f"{words} {title}"),),
                answer=CALL.replace("Alien", str(title)),
                phase="opened" if chance.random() < 0.05 else "finished",
                sum_logprob=-chance.random(),
                min_logprob=-chance.random(),
            )
        )
    return made


@pytest.mark.parametrize("seed", range(4))
async def test_a_batch_comes_to_the_same_as_its_records_one_by_one(start: Start, seed: int) -> None:
    batched, single, events = start(), start(), _traffic(300, seed)
    for first in range(0, len(events), 60):
        await batched.handle(*events[first : first + 60])
    for event in events:
        await single.handle(event)
    assert 50 < len(single.edge_cases) < 150
    assert any(each.same_as for each in single.edge_cases)
    assert [each.request_id for each in batched.edge_cases] == [each.request_id for each in single.edge_cases]
    for one, other in zip(batched.edge_cases, single.edge_cases, strict=True):
        assert (one.same_as, one.explored) == (other.same_as, other.explored)
        assert [each.explanation for each in one.signals] == [each.explanation for each in other.signals]
        # A product of matrices rounds elsewhere than one vector after the other.
        numbers = [
            [each.score, each.threshold, each.propensity, *(signal.value for signal in each.signals)]
            for each in (one, other)
        ]
        assert numbers[0] == pytest.approx(numbers[1], abs=1e-5)
    assert {each.request_id: batched.row(each.request_id) for each in events} == {
        each.request_id: single.row(each.request_id) for each in events
    }
    one, other = (structs.replace(each.selector, scores=b"") for each in (batched, single))
    assert one == structs.replace(other, owed=pytest.approx(one.owed))


async def test_a_batch_changes_the_row_of_its_task_once(start: Start) -> None:
    triage = start()
    await triage.handle(*_traffic(50, 1))
    assert len([name for name, *_ in triage.rows if "selectors" in name]) == 1


async def test_a_request_that_is_made_twice_within_a_batch_is_asked_about_once(start: Start) -> None:
    triage = start()
    triage._triage._bundles._bundle = bundle(share=1.0)
    await triage.handle(interaction("r1"), interaction("r2"))
    assert [(each.request_id, each.same_as) for each in triage.edge_cases] == [("r1", ""), ("r2", "r1")]


async def test_a_record_that_is_read_twice_within_a_batch_counts_once(start: Start) -> None:
    triage = start()
    await triage.handle(interaction("r1"), interaction("r1"))
    assert triage.selector.seen == 1


async def test_bad_records_are_dead_letters_and_leave_the_rest_of_their_batch_alone(start: Start) -> None:
    triage = start()
    came = await triage.handle(interaction("r1"), b"nonsense", interaction("r2", tenant="nobody"), interaction("r3"))
    assert [(topic, letter.offset) for topic, letter in came.letters] == [
        (Topic.INTERACTIONS, 1),
        (Topic.INTERACTIONS, 2),
    ]
    assert came.letters[0][1].value == b"nonsense"
    assert triage.row("r1") is not None
    assert triage.row("r2") is None
    assert triage.row("r3") is not None


async def test_within_a_batch_feedback_is_known_as_it_comes(start: Start) -> None:
    triage = start()
    said = [feedback("r1", feedback_id=each) for each in ("f1", "f2", "f1")]
    await triage.handle(*said, topic=Topic.FEEDBACK)
    row = triage.row("r1")
    assert row is not None
    assert [each.feedback_id for each in row.feedback] == ["f1", "f2"]


async def test_what_is_erased_is_gone_also_when_its_interaction_comes_in_the_next_batch(start: Start) -> None:
    triage = start()
    erasures = [Erasure(request_id=each, erasure_id="e", tenant=TENANT, asked_at=NOW) for each in ("r1", "r2")]
    await triage.handle(interaction("r1"))
    await triage.handle(*erasures, topic=Topic.ERASURES)
    await triage.handle(interaction("r1"), interaction("r2"))
    assert triage.row("r1") == triage.row("r2") == Remembered(partition=0, erased=True)


async def test_the_oldest_are_forgotten_also_those_of_the_same_batch(start: Start) -> None:
    triage = start(remembered=10)
    await triage.handle(*(interaction(f"r{number}") for number in range(15)))
    await triage.handle(*(interaction(f"r{number}") for number in range(15, 22)))
    assert [number for number in range(22) if triage.row(f"r{number}") is not None] == list(range(12, 22))


async def test_a_record_that_was_left_out_ends_the_process(start: Start) -> None:
    triage = start()._triage
    first, second = ([_record(Topic.INTERACTIONS, each, b"") for each in offsets] for offsets in ((3, 4), (5, 6)))
    triage._check_follow(first)
    triage._check_follow(second)
    triage._check_follow(second)  # read again
    with pytest.raises(Fatal, match="6 is followed by"):
        triage._check_follow([_record(Topic.INTERACTIONS, 8, b"")])
    with pytest.raises(Fatal, match="is followed by"):
        triage._check_follow([_record(Topic.FEEDBACK, each, b"") for each in (1, 3)])


async def test_few_batches_wait_in_memory_however_many_there_are(start: Start) -> None:
    (agent,) = start()._triage._app.agents.values()
    assert agent.channel.clone(is_iterator=True).queue.maxsize == WAITING


async def test_others_have_their_turn_while_a_batch_is_handled(start: Start) -> None:
    triage, turns = start(), 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    waiting = asyncio.create_task(other())
    await triage.handle(*_traffic(200, 1))
    waiting.cancel()
    assert turns > 10
