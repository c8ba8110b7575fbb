"""The proof that rows are part of the record, as one JSON document: bytes are in base64.

For each row it holds what its hash is computed from, the path from there to the root of the newest checkpoint
(RFC 6962, 2.1.1), the first checkpoint that covers the row, and the path which shows that the newest tree begins with
the tree of that one (2.1.2): what was vouched for then is vouched for still.
"""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from schemas.ledger.chain import NO_SALT, header_hash, payload_digest
from schemas.ledger.merkle import InvalidProofError, check_consistency, check_inclusion
from schemas.ledger.notes import Checkpoint, VerifyingKey


class RowProof(msgspec.Struct, frozen=True):
    """The proof for one row; `index` is its place in the chain, from 0."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes
    salt: bytes
    payload: bytes
    digest: bytes
    prev_hash: bytes
    index: int
    inclusion: list[bytes]
    consistency: list[bytes]
    first_checkpoint: str
    checkpoint: str

    @property
    def is_erased(self) -> bool:
        """Whether its content is gone, so that only its place can be proven."""
        return (self.key, self.salt, self.payload) == (b"", NO_SALT, b"")


class Proof(msgspec.Struct, frozen=True):
    """The proof for all rows of one request or candidate; `unsigned` are those that no checkpoint covers yet."""

    request_id: str
    rows: list[RowProof]
    unsigned: list[str]

    @classmethod
    def parse(cls, document: bytes) -> "Proof":
        """Return the proof in a JSON document.

        Raises:
            InvalidProofError: It is none; the message names the field.
        """
        try:
            return msgspec.json.decode(document, type=cls)
        except msgspec.MsgspecError as error:
            raise InvalidProofError(f"this is no proof: {error}") from error

    def json(self) -> str:
        """Return it as a JSON document."""
        return msgspec.json.format(msgspec.json.encode(self)).decode()


def check_row(row: RowProof, keys: Sequence[VerifyingKey]) -> datetime:
    """Check the proof for a row, and return when it was first signed. Of an erased row it is its place that is proven.

    Raises:
        InvalidProofError: It does not show that the row is part of the record.
        InvalidNoteError: A checkpoint in it is none, or signed by none of the keys.
    """
    first, newest = (Checkpoint.opened(note, keys) for note in (row.first_checkpoint, row.checkpoint))
    chain = f"{row.topic}/{row.partition}"
    if not first.chain == newest.chain == chain:
        raise InvalidProofError(f"the checkpoints are of {first.chain} and {newest.chain}, the row is of {chain}")
    if not row.is_erased and payload_digest(row.salt, row.key, row.payload) != row.digest:
        raise InvalidProofError("key, payload or salt are not those that were recorded")
    leaf = header_hash(row.topic, row.partition, row.offset, row.timestamp_ms, row.digest, row.prev_hash)
    check_inclusion(leaf, row.index, newest.size, row.inclusion, newest.root)
    check_consistency(first.size, newest.size, row.consistency, first.root, newest.root)
    if row.index >= first.size:
        raise InvalidProofError("the first checkpoint does not cover the row")
    return first.signed_at
