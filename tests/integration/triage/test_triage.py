"""Interactions in, edge cases out, labels out, and what a kill in the middle leaves behind."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import grpc
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from gyre.api.triage.v1 import review_pb2 as pb
from schemas.codecs import codec, dead_letter_codec
from schemas.events import Erasure, Label, Message, Outcome, Sensitivity
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.kafka import Producer
from services.triage.consumer import GROUP
from tests.integration.triage.conftest import SHARE, Process
from tests.unit.triage.builders import CALL, TASK, TENANT, feedback, interaction

CLOCK = Clock()


async def _records(kafka: str, topic: str) -> list[Any]:
    """Everything committed on a topic."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, isolation_level="read_committed", auto_offset_reset="earliest")
    await consumer.start()
    try:
        await consumer._client.force_metadata_update()
        consumer.subscribe([topic])
        await consumer.getmany(timeout_ms=500)
        found = consumer.partitions_for_topic(topic)
        assert found
        partitions = [TopicPartition(topic, number) for number in found]
        consumer.unsubscribe()
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        records: list[Any] = []
        while any([await consumer.position(each) < ends[each] for each in partitions]):
            for messages in (await consumer.getmany(timeout_ms=200)).values():
                records += messages
        return records
    finally:
        await consumer.stop()


async def _until(condition: Callable[[], Awaitable[Any]], seconds: float = 90) -> Any:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if found := await condition():
                    return found
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            await asyncio.sleep(0.2)


async def _queue(review: Any) -> pb.QueueStats | None:
    stats = await review.Stats(pb.StatsRequest(), timeout=10)
    return next((queue for queue in stats.queues if queue.task == TASK), None)


async def _seen(review: Any, count: int) -> pb.QueueStats | None:
    queue = await _queue(review)
    return queue if queue is not None and queue.seen >= count and queue.open + queue.leased >= 1 else None


async def _all(rows: Awaitable[list[bytes]], count: int, condition: Callable[[bytes], bool]) -> bool:
    found = await rows
    return len(found) == count and all(map(condition, found))


async def _all_handled(kafka: str, topics: Collection[Topic]) -> bool:
    """Whether triage has committed all that is on topics."""
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka, group_id=None)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await consumer.start()
    await admin.start()
    try:
        committed = await admin.list_consumer_group_offsets(GROUP)
        ends = await consumer.end_offsets([each for each in committed if each.topic in topics])
        return all(committed[each].offset >= end for each, end in ends.items())
    finally:
        await admin.close()
        await consumer.stop()


async def _play(producer: Producer, count: int) -> list[str]:
    ids = [CLOCK.new_id() for _ in range(count)]
    for request_id in ids:
        # Each another request, or experts would be asked about them once.
        asked = (Message(role="user", content=f"Find me film {request_id}"),)
        answer, doubt = CALL.replace("Alien", f"Alien {request_id}"), -CLOCK.chance()
        doubtful = interaction(request_id, messages=asked, answer=answer, sum_logprob=doubt, received_at=CLOCK.now())
        await producer.send(Topic.INTERACTIONS, doubtful)
    return ids


@pytest.fixture(scope="module")
async def played(triage: Process, review: Any, producer: Producer) -> list[str]:
    before = await _until(lambda: review.Stats(pb.StatsRequest(), timeout=10))
    ids = await _play(producer, 100)
    await _until(lambda: _seen(review, sum(queue.seen for queue in before.queues) + 100))

    async def flagged_are_in_the_queue() -> bool:
        queue = await _queue(review)
        return queue is not None and queue.flagged >= (SHARE - 0.1) * queue.seen

    await _until(flagged_are_in_the_queue)
    return ids


async def test_the_share_that_experts_see_is_the_budget(played: list[str], review: Any) -> None:
    queue = await _queue(review)
    assert queue is not None
    assert queue.flagged / queue.seen == pytest.approx(SHARE, abs=0.1)


async def test_a_claimed_item_becomes_a_label_with_its_delta(
    played: list[str], review: Any, callers: Any, kafka: str
) -> None:
    claimed = await _until(lambda: review.Claim(pb.ClaimRequest(), timeout=10))
    other = await callers["bob"].Claim(pb.ClaimRequest(), timeout=10)
    assert claimed.item.request_id != other.item.request_id
    answer = claimed.item.answer.replace("Alien", "Aliens")
    submit = pb.SubmitRequest(lease=claimed.lease, outcome=pb.OUTCOME_CORRECTED, answer=answer, seconds_spent=3)
    submitted = await review.Submit(submit, timeout=10)
    labels = [codec(Topic.LABELS).decode(record.value) for record in await _records(kafka, Topic.LABELS)]
    label: Label = next(label for label in labels if label.label_id == submitted.label_id)
    assert (label.request_id, label.outcome, label.answer) == (claimed.item.request_id, "corrected", answer)
    assert label.expert == "ann"
    assert [edit.text for edit in label.delta] == ["s"]

    async def told() -> Outcome | None:
        outcomes = [codec(Topic.OUTCOMES).decode(record.value) for record in await _records(kafka, Topic.OUTCOMES)]
        return next((each for each in outcomes if each.request_id == label.request_id), None)

    outcome = await _until(told)
    assert (outcome.success, outcome.source, outcome.model) == (0.0, "label", "small")
    assert (await review.Submit(submit, timeout=10)).label_id == submitted.label_id
    other_word = pb.SubmitRequest(lease=claimed.lease, outcome=pb.OUTCOME_CONFIRMED)
    with pytest.raises(grpc.aio.AioRpcError, match="done already") as error:
        await review.Submit(other_word, timeout=10)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await callers["bob"].Skip(pb.SkipRequest(lease=other.lease, reason="not mine"), timeout=10)


async def test_a_lease_is_begun_anew_and_what_is_handed_back_goes_to_the_next(
    played: list[str], callers: Mapping[str, Any]
) -> None:
    review, bob = callers["ann"], callers["bob"]
    claimed = await _until(lambda: review.Claim(pb.ClaimRequest(), timeout=10))
    extended = await review.Extend(pb.ExtendRequest(lease=claimed.lease), timeout=10)
    assert extended.lease_expires_at.ToDatetime() > claimed.lease_expires_at.ToDatetime()
    await review.Release(pb.ReleaseRequest(lease=extended.lease), timeout=10)
    other = await bob.Claim(pb.ClaimRequest(), timeout=10)
    assert other.item.request_id == claimed.item.request_id
    with pytest.raises(grpc.aio.AioRpcError, match="lease: is over") as error:
        await review.Submit(pb.SubmitRequest(lease=extended.lease, outcome=pb.OUTCOME_CONFIRMED), timeout=10)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    rated = pb.SubmitRequest(lease=other.lease, outcome=pb.OUTCOME_CONFIRMED, rating=6)
    with pytest.raises(grpc.aio.AioRpcError, match="rating") as error:
        await bob.Submit(rated, timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await bob.Skip(pb.SkipRequest(lease=other.lease, reason="not mine"), timeout=10)


async def test_an_item_whose_request_was_erased_is_gone_also_for_who_holds_it(
    played: list[str], review: Any, producer: Producer
) -> None:
    claimed = await _until(lambda: review.Claim(pb.ClaimRequest(), timeout=10))
    before = await _queue(review)
    assert before is not None
    erasure = Erasure(request_id=claimed.item.request_id, erasure_id="e", tenant=TENANT, asked_at=CLOCK.now())
    await producer.send(Topic.ERASURES, erasure)

    async def gone() -> bool:
        now = await _queue(review)
        return now is not None and now.open + now.leased == before.open + before.leased - 1

    await _until(gone)
    with pytest.raises(grpc.aio.AioRpcError, match="its item is gone"):
        await review.Submit(pb.SubmitRequest(lease=claimed.lease, outcome=pb.OUTCOME_CONFIRMED), timeout=10)


async def test_of_a_request_that_was_erased_before_it_was_read_nothing_is_kept(
    triage: Process, producer: Producer, kafka: str
) -> None:
    changes = f"{GROUP}-remembered-changelog"
    # Some with their feedback before them; without an erasure about half of them would go to the experts.
    ids = [CLOCK.new_id() for _ in range(12)]
    early, marker = ids[:6], CLOCK.new_id()
    for request_id in early:
        await producer.send(Topic.FEEDBACK, feedback(request_id, feedback_id=CLOCK.new_id(), text=marker))

    async def last_of(request_ids: list[str]) -> list[bytes]:
        last = {record.key.decode(): record.value for record in await _records(kafka, changes)}
        return [last[each] for each in request_ids if each in last]

    await _until(lambda: _all(last_of(early), len(early), lambda row: marker.encode() in row))
    for request_id in ids:
        erasure = Erasure(request_id=request_id, erasure_id="e", tenant=TENANT, asked_at=CLOCK.now())
        await producer.send(Topic.ERASURES, erasure)
    await _until(lambda: _all(last_of(ids), len(ids), lambda row: marker.encode() not in row))

    for request_id in ids:
        asked = (Message(role="user", content=marker),)
        await producer.send(Topic.INTERACTIONS, interaction(request_id, mean_logprob=-9.0, messages=asked))
        said = feedback(request_id, feedback_id=CLOCK.new_id(), kind="rating", rating=-1.0, text=marker)
        await producer.send(Topic.FEEDBACK, said)
    await _until(lambda: _all_handled(kafka, (Topic.INTERACTIONS, Topic.FEEDBACK)))
    assert len(await last_of(ids)) == len(ids)
    assert not [row for row in await last_of(ids) if marker.encode() in row]
    asked_about = {record.key.decode() for record in await _records(kafka, Topic.EDGE_CASES)}
    assert not asked_about & set(ids)


async def test_a_lease_that_nobody_gave_out_is_refused_by_name(triage: Process, review: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="lease: not a lease that Claim gave out") as error:
        await review.Submit(pb.SubmitRequest(lease="made-up", outcome=pb.OUTCOME_CONFIRMED), timeout=10)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_corrupt_record_goes_to_the_dead_letters_and_the_next_is_handled(
    played: list[str], review: Any, producer: Producer, kafka: str
) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka) as raw:
        await raw.send_and_wait(Topic.INTERACTIONS, b"\x00\x00\x00\x00\x01nonsense", key=b"broken")
    before = await _queue(review)
    assert before is not None
    await _play(producer, 8)
    await _until(lambda: _seen(review, before.seen + 8))

    async def letter() -> Any:
        letters = [
            dead_letter_codec().decode(record.value)
            for record in await _records(kafka, Topic.INTERACTIONS.dead_letters)
        ]
        return next((each for each in letters if each.key == b"broken" and each.hop == "triage"), None)

    found = await _until(letter)
    assert found.value == b"\x00\x00\x00\x00\x01nonsense"
    assert found.reason


async def test_bad_feedback_brings_up_an_answer_that_was_not_picked(
    played: list[str], review: Any, producer: Producer, kafka: str
) -> None:
    asked = {record.key.decode() for record in await _records(kafka, Topic.EDGE_CASES)}
    passed = [request_id for request_id in played if request_id not in asked]
    for request_id in passed:
        said = feedback(request_id, feedback_id=CLOCK.new_id(), kind="rating", rating=-1.0)
        await producer.send(Topic.FEEDBACK, said)

    async def brought_up() -> bool:
        now = {record.key.decode() for record in await _records(kafka, Topic.EDGE_CASES)}
        return bool(now & set(passed))

    await _until(brought_up)


async def test_after_a_kill_nothing_is_lost_and_nothing_is_asked_twice(
    played: list[str], triage: Process, review: Any, producer: Producer, kafka: str
) -> None:
    before = await _queue(review)
    assert before is not None
    claimed = await review.Claim(pb.ClaimRequest(), timeout=10)
    await _play(producer, 60)
    triage.kill()  # in the middle of them
    await _play(producer, 60)
    await triage.start()
    await _until(lambda: _seen(review, before.seen + 120))

    # The lease is a signed token: it outlives the process that gave it out.
    await review.Submit(pb.SubmitRequest(lease=claimed.lease, outcome=pb.OUTCOME_CONFIRMED), timeout=10)

    async def all_in_the_queue() -> bool:
        queue = await _queue(review)
        cases = [codec(Topic.EDGE_CASES).decode(record.value) for record in await _records(kafka, Topic.EDGE_CASES)]
        labelled = {record.key.decode() for record in await _records(kafka, Topic.LABELS)}
        # Those that Ann may see, and those that others have labelled.
        seen = {each.request_id for each in cases if each.tenant == TENANT and each.sensitivity is Sensitivity.INTERNAL}
        asked = seen | {each.request_id for each in cases if each.tenant == TENANT and each.request_id in labelled}
        asked -= {record.key.decode() for record in await _records(kafka, Topic.ERASURES)}
        assert queue is not None
        return queue.open + queue.leased + queue.labelled + queue.skipped == len(asked)

    await _until(all_in_the_queue)
    items: Counter[str] = Counter()
    with pytest.raises(grpc.aio.AioRpcError, match="nothing is open"):
        while True:
            items[(await review.Claim(pb.ClaimRequest(), timeout=10)).item.request_id] += 1
    assert max(items.values()) == 1
    done = {record.key.decode() for record in await _records(kafka, Topic.LABELS)}
    assert not done & set(items)
    queue = await _queue(review)
    assert queue is not None
    assert queue.seen == before.seen + 120
