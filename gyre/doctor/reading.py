"""Who reads Kafka's topics, how far behind, and what nobody could handle."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.protocol.admin import DescribeGroupsRequest_v2
from aiokafka.protocol.api import Request

from gyre.doctor.checks import Check, Finding, error, warning
from gyre.doctor.clients import admin_of, consumer_of, partitions_of, read_all
from gyre.doctor.installation import Installation
from schemas.codecs import UndecodableError, dead_letter_codec
from schemas.events import REPLAY_HOP
from schemas.topics import Topic

# A group that is further behind than this and gains nothing, or loses ground, does not keep up.
BEHIND_RECORDS = 1000
# By the service whose group it is. Audit's first one commits nothing: how far it is, ClickHouse knows.
GROUPS = {
    "audit": ("gyre-audit", "gyre-audit-drift"),
    "triage": ("gyre-triage",),
    "serving": ("gyre-serving",),
}


@dataclass(frozen=True)
class GroupFacts:
    """A consumer group, looked at twice.

    Attributes:
        members: How many there are.
        behind: Records that it has still to read, first and then.
        read: Records that it has read in between.
    """

    members: int
    behind: tuple[int, int]
    read: int


class _DescribeGroups(Request[DescribeGroupsRequest_v2]):  # type: ignore[misc] # published without types
    """The client's own request reads answers to version 3 as if they were of version 2, and fails."""

    API_KEY = 15

    def __init__(self, groups: list[str]) -> None:
        self._groups = groups

    def build(self, request_struct_class: type[DescribeGroupsRequest_v2]) -> DescribeGroupsRequest_v2:
        return request_struct_class(self._groups)


def _probe_groups(service: str) -> Callable[[Installation], Any]:
    async def probe(at: Installation) -> dict[str, GroupFacts] | None:
        if service not in at.services:
            return None
        async with admin_of(at.kafka) as admin, consumer_of(at.kafka) as consumer:
            before = {group: await _behind(admin, consumer, group) for group in GROUPS[service]}
            if any(before.values()):
                await asyncio.sleep(at.sample_seconds)
            facts = {}
            for group, first in before.items():
                then = await _behind(admin, consumer, group) if first else {}
                facts[group] = GroupFacts(
                    members=await _members(admin, group),
                    behind=(_lag(first), _lag(then)),
                    read=sum(then[place][0] - first[place][0] for place in first.keys() & then.keys()),
                )
            return facts

    return probe


# Where a group is, and where its partition ends, by partition.
_Positions = dict[TopicPartition, tuple[int, int]]


async def _behind(admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str) -> _Positions:
    try:
        committed = await admin.list_consumer_group_offsets(group)
    except GroupCoordinatorNotAvailableError:  # no group was ever there, so Kafka has not made its topic yet
        return {}
    known = set(await partitions_of(consumer, sorted({place.topic for place in committed} & set(Topic))))
    places = {place: meta.offset for place, meta in committed.items() if place in known and meta.offset >= 0}
    ends = await consumer.end_offsets(list(places)) if places else {}
    return {place: (offset, ends[place]) for place, offset in places.items()}


def _lag(positions: _Positions) -> int:
    return sum(max(end - offset, 0) for offset, end in positions.values())


async def _members(admin: AIOKafkaAdminClient, group: str) -> int:
    try:
        coordinator = await admin.find_coordinator(group)
    except GroupCoordinatorNotAvailableError:
        return 0
    answer = await admin._send_request(_DescribeGroups([group]), coordinator)
    return sum(len(each["members"]) for each in answer.to_object()["groups"])


def judge_groups(service: str) -> Callable[[Installation, Mapping[str, GroupFacts]], Iterator[Finding]]:
    """Return what says whether a service, which says that it serves, reads what it should."""

    def judge(at: Installation, found: Mapping[str, GroupFacts]) -> Iterator[Finding]:
        for group, facts in found.items():
            first, then = facts.behind
            if not facts.members:
                yield error(
                    f"Nobody reads as the consumer group {group}, though {service} says that it serves.",
                    f"See why it does not join ({_logs(at, service)}), and restart it: {at.restart}.",
                )
            elif then >= BEHIND_RECORDS and then > first:
                yield warning(
                    f"{group} does not keep up: it is {then:,} records behind, {then - first:,} more than "
                    f"{at.sample_seconds:.0f} s before.",
                    f"Give {service} more replicas, up to one for each of {at.kafka.partitions} partitions, or a "
                    f"faster machine; {_logs(at, service)} shows what it waits for.",
                )
            elif then >= BEHIND_RECORDS and facts.read == 0:
                yield warning(
                    f"{group} stands still, {then:,} records behind.",
                    f"See what {service} waits for: {_logs(at, service)}.",
                )

    return judge


def _logs(at: Installation, service: str) -> str:
    return f"gyre logs {service}" if at.is_embedded else f"docker compose logs {service}, or kubectl logs"


@dataclass(frozen=True)
class Letters:
    """The dead letters of a topic that wait, and why the newest came."""

    count: int
    newest: str


async def _probe_letters(at: Installation) -> dict[str, Letters]:
    topic_of = {topic.dead_letters: str(topic) for topic in Topic}
    waiting: dict[str, dict[int, str]] = {topic: {} for topic in topic_of.values()}

    def take(message: Any) -> None:
        letters = waiting[topic_of[message.topic]]
        with contextlib.suppress(UndecodableError):
            letter = dead_letter_codec().decode(message.value or b"")
            if letter.hop == REPLAY_HOP:
                letters.pop(letter.offset, None)
            else:
                letters[message.offset] = f"{letter.hop}: {letter.reason}"

    await read_all(at.kafka, list(topic_of), take)
    return {topic: Letters(len(each), each[max(each)]) for topic, each in waiting.items() if each}


def judge_letters(_at: Installation, found: Mapping[str, Letters]) -> Iterator[Finding]:
    """Say what services gave up on."""
    for topic, letters in found.items():
        yield warning(
            f"{letters.count} dead letter{'s wait' if letters.count > 1 else ' waits'} beside {topic}; the newest, "
            f"from {letters.newest[:200]}.",
            f"Look at them, mend what made them, then send them back: gyre dlq list --topic {topic}, gyre dlq replay "
            f"{topic} --all.",
        )


CHECKS = [
    Check(
        "dead-letters", "no record waits that a service gave up on", _probe_letters, judge_letters, after=("topics",)
    ),
]
# Behind the services.
GROUP_CHECKS = [
    Check(
        f"{service}-reads",
        f"{service} reads its topics and keeps up",
        _probe_groups(service),
        judge_groups(service),
        after=("topics", service),
    )
    for service in GROUPS
]
