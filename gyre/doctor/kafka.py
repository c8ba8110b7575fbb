"""Kafka: whether it answers, its topics, and the dates of its records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from gyre.doctor.checks import Check, Finding, error
from gyre.doctor.clients import admin_of, consumer_of, partitions_of
from gyre.doctor.installation import Installation
from schemas.topics import SPECS, Topic
from services.runtime.errors import Retryable
from services.runtime.kafka.topics import wanted_topics

# A record may be dated by a machine whose clock is this much ahead before it is called wrong.
SKEW_SECONDS = 5.0


async def _probe_broker(at: Installation) -> str:
    try:
        async with admin_of(at.kafka) as admin:
            await admin.list_topics()
    except Retryable as failure:
        return str(failure)
    return ""


def judge_broker(at: Installation, why: str) -> Iterator[Finding]:
    """Say why Kafka does not answer, if there is a reason."""
    if why:
        yield error(
            f"{why}.",
            "Start it: gyre up."
            if at.is_embedded
            else f"Start it, or say where it is: GYRE_KAFKA_BOOTSTRAP_SERVERS is {at.kafka.bootstrap_servers}.",
        )


@dataclass(frozen=True)
class TopicFacts:
    """A topic as Kafka has it."""

    partitions: int
    configs: Mapping[str, str]


async def _probe_topics(at: Installation) -> dict[str, TopicFacts]:
    async with admin_of(at.kafka) as admin:
        wanted = {each.name for each in wanted_topics(at.kafka)}
        present = sorted(wanted & set(await admin.list_topics()))
        if not present:
            return {}
        partitions = {each["topic"]: len(each["partitions"]) for each in await admin.describe_topics(present)}
        answers = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name) for name in present])
        return {
            resource["resource_name"]: TopicFacts(
                partitions[resource["resource_name"]],
                {entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]},
            )
            for answer in answers
            for resource in answer.to_object()["resources"]
        }


def judge_topics(at: Installation, found: Mapping[str, TopicFacts]) -> Iterator[Finding]:
    """Say which topics are missing."""
    wanted = [each.name for each in wanted_topics(at.kafka)]
    missing = [name for name in wanted if name not in found]
    if not missing:
        return
    which = "No topic is there yet" if not found else f"{_listed(missing)} {_is(missing)} missing"
    lost = "" if not found else " What a lost one held comes back from a backup alone."
    yield error(
        f"{which}.", f"Every service makes those that are missing when it starts, and so does: gyre dlq list.{lost}"
    )


def judge_topic_settings(at: Installation, found: Mapping[str, TopicFacts]) -> Iterator[Finding]:
    """Say whose partitions or retention are not what schemas/topics.py wants."""
    wanted = {each.name: each for each in wanted_topics(at.kafka) if each.name in found}
    yield from _partition_findings(at, found)
    for name, new in wanted.items():
        other = {
            key: (found[name].configs.get(key), value)
            for key, value in new.topic_configs.items()
            if found[name].configs.get(key) != value
        }
        if not other:
            continue
        said = " and ".join(f"{key} is {is_now}, wanted {value}" for key, (is_now, value) in other.items())
        change = ",".join(f"{key}=[{value}]" for key, (_, value) in other.items())
        yield error(
            f"{name} is not kept as it should be: {said}.",
            f"Set it: kafka-configs.sh --bootstrap-server {at.kafka.bootstrap_servers} --alter --entity-type topics "
            f"--entity-name {name} --add-config '{change}'.",
        )


def _partition_findings(at: Installation, found: Mapping[str, TopicFacts]) -> Iterator[Finding]:
    shared = {str(topic): found[topic].partitions for topic in Topic if SPECS[topic].partitioned and topic in found}
    counts = set(shared.values())
    if len(counts) == 1 and counts != {at.kafka.partitions}:
        (count,) = counts
        yield error(
            f"Topics keyed by request have {count} partitions, and GYRE_KAFKA_PARTITIONS is {at.kafka.partitions}.",
            f"Set GYRE_KAFKA_PARTITIONS={count} for every service and restart them: {at.restart}.",
        )
    elif len(counts) > 1:
        most = max(*counts, at.kafka.partitions)
        fewer = sorted(name for name, count in shared.items() if count < most)
        yield error(
            f"Topics keyed by request must have the same number of partitions to be joined, and {_listed(fewer)} "
            f"{'has' if len(fewer) == 1 else 'have'} fewer than {most}.",
            f"Stop the services, then for each: kafka-topics.sh --bootstrap-server {at.kafka.bootstrap_servers} "
            f"--alter --topic {fewer[0]} --partitions {most}; start them with GYRE_KAFKA_PARTITIONS={most}.",
        )
    for name in (str(topic) for topic in Topic if not SPECS[topic].partitioned and topic in found):
        if found[name].partitions != 1:
            yield error(
                f"{name} has {found[name].partitions} partitions, wanted 1: its records have lost their order.",
                "Partitions cannot be taken away: stop the services, keep its records, delete it (kafka-topics.sh "
                f"--bootstrap-server {at.kafka.bootstrap_servers} --delete --topic {name}), and write them again.",
            )


@dataclass(frozen=True)
class Dated:
    """A record that Kafka holds, dated later than this machine's time."""

    place: str
    ahead: timedelta


async def _probe_dates(at: Installation) -> list[Dated]:
    async with consumer_of(at.kafka) as consumer:
        partitions = await partitions_of(consumer, list(Topic))
        now = at.clock.now()
        since = int((now + timedelta(seconds=SKEW_SECONDS)).timestamp() * 1000)
        later = await consumer.offsets_for_times(dict.fromkeys(partitions, since))
        return [
            Dated(f"{place.topic}/{place.partition}", _time(found.timestamp, now) - now)
            for place, found in later.items()
            if found is not None
        ]


def _time(timestamp_ms: int, now: datetime) -> datetime:
    return datetime.fromtimestamp(timestamp_ms / 1000, tz=now.tzinfo)


def judge_dates(_at: Installation, found: Sequence[Dated]) -> Iterator[Finding]:
    """Say whether records come from the future."""
    if found:
        furthest = max(found, key=lambda each: each.ahead)
        yield error(
            f"Kafka holds records of the future: one in {furthest.place} is {furthest.ahead.total_seconds():,.0f} s "
            "ahead of this machine's clock.",
            "Set the clocks of this machine and of those that run the services by NTP: timedatectl set-ntp true.",
        )


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


CHECKS = [
    Check("kafka", "Kafka answers", _probe_broker, judge_broker),
    Check("topics", "every topic is there", _probe_topics, judge_topics, after=("kafka",)),
    Check(
        "topic-settings",
        "topics have the partitions and the retention that they should",
        _probe_topics,
        judge_topic_settings,
        after=("kafka",),
    ),
    Check("dates", "no record in Kafka is of the future", _probe_dates, judge_dates, after=("topics",)),
]
