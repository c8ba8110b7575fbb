"""What goes through Kafka: a record as it holds it, and an event on its way."""

from dataclasses import dataclass
from typing import Any, Self

import msgspec

from schemas.events import DeadLetter, Event
from schemas.topics import SPECS, Topic
from services.runtime.clock import Clock
from services.runtime.tracing import traceparent_of

# Beyond this a record is refused by the client before it is sent; the router bounds requests well below it.
MAX_RECORD_BYTES = 4 * 1024 * 1024

_TOPICS = {str(topic): topic for topic in Topic}


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as Kafka holds it; `traceparent` is the trace that it is part of, empty of none."""

    topic: Topic
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    value: bytes
    traceparent: str = ""

    @classmethod
    def of(cls, message: Any) -> Self:
        """Return the record that aiokafka read."""
        # Called so often that names of arguments, and of topics, are worth sparing.
        return cls(
            _TOPICS[message.topic],
            message.partition,
            message.offset,
            message.timestamp,
            message.key or b"",
            message.value or b"",
            traceparent_of(message.headers) if message.headers else "",
        )

    def dead(self, hop: str, reason: str, clock: Clock) -> DeadLetter:
        """Return this record as a dead letter of a service."""
        return DeadLetter(
            topic=str(self.topic),
            partition=self.partition,
            offset=self.offset,
            hop=hop,
            reason=reason,
            failed_at=clock.now(),
            key=self.key,
            value=self.value,
        )


@dataclass(frozen=True)
class Outgoing:
    """An event on its way to a topic."""

    topic: Topic
    event: Event

    @property
    def key(self) -> bytes:
        """The record's key, as the topic's table says."""
        return str(getattr(self.event, SPECS[self.topic].key)).encode()
