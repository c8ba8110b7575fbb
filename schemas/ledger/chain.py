"""The hash of a row, by which each row vouches for the one before it."""

from hashlib import sha256

SALT_BYTES = 16
HASH_BYTES = 32
# The `_prev_hash` of a chain's first row.
NO_HASH = bytes(HASH_BYTES)
# What is in a salt's place once it has been erased.
NO_SALT = bytes(SALT_BYTES)


def payload_digest(salt: bytes, key: bytes, payload: bytes) -> bytes:
    """Return the digest that stands for a record's key and value in the chain."""
    return sha256(b"%b%d:%b%b" % (salt, len(key), key, payload)).digest()


def header_hash(topic: str, partition: int, offset: int, timestamp_ms: int, digest: bytes, prev_hash: bytes) -> bytes:
    """Return the hash of a row from its header."""
    header = f"gyre.record.v1\n{topic}\n{partition}\n{offset}\n{timestamp_ms}\n{digest.hex()}\n{prev_hash.hex()}\n"
    return sha256(header.encode()).digest()
