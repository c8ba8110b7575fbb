"""Kafka: topics, the idempotent producer, and the two ways of reading.

`Follower` reads state: every partition from its beginning, in every replica, no group. `Transformer` shares the
partitions of its topics with its group, and writes what it makes of a batch, its dead letters and its offsets in one
transaction.
"""

from services.runtime.kafka.clients import RETRY_SECONDS, connection, stop, until_answered
from services.runtime.kafka.follower import Follower, Offsets, can_go_on, offsets_since
from services.runtime.kafka.lag import Lag
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.records import MAX_RECORD_BYTES, Outgoing, Record
from services.runtime.kafka.topics import create_topics, ensure_topics
from services.runtime.kafka.transformer import Transformer, transaction

__all__ = [
    "MAX_RECORD_BYTES",
    "RETRY_SECONDS",
    "Follower",
    "Lag",
    "Offsets",
    "Outgoing",
    "Producer",
    "Record",
    "Transformer",
    "can_go_on",
    "connection",
    "create_topics",
    "ensure_topics",
    "offsets_since",
    "stop",
    "transaction",
    "until_answered",
]
