r"""The form of the record: what anyone needs to check it, and nothing that is Gyre's own.

Each partition of each topic is a chain of its own (`chain.py`):

    digest = SHA-256(salt, length of the key in decimal ASCII, ":", key, payload)
    header = "gyre.record.v1\n" topic "\n" partition "\n" offset "\n" timestamp in ms "\n" hex(digest) "\n"
             hex(hash of the row before, or 32 zero bytes) "\n"            (decimal numbers, lower-case hex, ASCII)
    hash   = SHA-256(header)

The payload is the record's value as Kafka held it, schema id included. The salt is random, so that a payload that has
been erased cannot be guessed from its digest: erasing key, payload and salt leaves the header, and the chain, whole.

The hashes of a chain's rows, in their order, are the leaves of a Merkle tree as RFC 6962 has it (`merkle.py`). Its root
is signed now and then, in the form of a transparency log's checkpoint (`notes.py`). Each checkpoint covers the whole
chain up to its last row, so the newest one vouches for all of it.
"""
