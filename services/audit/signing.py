"""Checkpoints of chains: taken up where the newest one left off, signed when they are due.

What is signed are the hashes of the rows as this process made them, not what is in the store by then. After a start
they are read from the store, and a chain that is not what was signed before is not signed any more.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from schemas import events
from schemas.ledger.merkle import BLOCK, Tree
from schemas.ledger.notes import Checkpoint, InvalidKeyError, InvalidNoteError, SigningKey, VerifyingKey
from schemas.ledger.verification import BrokenChainError, ChainVerifier
from schemas.topics import Topic
from services.audit.domain import Chain, Head
from services.audit.ports import Ledger
from services.runtime import telemetry
from services.runtime.errors import Fatal, Retryable

# In one checkpoint, so that it is no larger than Kafka takes; the rest goes with the next.
_MOST_BLOCKS = 50_000


@dataclass(frozen=True)
class Keys:
    """What checkpoints are signed with, and whose signatures are believed: these keys' and former ones'."""

    signing: Sequence[SigningKey] = ()
    former: Sequence[VerifyingKey] = ()

    @classmethod
    def parse(cls, signing: str, former: str) -> Self:
        """Return the keys that settings hold, apart by white space.

        Raises:
            Fatal: One of them is no key.
        """
        try:
            return cls([*map(SigningKey.parse, signing.split())], [*map(VerifyingKey.parse, former.split())])
        except InvalidKeyError as error:
            raise Fatal(f"GYRE_AUDIT_SIGNING_KEYS or GYRE_AUDIT_FORMER_KEYS: {error}") from error

    @property
    def believed(self) -> list[VerifyingKey]:
        """All of them."""
        return [*(key.verifying for key in self.signing), *self.former]


async def resume(ledger: Ledger, keys: Keys, topic: Topic, partition: int) -> Chain:
    """Return a chain as it is stored, ready to be extended and signed.

    Where there is no key there is nothing to sign. Checkpoints vouch for themselves: signing their own chain would make
    the next one due.

    Raises:
        Retryable: The ledger is away.
    """
    head = await ledger.head(topic, partition)
    if not keys.signing or topic is Topic.CHECKPOINTS:
        return Chain(head)
    try:
        chain = await _followed(ledger, keys, topic, partition, head)
    except (BrokenChainError, InvalidNoteError) as error:
        telemetry.BROKEN_CHAINS.labels(topic, partition).set(1)
        telemetry.log().error("chain is not signed any more", topic=str(topic), partition=partition, reason=str(error))
        return Chain(head)
    telemetry.BROKEN_CHAINS.labels(topic, partition).set(0)
    return chain


async def _followed(ledger: Ledger, keys: Keys, topic: Topic, partition: int, head: Head) -> Chain:
    newest = await ledger.newest_checkpoint(topic, partition)
    known: list[Checkpoint] = []
    tree, signed = None, (0, -1)
    if newest is not None:
        checkpoint = Checkpoint.opened(newest.note, keys.believed)
        blocks = newest.blocks[: checkpoint.size // BLOCK]
        tree = Tree.of_blocks(blocks) if blocks else None
        known, signed = [checkpoint], (checkpoint.size, checkpoint.last_offset)
    verifier = ChainVerifier(topic, partition, known, erased := set[int](), tree)
    await follow(ledger, verifier, erased, topic, partition, head.offset)
    if verifier.head_offset not in (-1, head.offset):
        raise Retryable(f"another process is extending the chain of {topic}/{partition}")
    return Chain(head, verifier.tree, signed)


async def follow(
    ledger: Ledger, verifier: ChainVerifier, erased: set[int], topic: Topic, partition: int, until: int | None = None
) -> None:
    """Give a verifier the rows of a chain from where it is, up to an offset or to the end.

    Args:
        ledger: Where the rows are.
        verifier: Knows of the erasures in `erased`.
        erased: Is brought up to date when a row is met that it does not explain: erasures go on meanwhile.
        topic: Of the chain.
        partition: Of the chain.
        until: The last offset.

    Raises:
        BrokenChainError: They are not what was recorded and signed.
        Retryable: The ledger is away.
    """
    async for link in ledger.links(topic, partition, verifier.rows):
        if until is not None and link.offset > until:
            break
        if link.payload_digest is None and link.offset not in erased:
            erased |= await ledger.erased(topic, partition)
        verifier.add(link.offset, link.timestamp_ms, link.digest, link.prev_hash, link.hash, link.payload_digest)
    verifier.finish()


def sign(chain: Chain, keys: Keys, topic: Topic, partition: int, at: datetime) -> tuple[Chain, events.Checkpoint]:
    """Return a checkpoint of a chain, and the chain as it is once that is published."""
    assert chain.tree is not None
    checkpoint = Checkpoint(topic, partition, chain.tree.size, chain.tree.root, chain.head.offset, at)
    first = keys.signing[0]
    event = events.Checkpoint(
        chain=checkpoint.chain,
        first_offset=chain.signed[1] + 1,
        last_offset=chain.head.offset,
        root=chain.tree.root,
        signature=first.sign(checkpoint.text),
        key_id=first.verifying.label,
        signed_at=at,
        tree_size=chain.tree.size,
        note=checkpoint.signed(keys.signing),
        first_block=chain.tree.first_block,
        blocks=chain.tree.blocks[:_MOST_BLOCKS],
    )
    left = replace(chain.tree, blocks=chain.tree.blocks[_MOST_BLOCKS:])
    return replace(chain, tree=left, signed=(chain.tree.size, chain.head.offset)), event
