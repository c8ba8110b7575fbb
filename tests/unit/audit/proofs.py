"""Proofs as audit makes them, from a record in memory."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from schemas.codecs import codec
from schemas.events import Event
from schemas.ledger.proofs import Proof
from schemas.topics import SPECS, Topic
from services.audit.handlers import keep, prove
from services.audit.signing import Keys, resume, sign
from services.runtime.clock import Clock
from services.runtime.kafka import Record
from tests.unit.audit.fakes import FakeDeadLetters, FakeLedger

AT = datetime(2026, 11, 24, tzinfo=UTC)


def records(topic: Topic, first: int, events: Sequence[Event]) -> list[Record]:
    """Events as they lie in a topic's only partition."""
    return [
        Record(topic, 0, place, 1000, getattr(event, SPECS[topic].key).encode(), codec(topic).encode(event))
        for place, event in enumerate(events, first)
    ]


async def proof_of(asked_id: str, told: Mapping[Topic, Sequence[Event]], keys: Keys) -> Proof:
    """The proof of a request or candidate, of a record that holds these events, all of them signed."""
    ledger, checkpoints = FakeLedger(), []
    for topic, events in told.items():
        chain = await resume(ledger, keys, topic, 0)
        chain = await keep(ledger, FakeDeadLetters(), Clock(), chain, records(topic, 0, events))
        checkpoints.append(sign(chain, keys, topic, 0, AT)[1])
    chain = await resume(ledger, keys, Topic.CHECKPOINTS, 0)
    await keep(ledger, FakeDeadLetters(), Clock(), chain, records(Topic.CHECKPOINTS, 0, checkpoints))
    return await prove(ledger, asked_id)
