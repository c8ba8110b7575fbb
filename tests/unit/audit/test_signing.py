"""Checkpoints: signed, taken up again, and proofs from them, on a ledger in memory."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from gyre.auditor.proof import check
from schemas import events
from schemas.codecs import codec
from schemas.events import Erasure, Place
from schemas.ledger.merkle import BLOCK, InvalidProofError
from schemas.ledger.notes import Checkpoint, InvalidNoteError, SigningKey
from schemas.ledger.proofs import Proof, check_row
from schemas.topics import Topic
from services.audit.domain import Chain, Head, Link
from services.audit.handlers import keep, prove, verify
from services.audit.signing import Keys, resume, sign
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, Fatal, NotFound
from services.runtime.kafka import Record
from tests.integration.audit.story import interaction, story
from tests.unit.audit.fakes import FakeDeadLetters, FakeLedger
from tests.unit.audit.proofs import AT, proof_of

TOPIC = Topic.INTERACTIONS
KEYS = Keys([SigningKey.generate("ours")])
PLACE = Place(topic=TOPIC, partition=0, offset=6)
IDS = [f"r-{index}" for index in range(2 * BLOCK + 50)]
VALUES = [codec(TOPIC).encode(interaction(request_id)) for request_id in IDS]


async def add(ledger: FakeLedger, chain: Chain, count: int) -> Chain:
    """So many more records on the topic's only partition."""
    start = len(ledger.rows[TOPIC, 0])
    places = range(start, start + count)
    records = [Record(TOPIC, 0, place, 1000, IDS[place].encode(), VALUES[place]) for place in places]
    return await keep(ledger, FakeDeadLetters(), Clock(), chain, records)


async def publish(ledger: FakeLedger, chain: Chain, keys: Keys = KEYS) -> Chain:
    """Signs a chain, and keeps the checkpoint as audit does once it has come back from Kafka."""
    chain, event = sign(chain, keys, TOPIC, 0, AT)
    head = await ledger.head(Topic.CHECKPOINTS, 0)
    value = codec(Topic.CHECKPOINTS).encode(event)
    record = Record(Topic.CHECKPOINTS, 0, head.offset + 1, 1000, event.chain.encode(), value)
    await keep(ledger, FakeDeadLetters(), Clock(), Chain(head), [record])
    return chain


@pytest.fixture
async def ledger() -> FakeLedger:
    """With three checkpoints, within a block and over several, and rows that none covers."""
    ledger = FakeLedger()
    chain = await resume(ledger, KEYS, TOPIC, 0)
    for count in (100, BLOCK, BLOCK - 90):
        chain = await publish(ledger, await add(ledger, chain, count))
    await add(ledger, chain, 6)
    return ledger


async def test_a_checkpoint_says_how_far_it_goes_and_is_signed(ledger: FakeLedger) -> None:
    rows = ledger.rows[Topic.CHECKPOINTS, 0]
    found: list[events.Checkpoint] = [codec(Topic.CHECKPOINTS).decode(row.record.value) for row in rows]
    assert [(each.first_offset, each.last_offset, each.tree_size) for each in found] == [
        (0, 99, 100),
        (100, BLOCK + 99, BLOCK + 100),
        (BLOCK + 100, 2 * BLOCK + 9, 2 * BLOCK + 10),
    ]
    assert [(each.first_block, len(each.blocks)) for each in found] == [(0, 0), (0, 1), (1, 1)]
    for each in found:
        opened = Checkpoint.opened(each.note, KEYS.believed)
        assert (opened.chain, opened.size, opened.root) == (each.chain, each.tree_size, each.root)
        KEYS.signing[0].verifying.public.verify(each.signature, opened.text.encode())


async def test_a_chain_is_taken_up_as_it_was_left(ledger: FakeLedger) -> None:
    chain = await resume(ledger, KEYS, TOPIC, 0)
    assert chain.head == await ledger.head(TOPIC, 0)
    assert (chain.unsigned, chain.signed) == (6, (2 * BLOCK + 10, 2 * BLOCK + 9))
    chain = await publish(ledger, await add(ledger, chain, 3))
    assert chain.unsigned == 0
    verdict = await verify(ledger, KEYS, TOPIC, 0)
    assert (verdict.rows, verdict.signed_rows, verdict.reason) == (2 * BLOCK + 19, 2 * BLOCK + 19, "")


async def test_without_a_key_nothing_is_signed_and_the_chain_goes_on(ledger: FakeLedger) -> None:
    chain = await resume(ledger, Keys(), TOPIC, 0)
    assert (chain.tree, chain.unsigned) == (None, 0)
    assert (await add(ledger, chain, 2)).head.offset == 2 * BLOCK + 17


async def test_checkpoints_are_not_signed_over_again(ledger: FakeLedger) -> None:
    assert (await resume(ledger, KEYS, Topic.CHECKPOINTS, 0)).tree is None


async def test_a_chain_that_is_not_what_was_signed_is_never_signed_again(ledger: FakeLedger) -> None:
    rows = ledger.rows[TOPIC, 0]
    del rows[-20:]  # with rows that were signed
    assert (await resume(ledger, KEYS, TOPIC, 0)).tree is None
    verdict = await verify(ledger, KEYS, TOPIC, 0)
    assert (verdict.first_bad_offset, verdict.rows) == (rows[-1].record.offset + 1, len(rows))


async def test_a_checkpoint_of_a_stranger_is_not_taken_up(ledger: FakeLedger) -> None:
    chain = await add(ledger, await resume(ledger, KEYS, TOPIC, 0), 1)
    await publish(ledger, chain, Keys([SigningKey.generate("stranger")]))
    assert (await resume(ledger, KEYS, TOPIC, 0)).tree is None
    assert "is signed by stranger+" in (await verify(ledger, KEYS, TOPIC, 0)).reason


async def test_keys_are_changed_by_signing_with_both_or_by_believing_the_old_one(ledger: FakeLedger) -> None:
    new = SigningKey.generate("new")
    for keys in (Keys([new, *KEYS.signing]), Keys([new], [KEYS.signing[0].verifying]), Keys([new])):
        chain = await resume(ledger, keys, TOPIC, 0)
        assert chain.tree is not None
        await publish(ledger, await add(ledger, chain, 1), keys)
        assert (await verify(ledger, keys, TOPIC, 0)).signed_rows == len(ledger.rows[TOPIC, 0])


@pytest.mark.parametrize("index", [0, 99, 100, BLOCK - 1, BLOCK, 2 * BLOCK + 9])
async def test_each_signed_row_can_be_proven_with_the_public_key_alone(ledger: FakeLedger, index: int) -> None:
    proof = Proof.parse((await prove(ledger, IDS[index])).json().encode())
    (row,) = proof.rows
    assert (row.offset, row.index, row.payload, proof.unsigned) == (index, index, VALUES[index], [])
    assert check_row(row, KEYS.believed) == AT
    sizes = [Checkpoint.parse(note).size for note in (row.first_checkpoint, row.checkpoint)]
    assert sizes == [next(size for size in (100, BLOCK + 100, 2 * BLOCK + 10) if size > index), 2 * BLOCK + 10]

    with pytest.raises(InvalidNoteError, match="by none of the keys given"):
        check_row(row, [SigningKey.generate("stranger").verifying])
    for change in (
        {"payload": row.payload + b"!"},
        {"salt": bytes(16)},
        {"offset": row.offset + 1},
        {"timestamp_ms": 0},
        {"topic": str(Topic.FEEDBACK)},
        {"index": index + 1},
        {"digest": bytes(32)},
        {"inclusion": [*row.inclusion[:-1], bytes(32)]},
        {"inclusion": []},
    ):
        with pytest.raises(InvalidProofError):
            check_row(replace(row, **change), KEYS.believed)


async def test_what_is_not_signed_yet_or_not_on_record_cannot_be_proven(ledger: FakeLedger) -> None:
    with pytest.raises(FailedPrecondition, match=f"{IDS[2 * BLOCK + 12]} is on record and not signed yet"):
        await prove(ledger, IDS[2 * BLOCK + 12])
    with pytest.raises(NotFound, match="nothing is on record of r-x"):
        await prove(ledger, "r-x")


async def test_rows_that_are_gone_cannot_be_proven(ledger: FakeLedger) -> None:
    del ledger.rows[TOPIC, 0][-300:]
    with pytest.raises(FailedPrecondition, match="is not what was signed"):
        await prove(ledger, IDS[5])


def test_a_proof_that_is_none_names_the_field() -> None:
    with pytest.raises(InvalidProofError, match=r"this is no proof: .*`\$\.rows`"):
        Proof.parse(b'{"request_id": "x", "rows": 7, "unsigned": []}')


def test_keys_that_are_none_stop_the_service_and_are_not_repeated() -> None:
    with pytest.raises(
        Fatal, match="GYRE_AUDIT_SIGNING_KEYS or GYRE_AUDIT_FORMER_KEYS: a key to sign with begins with"
    ) as raised:
        Keys.parse("hunter2", "")
    assert "hunter2" not in str(raised.value)
    both = Keys.parse(f"{KEYS.signing[0].secret()}\n{KEYS.signing[0].secret()}", str(KEYS.signing[0].verifying))
    assert (len(both.signing), len(both.former)) == (2, 1)


async def test_a_proof_is_of_the_request_that_it_names_and_hides_no_content(ledger: FakeLedger) -> None:
    proof = await prove(ledger, IDS[3])
    ((row, at),) = check(proof, KEYS.believed)
    assert (row.payload, at) == (VALUES[3], AT)
    with pytest.raises(InvalidProofError, match="it is of another, 'r-3'"):
        list(check(replace(proof, request_id=IDS[4]), KEYS.believed))
    emptied = replace(row, key=b"", payload=b"", salt=bytes(16))
    with pytest.raises(InvalidProofError, match="its content is gone, and no erasure in this proof says so"):
        list(check(replace(proof, rows=[emptied]), KEYS.believed))


async def test_a_candidate_is_proven_with_its_own_deployments() -> None:
    told = {topic: [event] for topic, event in story()[1] if topic in (Topic.CANDIDATES, Topic.DEPLOYMENTS)}
    (candidate,), (deployment,) = told.values()
    told[Topic.DEPLOYMENTS].append(replace(deployment, candidate_id="another"))
    proof = await proof_of(candidate.candidate_id, told, KEYS)
    rows = [row for row, _ in check(proof, KEYS.believed)]
    assert [codec(Topic(row.topic)).decode(row.payload) for row in rows] == [candidate, deployment]
    with pytest.raises(InvalidProofError, match=f"it is of another, '{candidate.candidate_id}'"):
        list(check(replace(proof, request_id="another", rows=rows[1:]), KEYS.believed))


async def test_rows_that_another_process_adds_meanwhile_are_not_taken_for_those_up_to_the_head(
    ledger: FakeLedger,
) -> None:
    class Overtaken(FakeLedger):
        async def head(self, topic: Topic, partition: int) -> Head:
            found = await super().head(topic, partition)
            if self.is_shared:
                self.is_shared = False
                await add(self, Chain(found), 3)  # by whoever had the partition before
            return found

        is_shared = True

    overtaken = Overtaken()
    overtaken.rows = ledger.rows
    before = ledger.rows[TOPIC, 0][-1].head
    chain = await resume(overtaken, KEYS, TOPIC, 0)
    assert chain.head == before
    assert chain.tree is not None
    assert chain.tree.size == 2 * BLOCK + 16 == before.offset + 1


async def test_an_erasure_that_goes_on_meanwhile_is_not_taken_for_tampering(ledger: FakeLedger) -> None:
    class Erasing(FakeLedger):
        async def links(self, topic: Topic, partition: int, start: int = 0) -> AsyncIterator[Link]:
            async for link in super().links(topic, partition, start):
                if link.offset == 5:
                    event = Erasure(request_id=IDS[6], erasure_id="e", tenant="t", asked_at=AT, rows=(PLACE,))
                    value = codec(Topic.ERASURES).encode(event)
                    record = Record(Topic.ERASURES, 0, 0, 1000, b"k", value)
                    await keep(self, FakeDeadLetters(), Clock(), Chain(), [record])
                    await self.erase(TOPIC, [(0, 6)])
                yield link

    erasing = Erasing()
    erasing.rows = ledger.rows
    verdict = await verify(erasing, KEYS, TOPIC, 0)
    assert (verdict.first_bad_offset, verdict.rows) == (None, 2 * BLOCK + 16)
