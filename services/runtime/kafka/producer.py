"""The idempotent producer."""

import asyncio
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from opentelemetry.trace import SpanKind

from schemas.codecs import codec, encode_dead_letter
from schemas.events import DeadLetter, Event
from schemas.topics import Topic
from services.runtime import tracing
from services.runtime.errors import Rejected, Retryable
from services.runtime.kafka.clients import connection, stop, until_answered
from services.runtime.kafka.records import MAX_RECORD_BYTES, Outgoing
from services.runtime.kafka.topics import ensure_topics
from services.runtime.settings import KafkaSettings

SEND_TIMEOUT_SECONDS = 10.0


class Producer:
    """Sends events and waits for the acknowledgement of all in-sync replicas. What is sent within a trace says so."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        """Wait for Kafka, create the topics that are missing, connect."""
        await until_answered("Kafka", lambda: ensure_topics(self._settings))
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what is under way and disconnect."""
        if self._producer is not None:
            await stop(self._producer)

    async def _connect(self) -> None:
        self._producer = AIOKafkaProducer(
            **connection(self._settings),
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            max_request_size=2 * MAX_RECORD_BYTES,  # a dead letter holds a whole record
            request_timeout_ms=int(SEND_TIMEOUT_SECONDS * 1000),
        )
        await self._producer.start()

    async def send(self, topic: Topic, event: Event) -> None:
        """Send one event; on return it is acknowledged.

        Raises:
            Retryable: It was not acknowledged in time; whether it was written is unknown.
            Rejected: It is too large.
        """
        outgoing = Outgoing(topic, event)
        value = codec(topic).encode(event)
        if len(value) > MAX_RECORD_BYTES:
            raise Rejected(f"{topic}: the event has {len(value)} bytes, wanted at most {MAX_RECORD_BYTES}")
        await self._send(str(topic), outgoing.key, value)

    async def send_dead_letter(self, topic: Topic, letter: DeadLetter) -> None:
        """Send a record that could not be handled to the dead-letter topic beside its own.

        Raises:
            Retryable: It was not acknowledged in time.
        """
        await self._send(topic.dead_letters, letter.key, encode_dead_letter(letter))

    async def _send(self, topic: str, key: bytes, value: bytes) -> None:
        assert self._producer is not None
        try:
            with tracing.within(f"send {topic}", SpanKind.PRODUCER):
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    headers = tracing.record_headers()
                    await self._producer.send_and_wait(topic, value, key=key, headers=headers)
        except (KafkaError, TimeoutError, OSError) as error:
            raise Retryable(f"{topic}: not acknowledged by Kafka: {error!r}") from error
