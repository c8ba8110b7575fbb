import asyncio
import os
from collections.abc import Sequence

from schemas.ledger.chain import NO_HASH
from schemas.ledger.merkle import (
    BLOCK,
    InvalidProofError,
    Nodes,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
)
from schemas.ledger.notes import Checkpoint, InvalidNoteError
from schemas.ledger.proofs import Proof, RowProof
from schemas.ledger.verification import BrokenChainError, ChainVerifier
from schemas.topics import Topic
from services.audit.domain import Chain, Row, Run, Step, StoredRow, Verdict, chained, runs
from services.audit.ports import DeadLetters, Ledger
from services.audit.signing import Keys, follow
from services.runtime import telemetry
from services.runtime.clock import Clock
from services.runtime.errors import FailedPrecondition, InvalidArgument, NotFound, Retryable, ServiceError
from services.runtime.kafka import Record

_ATTEMPTS = 3


async def keep(
    ledger: Ledger, dead_letters: DeadLetters, clock: Clock, chain: Chain, records: Sequence[Record]
) -> Chain:
    """Add records to the chain of their partition and return it.

    A record that cannot be decoded goes to the dead letters and is kept all the same, undecoded, so that the chain has
    no hole. After an error the chain is whatever the ledger says it is.

    Args:
        ledger: Where rows are stored.
        dead_letters: Where records go that cannot be decoded.
        clock: Dates the dead letters.
        chain: As it is now.
        records: Consecutive records of one partition, beyond the chain's head.

    Raises:
        Retryable: The ledger or Kafka is away, or another process has extended this chain.
    """
    for run in runs(records):
        chain = await _extend(ledger, dead_letters, clock, chain, run)
    return chain


async def _extend(ledger: Ledger, dead_letters: DeadLetters, clock: Clock, chain: Chain, run: Run) -> Chain:
    if run.error:
        for record in run.records:
            await _bury(dead_letters, clock, record, run.error)
    try:
        # In a thread, as what is sent: the group hears meanwhile that this process lives, and callers their answers.
        rows = await asyncio.to_thread(chained, chain.head, run, os.urandom)
        return await _store(ledger, chain, rows)
    except InvalidArgument as error:
        if run.error:
            # What was refused is an envelope that we wrote ourselves: no fault of the record's.
            raise Retryable(f"a row is refused whatever it holds: {error}") from error
        if len(run.records) == 1:
            return await _extend(ledger, dead_letters, clock, chain, Run(0, str(error), run.records))
    # One record that cannot be decoded fails all of them: halve until it is alone.
    middle = len(run.records) // 2
    for half in (run.records[:middle], run.records[middle:]):
        chain = await _extend(ledger, dead_letters, clock, chain, Run(run.schema_id, "", half))
    return chain


async def _store(ledger: Ledger, chain: Chain, rows: list[Row]) -> Chain:
    first, last = rows[0].record, rows[-1]
    for attempt in range(_ATTEMPTS):
        await ledger.append(rows, attempt)
        # Not only an acknowledgement: the chain ends with these rows, and nobody else has extended it meanwhile.
        stored = await ledger.head(first.topic, first.partition)
        if stored == last.head:
            return chain.extended(rows)
        if stored != chain.head:
            raise Retryable(f"another process has extended the chain of {first.topic}/{first.partition}")
    raise Retryable(f"rows {first.offset} to {last.record.offset} were acknowledged and not stored")


async def recount(ledger: Ledger, topic: Topic, partition: int) -> None:
    """Have a partition's rollups mended. The record goes on without: what fails is tried when it is placed next."""
    try:
        await ledger.recount(topic, partition)
    except ServiceError as error:
        telemetry.log().error("not recounted", topic=str(topic), partition=partition, error=str(error))


async def _bury(dead_letters: DeadLetters, clock: Clock, record: Record, reason: str) -> None:
    telemetry.RECORDS.labels(record.topic, "dead-lettered").inc()
    telemetry.log().error(
        "dead letter", topic=str(record.topic), partition=record.partition, offset=record.offset, reason=reason
    )
    await dead_letters.send_dead_letter(record.topic, record.dead("audit", reason, clock))


async def verify(ledger: Ledger, keys: Keys, topic: str, partition: int) -> Verdict:
    """Recompute the chain of a partition from what is stored, up to the first place where it is not what was recorded.

    Its newest checkpoint, which covers all rows that any other covers, is held against the rows as well.

    Raises:
        NotFound: There is no such topic.
        Retryable: The ledger is away.
    """
    if topic not in list(Topic):
        raise NotFound(f"topic: {topic} is none of {', '.join(Topic)}")
    known = Topic(topic)
    newest = await ledger.newest_checkpoint(known, partition) if keys.believed else None
    try:
        signed = [] if newest is None else [Checkpoint.opened(newest.note, keys.believed)]
    except InvalidNoteError as error:
        return Verdict(0, 0, 0, f"the newest checkpoint {error}", NO_HASH)
    verifier, bad, reason = ChainVerifier(known, partition, signed, erased := set[int]()), None, ""
    try:
        await follow(ledger, verifier, erased, known, partition)
    except BrokenChainError as error:
        bad, reason = error.offset, str(error)
    signed_rows = verifier.signed.size if verifier.signed else 0
    return Verdict(verifier.rows, signed_rows, bad, reason, verifier.head_hash)


async def prove(ledger: Ledger, request_id: str) -> Proof:
    """Return the proof that the rows of a request, or of a candidate and its deployments, are part of the record.

    Raises:
        NotFound: Nothing of it is on record.
        FailedPrecondition: None of its rows is signed, or what is stored of a chain is not what was signed.
        Retryable: The ledger is away.
    """
    rows = await ledger.rows_of(request_id)
    if not rows:
        raise NotFound(f"request_id: nothing is on record of {request_id}")
    proofs, unsigned = [], []
    for row in rows:
        proof = await _prove(ledger, row)
        if proof is None:
            unsigned.append(f"{row.topic}/{row.partition} {row.offset}")
        else:
            proofs.append(proof)
    if not proofs:
        raise FailedPrecondition(
            f"request_id: {request_id} is on record and not signed yet; with GYRE_AUDIT_SIGNING_KEYS it is within "
            "GYRE_AUDIT_CHECKPOINT_SECONDS"
        )
    return Proof(request_id, proofs, unsigned)


async def _prove(ledger: Ledger, row: StoredRow) -> RowProof | None:
    topic, partition = row.topic, row.partition
    newest = await ledger.newest_checkpoint(topic, partition)
    oldest = await ledger.oldest_checkpoint(topic, partition, row.offset)
    if newest is None or oldest is None:
        return None
    last, first = (Checkpoint.parse(note) for note in (newest.note, oldest))
    if row.offset > last.last_offset:  # covered meanwhile, by one that came after
        return None
    ends = {row.index // BLOCK, first.size // BLOCK, last.size // BLOCK}
    leaves = {
        number: await ledger.leaves(topic, partition, number * BLOCK, min((number + 1) * BLOCK, last.size))
        for number in ends
    }
    nodes = Nodes(newest.blocks, leaves)
    try:
        inclusion = inclusion_path(row.index, last.size, nodes)
        check_inclusion(row.hash, row.index, last.size, inclusion, last.root)
        consistency = consistency_path(first.size, last.size, nodes)
        check_consistency(first.size, last.size, consistency, first.root, last.root)
    except (InvalidProofError, IndexError, KeyError) as error:
        raise FailedPrecondition(
            f"request_id: what is stored of {topic}/{partition} is not what was signed; verify it"
        ) from error
    return RowProof(
        topic=topic,
        partition=partition,
        offset=row.offset,
        timestamp_ms=row.timestamp_ms,
        key=row.key,
        salt=row.salt,
        payload=row.payload,
        digest=row.digest,
        prev_hash=row.prev_hash,
        index=row.index,
        inclusion=inclusion,
        consistency=consistency,
        first_checkpoint=oldest,
        checkpoint=newest.note,
    )


async def trace(ledger: Ledger, traced_id: str) -> list[Step]:
    """Return what a request led to and where its answer came from, oldest first.

    Of a label it is what its request led to, and the newest answers by specialists that learned from it.

    Raises:
        NotFound: Nothing of it is on record.
        Retryable: The ledger is away.
    """
    if steps := await ledger.lineage(traced_id):
        return steps
    request_id = await ledger.labelled(traced_id)
    if request_id is None:
        raise NotFound(f"id: nothing is on record of {traced_id}: it is neither a request nor a label")
    return [*await ledger.lineage(request_id), *await ledger.taught(traced_id)]
