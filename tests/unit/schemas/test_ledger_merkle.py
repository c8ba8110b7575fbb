"""The Merkle tree by itself: the published vectors, and a library that others wrote."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

from schemas.ledger.merkle import (
    BLOCK,
    InvalidProofError,
    Nodes,
    Tree,
    check_consistency,
    check_inclusion,
    consistency_path,
    inclusion_path,
)

# The inputs and results of the tests of the Certificate Transparency project, for RFC 6962.
LEAVES = [
    bytes.fromhex(each)
    for each in (
        *("", "00", "10", "2021", "3031", "40414243", "5051525354555657"),
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): INCLUSION[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


def leaves(count: int) -> list[bytes]:
    return [sha256(b"%d" % index).digest() for index in range(count)]


def nodes(data: list[bytes]) -> Nodes:
    """Everything that any proof could need."""
    return Nodes(
        Tree().extended(data).blocks,
        {start // BLOCK: data[start : start + BLOCK] for start in range(0, len(data), BLOCK)},
    )


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    assert Tree().extended(LEAVES[:size]).root.hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_paths_are_the_published_ones(index: int, size: int) -> None:
    path = inclusion_path(index, size, nodes(LEAVES))
    assert [each.hex() for each in path] == INCLUSION[index, size]
    check_inclusion(LEAVES[index], index, size, path, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "size"), CONSISTENCY)
def test_consistency_paths_are_the_published_ones(old: int, size: int) -> None:
    path = consistency_path(old, size, nodes(LEAVES))
    assert [each.hex() for each in path] == CONSISTENCY[old, size]
    check_consistency(old, size, path, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize("size", [*range(40), 64, 65, 127])
def test_every_proof_of_a_small_tree_is_accepted_and_no_other_is(size: int) -> None:
    data = leaves(size)
    kept, root = nodes(data), Tree().extended(data).root
    for index in range(size):
        path = inclusion_path(index, size, kept)
        check_inclusion(data[index], index, size, path, root)
        for wrong in (path[:-1], [*path, bytes(32)], [bytes(32), *path[1:]]):
            if wrong != path:
                with pytest.raises(InvalidProofError):
                    check_inclusion(data[index], index, size, wrong, root)
        with pytest.raises(InvalidProofError):
            check_inclusion(bytes(32), index, size, path, root)
        with pytest.raises(InvalidProofError):
            check_inclusion(data[index], index, size, path, bytes(32))
    for old in range(size + 1):
        old_root = Tree().extended(data[:old]).root
        path = consistency_path(old, size, kept)
        check_consistency(old, size, path, old_root, root)
        for wrong in (path[:-1], [*path, bytes(32)], [*path[:-1], bytes(32)]):
            if wrong != path:
                with pytest.raises(InvalidProofError):
                    check_consistency(old, size, wrong, old_root, root)
        with pytest.raises(InvalidProofError):
            check_consistency(old, size, path, bytes(32), root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33, 100, BLOCK, BLOCK + 1, 3 * BLOCK + 77])
def test_a_known_library_has_our_roots_and_accepts_our_proofs(size: int) -> None:
    data = leaves(size)
    kept, root, theirs = nodes(data), Tree().extended(data).root, InmemoryTree(algorithm="sha256")
    for leaf in data:
        theirs.append_entry(leaf)
    assert theirs.get_root() == root
    for index in {0, size // 3, size // 2, size - 1}:
        ours = inclusion_path(index, size, kept)
        proof = theirs.prove_inclusion(index + 1)
        assert proof.path[1:] == ours
        proof.path[1:] = ours
        verify_inclusion(theirs.get_leaf(index + 1), root, proof, index + 1, size, "sha256")
        check_inclusion(data[index], index, size, proof.path[1:], root)
        # Their form of these proofs is another, but what they show is the same.
        old_root = Tree().extended(data[: index + 1]).root
        verify_consistency(old_root, root, theirs.prove_consistency(index + 1, size), index + 1, size, "sha256")
        check_consistency(index + 1, size, consistency_path(index + 1, size, kept), old_root, root)


@given(st.lists(st.integers(0, 2 * BLOCK), max_size=4), st.integers(0, 3 * BLOCK))
def test_a_tree_can_be_extended_in_any_pieces_and_begun_again_from_its_blocks(cuts: list[int], size: int) -> None:
    data = leaves(size)
    whole = Tree().extended(data)
    pieces, start = Tree(), 0
    for cut in [*sorted(cuts), size]:
        pieces = pieces.extended(data[start:cut])
        start = max(start, min(cut, size))
    assert pieces == whole
    assert len(whole.blocks) == size // BLOCK
    assert whole.first_block == 0

    again = Tree.of_blocks(whole.blocks).extended(data[len(whole.blocks) * BLOCK :])
    assert (again.size, again.peaks, again.blocks) == (whole.size, whole.peaks, ())
    assert again.first_block == size // BLOCK


def test_a_proof_in_a_large_tree_needs_the_leaves_of_few_blocks() -> None:
    size, old, index = 5 * BLOCK + 300, 2 * BLOCK + 17, 3 * BLOCK + 5
    data = leaves(size)
    whole = nodes(data)
    few = Nodes(whole.blocks, {number: whole.leaves[number] for number in (2, 3, 5)})
    root = Tree().extended(data).root
    check_inclusion(data[index], index, size, inclusion_path(index, size, few), root)
    check_consistency(old, size, consistency_path(old, size, few), Tree().extended(data[:old]).root, root)
