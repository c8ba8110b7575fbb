"""What each identity may do with each topic, and what it may not, tried on a broker that has an authorizer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from click.testing import CliRunner

from gyre.cli import acls, main
from schemas.access import ACCESS, OPERATOR, Rule, rules
from schemas.topics import Topic
from services.runtime.errors import Retryable
from services.runtime.kafka import connection, ensure_topics
from services.runtime.settings import KafkaSettings
from tests.integration.identities.broker import ADMIN, Broker

NAMES = [name for topic in Topic for name in (str(topic), topic.dead_letters)]
# Of no table: one that is, made here with one partition, would mislead the triage that a later test starts.
CHANGELOG = "gyre-triage-tried-changelog"
DENIED = TopicAuthorizationFailedError.errno
NO_LEADER_YET = NotLeaderForPartitionError.errno  # of a topic that has just been made


@asynccontextmanager
async def signed_in(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def record() -> bytes:
    batch = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=1024,
    )
    batch.append(0, timestamp=None, key=b"key", value=b"value", headers=[])
    return bytes(batch.build())


async def readable(settings: KafkaSettings) -> set[str]:
    """The topics of which Kafka gives records to an identity."""
    topics = [(name, [(0, 0, 1 << 16)]) for name in [*NAMES, CHANGELOG]]
    return await allowed(settings, FetchRequest(100, 0, 1 << 20, 0, topics))


async def writable(settings: KafkaSettings) -> set[str]:
    """The topics to which Kafka takes a record of an identity."""
    topics = [(name, [(0, record())]) for name in [*NAMES, CHANGELOG]]
    return await allowed(settings, ProduceRequest(None, -1, 10_000, topics))


async def allowed(settings: KafkaSettings, request: FetchRequest | ProduceRequest) -> set[str]:
    """The topics of a request for all of them that are not denied."""
    async with signed_in(settings) as admin, asyncio.timeout(30):
        while True:
            answer = await admin._send_to_controller(request)
            errors = {name: partitions[0][1] for name, partitions, *_ in answer.topics}
            assert errors.keys() == {*NAMES, CHANGELOG}
            if NO_LEADER_YET not in errors.values():
                break
    assert set(errors.values()) <= {0, DENIED}
    return {name for name, error in errors.items() if error == 0}


@pytest.fixture(scope="module", autouse=True)
async def changelog(broker: Broker) -> None:
    """A topic as Faust keeps one of its tables in, made by whom it is for."""
    async with signed_in(broker.settings("triage")) as admin:
        answer = await admin.create_topics([NewTopic(CHANGELOG, 1, 1)])
        assert answer.topic_errors[0][1] == 0


@pytest.mark.parametrize("identity", ACCESS)
async def test_an_identity_reads_the_topics_of_its_work_and_no_other(broker: Broker, identity: str) -> None:
    access = ACCESS[identity]
    wanted = {*map(str, access.reads), *(topic.dead_letters for topic in access.reads_letters)}
    assert await readable(broker.settings(identity)) == wanted | ({CHANGELOG} if identity == "triage" else set())


@pytest.mark.parametrize("identity", ACCESS)
async def test_an_identity_writes_the_topics_of_its_work_and_no_other(broker: Broker, identity: str) -> None:
    access = ACCESS[identity]
    wanted = {*map(str, access.writes), *(topic.dead_letters for topic in access.writes_letters)}
    assert await writable(broker.settings(identity)) == wanted | ({CHANGELOG} if identity == "triage" else set())


@pytest.mark.parametrize("identity", ACCESS)
async def test_nobody_deletes_a_topic_or_makes_one_that_is_none_of_ours(broker: Broker, identity: str) -> None:
    async with signed_in(broker.settings(identity)) as admin:
        made = await admin.create_topics([NewTopic("another", 1, 1)])
        assert [code for _, code, *_ in made.topic_errors] == [DENIED]
        deleted = await admin.delete_topics([*NAMES, CHANGELOG])
        assert {error[-1] for error in deleted.topic_error_codes} == {DENIED}


@pytest.mark.parametrize("identity", ACCESS)
async def test_an_identity_joins_its_own_groups_alone(broker: Broker, identity: str) -> None:
    for group in sorted({group for access in ACCESS.values() for group in access.groups}):
        consumer = AIOKafkaConsumer(group_id=group, **connection(broker.settings(identity)))
        await consumer.start()
        try:
            consumer.subscribe([*ACCESS[identity].reads])
            if group in ACCESS[identity].groups:
                await consumer.getmany(timeout_ms=200)
            else:
                with pytest.raises(GroupAuthorizationFailedError):
                    await consumer.getmany(timeout_ms=10_000)
        finally:
            await consumer.stop()


@pytest.mark.parametrize("identity", ACCESS)
async def test_an_identity_has_transactions_under_its_own_ids_alone(broker: Broker, identity: str) -> None:
    for owner, access in ACCESS.items():
        if not access.transactions:
            continue
        producer = AIOKafkaProducer(transactional_id=f"{access.transactions}0", **connection(broker.settings(identity)))
        try:
            if owner == identity:
                await producer.start()
            else:
                with pytest.raises(TransactionalIdAuthorizationFailed):
                    await producer.start()
        finally:
            await producer.stop()


async def test_whoever_shows_a_wrong_password_is_nobody_and_the_error_does_not_show_it(broker: Broker) -> None:
    settings = broker.settings("router").model_copy(update={"password": broker.settings("audit").password})
    with pytest.raises(Retryable) as refused:
        await ensure_topics(settings)
    assert "pass-of" not in str(refused.value)


def test_who_may_not_say_what_is_allowed_is_refused_in_a_sentence(broker: Broker) -> None:
    result = CliRunner().invoke(main, ["kafka", "acls", "--apply"], env=broker.environment(OPERATOR))
    assert result.exit_code == 1
    assert result.output.startswith("Error: Kafka refuses: ClusterAuthorizationFailedError")


def test_applying_takes_back_what_was_allowed_beside_and_then_changes_nothing(broker: Broker) -> None:
    def apply() -> str:
        return CliRunner().invoke(main, ["kafka", "acls", "--apply"], env=broker.environment(ADMIN)).output

    beside = Rule("router", "topic", str(Topic.LABELS), False, "Write")
    changes = asyncio.run(acls.apply(broker.settings(ADMIN), [*rules("router"), beside]))
    assert [acls.readable(each) for each in changes.added] == ["User:router Write topic triage.labels.v1"]
    assert apply() == "may no more: User:router Write topic triage.labels.v1\n"
    assert apply() == "Kafka allows just that already.\n"
