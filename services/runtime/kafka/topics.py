"""The topics, and their dead-letter topics, with what Kafka is to keep of each."""

from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, NoError, TopicAlreadyExistsError, for_code

from schemas.access import ACCESS
from schemas.topics import SPECS, Topic
from services.runtime.errors import Retryable
from services.runtime.kafka.clients import connection
from services.runtime.kafka.records import MAX_RECORD_BYTES
from services.runtime.settings import KafkaSettings


async def ensure_topics(settings: KafkaSettings) -> None:
    """Create the topics that are missing, and their dead-letter topics. Every service may do it; one will be first.

    Where services have identities, one that creates no topics (`schemas.access`) waits for those that it needs.

    Raises:
        Retryable: Kafka is away, or topics are missing that another creates.
    """
    access = ACCESS.get(settings.user) if settings.has_identity else None
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        present = set(await admin.list_topics())
        missing = [
            topic
            for topic in wanted_topics(settings)
            if topic.name not in present and (access is None or topic.name in access.topics)
        ]
        if missing and access is not None and not access.creates:
            raise Retryable(
                f"{settings.user} needs topics that are missing, or that it may not see: "
                f"{', '.join(topic.name for topic in missing)}; audit makes them, as does `gyre kafka topics`"
            )
        await create_topics(admin, missing)
    except (KafkaError, OSError) as error:
        raise Retryable(f"Kafka at {settings.bootstrap_servers} does not answer: {error!r}") from error
    finally:
        await admin.close()


def wanted_topics(settings: KafkaSettings) -> list[NewTopic]:
    """Return every topic and its dead-letter topic, as they are created."""
    return [new for topic in Topic for new in new_topics(topic, settings)]


async def create_topics(admin: AIOKafkaAdminClient, missing: Sequence[NewTopic]) -> None:
    """Create topics; nothing happens where another was first.

    Raises:
        Retryable: One cannot be created.
        KafkaError: Kafka is away.
    """
    if not missing:
        return
    created = await admin.create_topics(list(missing))
    for topic, code, *_ in created.topic_errors:
        # Another service may have been first; anything else would leave a topic missing for good.
        if code not in (NoError.errno, TopicAlreadyExistsError.errno):
            raise Retryable(f"topic {topic} cannot be created: {for_code(code).__name__}")


def new_topics(topic: Topic, settings: KafkaSettings) -> list[NewTopic]:
    """Return how a topic is created, and its dead-letter topic."""
    spec = SPECS[topic]
    if spec.compacted:
        kept = {
            "cleanup.policy": "compact,delete" if spec.expires else "compact",
            "retention.ms": str(spec.retention_ms if spec.expires else -1),
            "min.compaction.lag.ms": str(spec.uncompacted_ms),
            # The segment that is written to is never compacted, so it must not grow for long.
            "segment.ms": str(spec.uncompacted_ms),
        }
    else:
        kept = {"retention.ms": str(spec.retention_ms)}
    limits = {"max.message.bytes": str(MAX_RECORD_BYTES)}
    return [
        NewTopic(
            name=str(topic),
            num_partitions=settings.partitions if spec.partitioned else 1,
            replication_factor=settings.replication_factor,
            topic_configs={**kept, **limits},
        ),
        NewTopic(
            name=topic.dead_letters,
            num_partitions=1,
            replication_factor=settings.replication_factor,
            topic_configs={"retention.ms": str(spec.retention_ms), "max.message.bytes": str(2 * MAX_RECORD_BYTES)},
        ),
    ]
