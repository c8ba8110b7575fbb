"""The Merkle tree of RFC 6962 (section 2.1) over the rows of a chain, which only grows.

Leaves are the rows' hashes. A tree is kept as its peaks, one for each complete subtree: no more than its size has
binary digits. Proofs need nodes further down. Of those the roots of complete blocks of `BLOCK` leaves are kept for
good, so that a proof needs the leaves of two or three blocks, however many there are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

_BLOCK_LEVEL = 10
BLOCK = 1 << _BLOCK_LEVEL


class InvalidProofError(ValueError):
    """A proof does not show what it should."""


@dataclass(frozen=True)
class Tree:
    """A tree of so many leaves.

    Attributes:
        size: How many leaves it has.
        peaks: The roots of its complete subtrees, the largest first.
        blocks: The roots of the blocks completed since somebody last took note of them.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()
    blocks: tuple[bytes, ...] = ()

    @classmethod
    def of_blocks(cls, blocks: Sequence[bytes]) -> "Tree":
        """Return the tree of complete blocks."""
        peaks: list[bytes] = []
        for position, block in enumerate(blocks):
            node, rest = block, position
            while rest & 1:
                node = _node_hash(peaks.pop(), node)
                rest >>= 1
            peaks.append(node)
        return cls(len(blocks) * BLOCK, tuple(peaks))

    @property
    def first_block(self) -> int:
        """The number of the first of `blocks`."""
        return self.size // BLOCK - len(self.blocks)

    def extended(self, leaves: Iterable[bytes]) -> "Tree":
        """Return the tree with more leaves."""
        nodes = [sha256(b"\x00" + leaf).digest() for leaf in leaves]
        size, rest, level = self.size + len(nodes), self.size, 0
        peaks, last, blocks = list(self.peaks), list[bytes](), list(self.blocks)
        # All nodes of a level, then those above them: faster than one leaf after the other.
        while nodes:
            if rest & 1:
                nodes.insert(0, peaks.pop())
            if len(nodes) & 1:
                last.append(nodes.pop())
            nodes = [
                sha256(b"\x01" + left + right).digest() for left, right in zip(nodes[::2], nodes[1::2], strict=True)
            ]
            rest, level = rest >> 1, level + 1
            if level == _BLOCK_LEVEL:
                blocks += nodes
        return Tree(size, (*peaks, *reversed(last)), tuple(blocks))

    @property
    def root(self) -> bytes:
        """The hash of the whole tree."""
        if not self.peaks:
            return sha256(b"").digest()
        *others, root = self.peaks
        for peak in reversed(others):
            root = _node_hash(peak, root)
        return root


@dataclass(frozen=True)
class Nodes:
    """What proofs are made from.

    Attributes:
        blocks: The roots of all complete blocks.
        leaves: The leaves of some blocks, by their number; the last block may be incomplete.
    """

    blocks: Sequence[bytes]
    leaves: Mapping[int, Sequence[bytes]]

    def root(self, start: int, end: int) -> bytes:
        """Return the root over the leaves from start to before end, one of the subtrees of RFC 6962.

        Raises:
            KeyError: It needs the leaves of a block that are not there.
        """
        block, within = divmod(start, BLOCK)
        if end - start == BLOCK and not within:
            return self.blocks[block]
        if end - start < BLOCK:
            return Tree().extended(self.leaves[block][within : within + end - start]).root
        middle = start + _split(end - start)
        return _node_hash(self.root(start, middle), self.root(middle, end))


def inclusion_path(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """Return the proof that a tree of so many leaves has the leaf at an index: RFC 6962, 2.1.1."""
    assert 0 <= index < size
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(nodes.root(middle, end))
            end = middle
        else:
            path.append(nodes.root(start, middle))
            start = middle
    return path[::-1]


def consistency_path(old: int, size: int, nodes: Nodes) -> list[bytes]:
    """Return the proof that a tree of so many leaves begins with one of `old` leaves: RFC 6962, 2.1.2."""
    assert 0 <= old <= size
    if old in (0, size):
        return []
    path, start, end, whole = [], 0, size, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            path.append(nodes.root(middle, end))
            end = middle
        else:
            path.append(nodes.root(start, middle))
            start, whole = middle, False
    if not whole:
        path.append(nodes.root(start, end))
    return path[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> None:
    """Check the proof that a tree has a leaf: RFC 9162, 2.1.3.2.

    Raises:
        InvalidProofError: It does not show that.
    """
    if not 0 <= index < size:
        raise InvalidProofError(f"leaf {index} is not in a tree of {size}")
    place, last = index, size - 1
    node = sha256(b"\x00" + leaf).digest()
    for beside in path:
        if not last:
            raise InvalidProofError("the path is too long")
        if place & 1 or place == last:
            node = _node_hash(beside, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = _node_hash(node, beside)
        place, last = place >> 1, last >> 1
    if last:
        raise InvalidProofError("the path is too short")
    if node != root:
        raise InvalidProofError("the path leads to another root")


def check_consistency(old: int, size: int, path: Sequence[bytes], old_root: bytes, root: bytes) -> None:
    """Check the proof that a tree begins with an older one: RFC 9162, 2.1.4.2.

    Raises:
        InvalidProofError: It does not show that.
    """
    if not 0 <= old <= size:
        raise InvalidProofError(f"a tree of {size} cannot begin with one of {old}")
    if old in (0, size):
        if path:
            raise InvalidProofError("the path is too long")
        if old_root != (root if old else Tree().root):
            raise InvalidProofError("the path leads to another root")
        return
    rest = list(path) if old & (old - 1) else [old_root, *path]
    if not rest:
        raise InvalidProofError("the path is too short")
    place, last = old - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    older = newer = rest[0]
    for beside in rest[1:]:
        if not last:
            raise InvalidProofError("the path is too long")
        if place & 1 or place == last:
            older, newer = _node_hash(beside, older), _node_hash(beside, newer)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            newer = _node_hash(newer, beside)
        place, last = place >> 1, last >> 1
    if last:
        raise InvalidProofError("the path is too short")
    if older != old_root or newer != root:
        raise InvalidProofError("the path leads to another root")


def _node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """Return the largest power of two smaller than a size."""
    return 1 << (size - 1).bit_length() - 1
