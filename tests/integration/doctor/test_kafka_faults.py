"""Faults put into a real broker, and what the doctor says of each."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from gyre.doctor.checks import Check, diagnose
from gyre.doctor.everything import CHECKS
from gyre.doctor.installation import Installation
from schemas.topics import Topic
from services.runtime.clock import Clock
from services.runtime.kafka import Producer, Record
from services.runtime.kafka.topics import wanted_topics
from tests.integration.doctor.conftest import Status, causes, delete, make, remedy


async def test_a_healthy_broker_is_found_to_be_well(installation: Installation) -> None:
    assert await causes(installation, "topic-settings", "dead-letters") == {}


async def test_kafka_away_is_told_once_and_nothing_of_what_follows_from_it(
    installation: Installation, service: Callable[..., Any]
) -> None:
    away = replace(installation, kafka=installation.kafka.model_copy(update={"bootstrap_servers": "127.0.0.1:9"}))
    away = await service("audit", Status.NOT_SERVING, await service("triage", Status.NOT_SERVING, away))
    found = await causes(away)
    assert set(found) == {"kafka"}
    assert found["kafka"][0].startswith("Kafka at 127.0.0.1:9 does not answer: ")
    assert "GYRE_KAFKA_BOOTSTRAP_SERVERS is 127.0.0.1:9" in await remedy(away, "kafka")


async def test_a_missing_topic_is_named(installation: Installation, admin: AIOKafkaAdminClient) -> None:
    await delete(admin, Topic.DRIFT)
    assert (await causes(installation, "topics"))["topics"] == [f"{Topic.DRIFT} is missing."]
    await make(admin, Topic.DRIFT, installation)
    assert await causes(installation, "topics") == {}


async def test_other_partitions_than_the_setting_are_told_once_for_all_topics(installation: Installation) -> None:
    other = replace(installation, kafka=installation.kafka.model_copy(update={"partitions": 4}))
    found = await causes(other, "topic-settings")
    assert found == {"topic-settings": ["Topics keyed by request have 2 partitions, and GYRE_KAFKA_PARTITIONS is 4."]}
    assert "GYRE_KAFKA_PARTITIONS=2" in await remedy(other, "topic-settings")


async def test_a_topic_that_has_fewer_partitions_than_those_it_is_joined_with_is_named(
    installation: Installation, admin: AIOKafkaAdminClient
) -> None:
    await admin.create_partitions({str(Topic.OUTCOMES): NewPartitions(3)})
    (cause,) = (await causes(installation, "topic-settings"))["topic-settings"]
    assert "must have the same number of partitions" in cause
    assert "fewer than 3" in cause
    await delete(admin, Topic.OUTCOMES)
    await make(admin, Topic.OUTCOMES, installation)
    assert await causes(installation, "topics", "topic-settings") == {}


async def test_another_cleanup_policy_and_another_retention_are_named_with_what_is_wanted(
    installation: Installation, admin: AIOKafkaAdminClient
) -> None:
    wanted = {each.name: each.topic_configs for each in wanted_topics(installation.kafka)}

    async def configure(topic: str, **changed: str) -> None:
        configs = {**wanted[topic], **{name.replace("_", "."): value for name, value in changed.items()}}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)])

    await configure(Topic.DEPLOYMENTS, cleanup_policy="delete")
    await configure(Topic.LABELS, retention_ms="3600000")

    async def told() -> list[str]:
        return (await causes(installation, "topic-settings")).get("topic-settings", [])

    while len(await told()) < 2:  # the broker takes changes over in a moment
        await asyncio.sleep(0.1)
    assert await told() == [
        f"{Topic.LABELS} is not kept as it should be: retention.ms is 3600000, wanted 2592000000.",
        f"{Topic.DEPLOYMENTS} is not kept as it should be: cleanup.policy is delete, wanted compact.",
    ]
    await configure(Topic.DEPLOYMENTS)
    await configure(Topic.LABELS)
    while await told():
        await asyncio.sleep(0.1)


async def test_a_letter_that_waits_is_told_with_its_reason_until_it_is_replayed(installation: Installation) -> None:
    async with Producer(installation.kafka) as producer:
        record = Record(Topic.LABELS, 0, 7, 1_780_000_000_000, b"k", b"no label")
        await producer.send_dead_letter(Topic.LABELS, record.dead("trainer", "a [bad] label", Clock()))
        (cause,) = (await causes(installation, "dead-letters"))["dead-letters"]
        assert cause == f"1 dead letter waits beside {Topic.LABELS}; the newest, from trainer: a [bad] label."
        letter = replace_place(record, Topic.LABELS.dead_letters)
        await producer.send_dead_letter(Topic.LABELS, letter.dead("gyre dlq replay", "sent back", Clock()))
    assert await causes(installation, "dead-letters") == {}


def replace_place(record: Record, topic: str) -> Record:
    return Record(topic, 0, 0, record.timestamp_ms, record.key, record.value)  # type: ignore[arg-type]


async def test_records_of_the_future_are_told_with_how_far_ahead(installation: Installation) -> None:
    async with AIOKafkaProducer(bootstrap_servers=installation.kafka.bootstrap_servers) as producer:
        await producer.send_and_wait(str(Topic.USAGE), b"x", key=b"k")
    behind = Clock(now=lambda: datetime.now(UTC) - timedelta(hours=1))
    (cause,) = (await causes(replace(installation, clock=behind), "dates"))["dates"]
    assert f"one in {Topic.USAGE}/0 is 3,6" in cause or f"one in {Topic.USAGE}/0 is 3,59" in cause
    assert await causes(installation, "dates") == {}


async def test_a_group_without_members_is_told_though_its_service_says_that_it_serves(
    installation: Installation, service: Callable[..., Any]
) -> None:
    serving = await service("audit")
    results = await diagnose(serving, [each for each in CHECKS if each.name == "audit-reads"])
    found = {each.check.name: [found.cause for found in each.findings] for each in results}
    assert found == {
        "audit-reads": [
            f"Nobody reads as the consumer group {group}, though audit says that it serves."
            for group in ("gyre-audit", "gyre-audit-drift")
        ]
    }


async def test_a_group_that_falls_behind_is_told_and_one_that_stands_still(
    installation: Installation, service: Callable[..., Any]
) -> None:
    servers, place = installation.kafka.bootstrap_servers, TopicPartition(str(Topic.ACTIONS), 0)
    consumer = AIOKafkaConsumer(
        str(Topic.ACTIONS), bootstrap_servers=servers, group_id="gyre-triage", enable_auto_commit=False
    )
    async with consumer, AIOKafkaProducer(bootstrap_servers=servers) as producer:
        await consumer.getmany(timeout_ms=100)
        await consumer.commit({place: 0})
        await asyncio.gather(*[await producer.send(place.topic, b"x") for _ in range(1200)])
        serving = await service("triage")
        # The rest of triage waits for a bundle; what is asked here is its reading alone.
        check = [each for each in CHECKS if each.name == "triage-reads"]
        assert (await _causes(serving, check)) == ["gyre-triage stands still, 1,200 records behind."]

        async def go_on() -> None:
            while True:
                await producer.send_and_wait(place.topic, b"x")

        writing = asyncio.create_task(go_on())
        (cause,) = await _causes(serving, check)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        assert re.fullmatch(
            r"gyre-triage does not keep up: it is [\d,]+ records behind, [\d,]+ more than 1 s before\.", cause
        )


async def _causes(installation: Installation, checks: list[Check]) -> list[str]:
    return [found.cause for each in await diagnose(installation, checks) for found in each.findings]


async def test_a_service_that_is_not_ready_and_one_that_is_not_there_are_told_apart(
    installation: Installation, service: Callable[..., Any]
) -> None:
    waiting = await service("trainer", Status.NOT_SERVING)
    waiting = replace(waiting, services={**waiting.services, "governance": "127.0.0.1:9"})
    found = await causes(waiting, "trainer", "governance")
    assert found == {
        "governance": ["governance at 127.0.0.1:9 does not answer."],
        "trainer": [f"trainer at {waiting.services['trainer']} runs, and says NOT_SERVING: it is not ready for calls."],
    }
