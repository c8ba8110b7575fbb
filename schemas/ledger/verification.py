"""Checking a chain row by row, in memory that does not grow with it."""

from collections.abc import Container, Iterable

from schemas.ledger.chain import NO_HASH, header_hash
from schemas.ledger.merkle import Tree
from schemas.ledger.notes import Checkpoint

_BATCH_ROWS = 4096


class BrokenChainError(ValueError):
    """A chain is not what was recorded.

    Attributes:
        offset: The first place where that shows.
    """

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset


class ChainVerifier:
    """Takes the rows of one chain in order.

    Attributes:
        rows: How many were taken, all of them sound, and those that the tree began with.
        erased: How many of these hold no content any more.
        head_offset: Of the last row taken; -1 before the first.
        signed: The newest checkpoint that they were found to be as signed in.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        checkpoints: Iterable[Checkpoint],
        erased: Container[int],
        tree: Tree | None = None,
    ) -> None:
        """Say what is known of the chain.

        Args:
            topic: Of the chain.
            partition: Of the chain.
            checkpoints: Of the chain, opened, the smaller before the larger.
            erased: The offsets whose content may be gone, because an erasure on record says so.
            tree: Over the rows before the first that will be taken; a checkpoint is to cover at least these.
        """
        self._topic, self._partition = topic, partition
        self._checkpoints = iter(checkpoints)
        self._next = next(self._checkpoints, None)
        self._may_be_erased = erased
        self._tree = tree or Tree()
        self._pending: list[bytes] = []
        self.head_offset, self._first_unsigned = -1, 0
        self._head_hash = None if tree else NO_HASH  # nobody knows what the tree's last row was
        self.rows, self.erased = self._tree.size, 0
        self.signed: Checkpoint | None = None

    def add(
        self,
        offset: int,
        timestamp_ms: int,
        digest: bytes,
        prev_hash: bytes,
        row_hash: bytes,
        payload_digest: bytes | None,
    ) -> None:
        """Take the next row.

        Args:
            offset: In the partition.
            timestamp_ms: That Kafka holds for the record.
            digest: As stored.
            prev_hash: As stored.
            row_hash: As stored.
            payload_digest: Recomputed from salt, key and payload; None where all three are blank.

        Raises:
            BrokenChainError: It is not what was recorded there.
        """
        if offset <= self.head_offset:
            raise BrokenChainError(offset, f"follows offset {self.head_offset}: rows are repeated or out of order")
        if prev_hash != self._head_hash and self._head_hash is not None:
            before = f"the row at offset {self.head_offset}" if self.rows else "the beginning"
            raise BrokenChainError(
                offset, f"does not follow {before}: a row between them is missing, or one of the two was put in"
            )
        if row_hash != header_hash(self._topic, self._partition, offset, timestamp_ms, digest, prev_hash):
            raise BrokenChainError(offset, "its offset, time, digest or hash was changed")
        if payload_digest is None:
            if offset not in self._may_be_erased:
                raise BrokenChainError(offset, "its content is gone, and no erasure on record says so")
            self.erased += 1
        elif payload_digest != digest:
            raise BrokenChainError(offset, "its key, payload or salt was changed")
        self.head_offset, self._head_hash = offset, row_hash
        self.rows += 1
        self._pending.append(row_hash)
        if len(self._pending) == _BATCH_ROWS:
            self._grow()
        while self._next is not None and self._next.size <= self.rows:
            self._compare(self._next)

    @property
    def head_hash(self) -> bytes:
        """The hash of the last row taken."""
        return self._head_hash or NO_HASH

    @property
    def tree(self) -> Tree:
        """The tree over all rows taken."""
        self._grow()
        return self._tree

    def finish(self) -> None:
        """Take note that there are no more rows.

        Raises:
            BrokenChainError: More were signed.
        """
        if self._next is not None:
            raise BrokenChainError(
                self.head_offset + 1,
                f"the rows end here: there are {self.rows:,}, and {self._next.size:,} were signed at "
                f"{self._next.signed_at:%Y-%m-%d %H:%M:%S} UTC",
            )

    def _grow(self) -> None:
        self._tree = self._tree.extended(self._pending)
        self._pending.clear()

    def _compare(self, checkpoint: Checkpoint) -> None:
        self._grow()
        if (self._tree.size, self._tree.root, self.head_offset) != (
            checkpoint.size,
            checkpoint.root,
            checkpoint.last_offset,
        ):
            raise BrokenChainError(
                self._first_unsigned,
                f"the {self.rows:,} rows up to offset {self.head_offset} are not those of the checkpoint of "
                f"{checkpoint.size:,} rows signed at {checkpoint.signed_at:%Y-%m-%d %H:%M:%S} UTC: from here on "
                "they were replaced, or the checkpoint is of another record",
            )
        self.signed, self._first_unsigned = checkpoint, self.head_offset + 1
        self._next = next(self._checkpoints, None)
