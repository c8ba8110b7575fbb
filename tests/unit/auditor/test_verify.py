"""An export is checked with the public key alone: whatever is done to it is found, and a clean one is clean."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest

from gyre.auditor.verify import Finding, verify
from schemas.ledger.notes import SigningKey
from schemas.topics import Topic
from tests.unit.auditor.exports import ExportedChain, chained, erase, make, signed

KEY, FORGER = SigningKey.generate("gyre-audit"), SigningKey.generate("gyre-audit")
INTERACTIONS = f"{Topic.INTERACTIONS}/0"
EXPORTS = 1000


def check(folder: Path, *kept: Path) -> dict[str, Finding]:
    return {finding.chain: finding for finding in verify(folder, [KEY.verifying], kept)}


def write(folder: Path, *chains: ExportedChain) -> Path:
    for chain in chains:
        chain.write(folder)
    return folder


def same_rows(folder: Path, chain: ExportedChain) -> bool:
    """Whether the file still says what it said: some bits of a file say nothing."""
    with pa.OSFile(str(folder / chain.topic / f"{chain.partition}.arrows")) as file:
        return bool(pa.ipc.open_stream(file).read_all().to_pylist() == chain.rows)


# What may be done to an export. Each returns the first offset that is not as it was recorded, where that is certain.
def flip_a_bit(chance: Random, chain: ExportedChain) -> int | None:
    row = chance.choice(chain.rows)
    name = chance.choice(["_key", "_salt", "_payload", "_digest", "_prev_hash", "_hash"])
    value = bytearray(row[name])
    value[chance.randrange(len(value))] ^= 1 << chance.randrange(8)
    row[name] = bytes(value)
    return int(row["_offset"])


def move_a_time(chance: Random, chain: ExportedChain) -> int | None:
    row = chance.choice(chain.rows)
    row["_timestamp_ms"] ^= 1 << chance.randrange(20)
    return int(row["_offset"])


def delete_a_row(chance: Random, chain: ExportedChain) -> int | None:
    index = chance.randrange(len(chain.rows) - 1)
    del chain.rows[index]
    return int(chain.rows[index]["_offset"])


def swap_rows(chance: Random, chain: ExportedChain) -> int | None:
    one, other = sorted(chance.sample(range(len(chain.rows)), 2))
    chain.rows[one], chain.rows[other] = chain.rows[other], chain.rows[one]
    return int(chain.rows[one]["_offset"])


def cut_the_tail(chance: Random, chain: ExportedChain) -> int | None:
    del chain.rows[chance.randrange(1, len(chain.rows)) :]
    return int(chain.rows[-1]["_offset"]) + 1


def insert_a_row(chance: Random, chain: ExportedChain) -> int | None:
    index = chance.randrange(len(chain.rows) + 1)
    forged = {**chance.choice(chain.rows), "_payload": chance.randbytes(20), "_salt": chance.randbytes(16)}
    forged["_offset"] = chain.rows[index - 1]["_offset"] + 1 if index else chain.rows[0]["_offset"]
    before = chain.rows[index - 1 : index]
    (forged,) = chained(chain.topic, chain.partition, [forged])
    forged["_prev_hash"] = before[0]["_hash"] if before else forged["_prev_hash"]
    chain.rows.insert(index, forged)
    return int(forged["_offset"])


def rewrite_a_range(chance: Random, chain: ExportedChain) -> int | None:
    """With a chain that is sound in itself: only what was signed shows that it is another."""
    start = chance.randrange(len(chain.rows))
    rows = [
        {**row, "_payload": row["_payload"] + b"!"} if start <= index < start + 5 else row
        for index, row in enumerate(chain.rows)
    ]
    chain.rows = chained(chain.topic, chain.partition, rows)
    return None


def add_rows_at_the_end(chance: Random, chain: ExportedChain) -> int | None:
    last = chain.rows[-1]
    rows = [*chain.rows, *({**last, "_offset": last["_offset"] + step} for step in range(1, chance.randrange(2, 5)))]
    chain.rows = chained(chain.topic, chain.partition, rows)
    return int(last["_offset"]) + 1


def empty_a_row(chance: Random, chain: ExportedChain) -> int | None:
    row = chance.choice(chain.rows)
    row.update({"_key": b"", "_payload": b"", "_salt": bytes(16)})
    return int(row["_offset"])


def replace_a_checkpoint(chance: Random, chain: ExportedChain) -> int | None:
    index = chance.randrange(len(chain.notes))
    rows = chained(chain.topic, chain.partition, [{**row, "_payload": b"forged"} for row in chain.rows])
    size = int(chain.notes[index].split("\n")[1])
    (chain.notes[index],) = signed(ExportedChain(chain.topic, chain.partition, rows), [size], [FORGER])
    return None


def rewrite_everything_and_sign_it_oneself(chance: Random, chain: ExportedChain) -> int | None:
    rewrite_a_range(chance, chain)
    chain.notes = signed(chain, [len(chain.rows)], [FORGER])
    return 0


def move_a_checkpoint_from_another_chain(chance: Random, chain: ExportedChain) -> int | None:
    other = ExportedChain(chain.topic, chain.partition + 1, chained(chain.topic, chain.partition + 1, chain.rows))
    chain.notes[-1:] = signed(other, [len(chain.rows)], [KEY])
    return None


def rub_out_checkpoints(chance: Random, chain: ExportedChain) -> int | None:
    chain.notes.pop()
    return None


WAYS: list[Callable[[Random, ExportedChain], int | None]] = [
    *(flip_a_bit, move_a_time, delete_a_row, swap_rows, cut_the_tail, insert_a_row, rewrite_a_range),
    *(add_rows_at_the_end, empty_a_row, replace_a_checkpoint, rewrite_everything_and_sign_it_oneself),
    *(move_a_checkpoint_from_another_chain, rub_out_checkpoints),
]


@pytest.mark.parametrize("part", range(10))
def test_every_tampering_is_found_and_the_first_bad_place_is_named(tmp_path: Path, part: int) -> None:
    for number in range(part, EXPORTS, 10):
        chance = Random(number)
        chain, other = make(chance, 30, [KEY]), make(chance, 5, [KEY], topic=Topic.FEEDBACK)
        whole = [*chain.rows]
        way = WAYS[number % len(WAYS)]
        bad_offset = way(chance, chain)
        found = check(write(tmp_path / str(number), chain, other))

        bad = found[INTERACTIONS].bad
        assert bad is not None, (way, number)
        if bad_offset is not None:
            assert bad.offset == bad_offset, (way, number, bad)
        else:  # it cannot be told where between two checkpoints
            assert bad.offset is not None
            assert bad.offset <= whole[-1]["_offset"] + 1
        assert found[other.name].bad is None


@pytest.mark.parametrize("part", range(10))
def test_nothing_is_found_where_nothing_was_done(tmp_path: Path, part: int) -> None:
    for number in range(part, EXPORTS, 10):
        chance = Random(number)
        chain = make(chance, chance.randrange(1, 40), [KEY])
        chains = [chain]
        if number % 3 == 0:
            chains.append(erase(chance, chain, chance.randrange(len(chain.rows)), [KEY]))
        found = check(write(tmp_path / str(number), *chains))
        assert [finding.bad for finding in found.values()] == [None] * len(chains), number
        assert found[INTERACTIONS].rows == len(chain.rows)
        assert found[INTERACTIONS].erased == len(chains) - 1


def test_a_bit_of_the_files_themselves_is_found_or_says_nothing(tmp_path: Path) -> None:
    found = 0
    for number in range(200):
        chance = Random(number)
        chain = make(chance, 20, [KEY])
        folder = write(tmp_path / str(number), chain)
        path = folder / chain.topic / f"0.{chance.choice(('arrows', 'checkpoints'))}"
        content = bytearray(path.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        bad = check(folder)[INTERACTIONS].bad
        found += bad is not None
        # Padding of an Arrow file, and the last bits of base64, may change and say the same.
        assert bad or same_rows(folder, chain), number
    assert found > 180


def test_rows_cut_off_with_their_checkpoints_are_found_by_those_that_were_kept(tmp_path: Path) -> None:
    chance = Random(7)
    chain, gone = make(chance, 40, [KEY]), make(chance, 6, [KEY], topic=Topic.LABELS, partition=3)
    kept = tmp_path / "kept"
    kept.write_text("\n".join([*signed(chain, [10, 40], [KEY]), *gone.notes]))
    chain.rows, chain.notes = chain.rows[:20], signed(chain, [20], [KEY])
    folder = write(tmp_path / "export", chain)

    assert check(folder)[INTERACTIONS].bad is None
    found = check(folder, kept)
    bad = found[INTERACTIONS].bad
    assert bad is not None
    assert bad.offset == chain.rows[-1]["_offset"] + 1
    missing = found[gone.name].bad
    assert missing is not None
    assert (missing.offset, missing.reason) == (None, "3.checkpoints is missing")


def test_a_row_without_content_wants_an_erasure_that_is_whole_itself(tmp_path: Path) -> None:
    chance = Random(3)
    chain = make(chance, 10, [KEY])
    erasure = erase(chance, chain, 4, [KEY])
    flip_a_bit(chance, erasure)
    found = check(write(tmp_path, chain, erasure))
    assert found[erasure.name].bad is not None
    assert found[INTERACTIONS].bad is not None
