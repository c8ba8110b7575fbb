"""A proof of one request or candidate, checked with public keys alone."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from schemas.codecs import UndecodableError, codec
from schemas.ledger.merkle import InvalidProofError
from schemas.ledger.notes import VerifyingKey
from schemas.ledger.proofs import Proof, RowProof, check_row
from schemas.topics import Topic


def check(proof: Proof, keys: Sequence[VerifyingKey]) -> Iterator[tuple[RowProof, datetime]]:
    """Yield each row of a proof, once it is shown to be what was asked for, with the time at which it was first signed.

    Raises:
        InvalidProofError: A row is not part of the record, is another's, or its content is gone and no erasure
            in the proof says so.
        InvalidNoteError: A checkpoint is none, or signed by none of the keys.
    """
    erased = set()
    # What erasures say is needed for the others.
    for row in sorted(proof.rows, key=lambda row: row.topic != Topic.ERASURES):
        place = f"{row.topic}/{row.partition} at offset {row.offset}"
        try:
            signed_at = check_row(row, keys)
        except ValueError as error:
            raise type(error)(f"{place}: {error}") from error
        if row.is_erased:
            if (row.topic, row.partition, row.offset) not in erased:
                raise InvalidProofError(f"{place}: its content is gone, and no erasure in this proof says so")
        elif (found := _id(row)) != proof.request_id:
            raise InvalidProofError(f"{place}: it is of another, {found!r}")
        elif row.topic == Topic.ERASURES:
            erased |= _places(row)
        yield row, signed_at


def _id(row: RowProof) -> str:
    """Return what a row is of: its key, but that deployments, which are keyed by task, are of their candidate."""
    if row.topic != Topic.DEPLOYMENTS:
        return row.key.decode(errors="replace")
    try:
        return str(codec(Topic.DEPLOYMENTS).decode(row.payload).candidate_id)
    except UndecodableError as error:
        raise InvalidProofError(f"no deployment: {error}") from error


def _places(row: RowProof) -> set[tuple[str, int, int]]:
    try:
        return {
            (place.topic, place.partition, place.offset) for place in codec(Topic.ERASURES).decode(row.payload).rows
        }
    except UndecodableError:  # kept undecoded, and so without effect
        return set()
