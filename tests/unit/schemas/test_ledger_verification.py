"""A chain is checked row by row: each way of tampering is found, and the first bad place is named."""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.ledger.chain import NO_HASH, header_hash, payload_digest
from schemas.ledger.merkle import BLOCK, Tree
from schemas.ledger.notes import Checkpoint
from schemas.ledger.verification import BrokenChainError, ChainVerifier

TOPIC, PARTITION = "router.interactions.v1", 2
COUNT = 3 * BLOCK + 100
SIGNED = (100, BLOCK, 2 * BLOCK + 10, COUNT)
AT = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass(frozen=True)
class Row:
    offset: int
    timestamp_ms: int
    digest: bytes
    prev_hash: bytes
    row_hash: bytes
    payload_digest: bytes | None


def chain(payloads: list[bytes], step: int = 2) -> list[Row]:
    """Rows at every second offset, as transactions leave them."""
    rows, before = [], NO_HASH
    for index, payload in enumerate(payloads):
        digest = payload_digest(b"s" * 16, b"key", payload)
        row_hash = header_hash(TOPIC, PARTITION, index * step, 1000 + index, digest, before)
        rows.append(Row(index * step, 1000 + index, digest, before, row_hash, digest))
        before = row_hash
    return rows


ROWS = chain([b"%d" % index for index in range(COUNT)])
CHECKPOINTS = [
    Checkpoint(TOPIC, PARTITION, size, Tree().extended(r.row_hash for r in ROWS[:size]).root, ROWS[size - 1].offset, AT)
    for size in SIGNED
]


def verify(rows: list[Row], checkpoints: list[Checkpoint] = CHECKPOINTS, erased: Any = frozenset()) -> ChainVerifier:
    verifier = ChainVerifier(TOPIC, PARTITION, checkpoints, erased)
    for row in rows:
        verifier.add(*vars(row).values())
    verifier.finish()
    return verifier


def first_bad(rows: list[Row], checkpoints: list[Checkpoint] = CHECKPOINTS) -> tuple[int, str]:
    with pytest.raises(BrokenChainError) as raised:
        verify(rows, checkpoints)
    return raised.value.offset, str(raised.value)


def test_what_was_recorded_and_signed_is_intact() -> None:
    verifier = verify(ROWS)
    assert (verifier.rows, verifier.erased, verifier.signed) == (COUNT, 0, CHECKPOINTS[-1])
    assert verifier.head_hash == ROWS[-1].row_hash


def test_rows_that_are_not_signed_yet_are_told_apart() -> None:
    verifier = verify(ROWS, CHECKPOINTS[:2])
    assert verifier.signed is not None
    assert (verifier.rows, verifier.signed.size) == (COUNT, BLOCK)


@pytest.mark.parametrize("field", ["timestamp_ms", "digest", "prev_hash", "row_hash", "payload_digest"])
@pytest.mark.parametrize("index", [0, 57, BLOCK, COUNT - 1])
def test_a_field_that_was_changed_is_found_in_its_row(field: str, index: int) -> None:
    changed: Any = 7 if field == "timestamp_ms" else bytes(31) + b"!"
    rows = [*ROWS[:index], replace(ROWS[index], **{field: changed}), *ROWS[index + 1 :]]
    assert first_bad(rows)[0] == ROWS[index].offset


def test_a_row_that_was_removed_is_found_at_the_one_behind_it() -> None:
    offset, reason = first_bad(ROWS[:50] + ROWS[51:])
    assert offset == ROWS[51].offset
    assert reason == f"does not follow the row at offset {ROWS[49].offset}: " + reason.partition(": ")[2]


def test_rows_that_were_swapped_are_found_at_the_first() -> None:
    rows = [*ROWS]
    rows[10], rows[11] = rows[11], rows[10]
    assert first_bad(rows)[0] == ROWS[11].offset


def test_a_row_that_was_put_in_between_is_found() -> None:
    forged = chain([b"forged"])[0]
    assert first_bad([*ROWS[:20], replace(forged, offset=39, prev_hash=ROWS[19].row_hash), *ROWS[20:]])[0] == 39
    assert first_bad([*ROWS[:20], ROWS[19], *ROWS[20:]]) == (
        ROWS[19].offset,
        "follows offset 38: rows are repeated or out of order",
    )


def test_a_tail_that_was_cut_off_is_found_where_it_should_begin() -> None:
    offset, reason = first_bad(ROWS[:-5])
    assert offset == ROWS[-6].offset + 1
    assert reason.startswith(f"the rows end here: there are {COUNT - 5:,}, and {COUNT:,} were signed at 2026-11-24")
    assert first_bad([])[0] == 0


def test_a_chain_that_was_written_anew_is_found_by_the_checkpoint_and_the_place_since_the_one_before_is_named() -> None:
    payloads = [b"%d" % index for index in range(COUNT)]
    payloads[BLOCK + 500] = b"rewritten"
    offset, reason = first_bad(chain(payloads))
    assert offset == ROWS[BLOCK - 1].offset + 1
    assert "are not those of the checkpoint of 2,058 rows" in reason


def test_a_checkpoint_that_was_replaced_is_found() -> None:
    other = replace(CHECKPOINTS[1], root=bytes(32))
    assert first_bad(ROWS, [CHECKPOINTS[0], other, *CHECKPOINTS[2:]])[0] == ROWS[99].offset + 1
    assert first_bad(ROWS, [replace(CHECKPOINTS[0], last_offset=9)])[0] == 0
    assert first_bad(ROWS, [CHECKPOINTS[1], CHECKPOINTS[0]])


def test_the_same_checkpoint_from_two_places_is_one() -> None:
    assert verify(ROWS, [each for each in CHECKPOINTS for _ in range(2)]).rows == COUNT


def test_content_that_is_gone_wants_an_erasure_on_record() -> None:
    rows = [*ROWS[:30], replace(ROWS[30], payload_digest=None), *ROWS[31:]]
    assert first_bad(rows) == (60, "its content is gone, and no erasure on record says so")
    assert verify(rows, erased={60}).erased == 1


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_check_can_begin_where_complete_blocks_end(blocks: int) -> None:
    whole = Tree().extended(row.row_hash for row in ROWS)
    verifier = ChainVerifier(TOPIC, PARTITION, CHECKPOINTS[-1:], set(), Tree.of_blocks(whole.blocks[:blocks]))
    for row in ROWS[blocks * BLOCK :]:
        verifier.add(*vars(row).values())
    verifier.finish()
    assert (verifier.rows, verifier.tree.root) == (COUNT, CHECKPOINTS[-1].root)
    assert verifier.tree.blocks == whole.blocks[blocks:]


def test_no_random_tampering_escapes() -> None:
    chance = random.Random(5)
    ways: list[Callable[[list[Row], int], object]] = [
        lambda rows, at: rows.pop(at),
        lambda rows, at: rows.insert(at, rows[chance.randrange(len(rows))]),
        lambda rows, at: rows.__setitem__(at, replace(rows[at], payload_digest=chance.randbytes(32))),
        lambda rows, at: rows.__setitem__(slice(at, at + 2), rows[at : at + 2][::-1]),
        lambda rows, at: rows.__delitem__(slice(at, None)),
    ]
    for _ in range(50):
        rows = [*ROWS]
        chance.choice(ways)(rows, chance.randrange(COUNT - 1))
        first_bad(rows)
